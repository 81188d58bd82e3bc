-- What was paid of each order, beside what it came to: an order without a payment and a payment without an order are both here.
with orders as (
    select
        order_id,
        min(ordered_at) as ordered_at,
        max(customer_id) as customer_id,
        cast(sum(line_total) as decimal(38, 4)) as order_total
    from {{ ref('stg_orders') }}
    group by order_id
),

payments as (
    select
        order_id,
        cast(coalesce(sum(amount) filter (where status in ('settled', 'refunded')), 0) as decimal(38, 4)) as paid,
        count(*) filter (where status = 'failed') as failed_payments,
        min(paid_at) filter (where status = 'settled') as first_paid_at
    from {{ ref('stg_payments') }}
    group by order_id
)

select
    coalesce(orders.order_id, payments.order_id) as order_id,
    orders.ordered_at,
    orders.customer_id,
    orders.order_total,
    payments.paid,
    payments.failed_payments,
    payments.first_paid_at,
    case
        when orders.order_id is null then 'no order'
        when payments.order_id is null then 'no payment'
        when abs(orders.order_total - payments.paid) < 0.01 then 'paid'
        when payments.paid > orders.order_total then 'overpaid'
        else 'open'
    end as state
from orders
full join payments on orders.order_id = payments.order_id
