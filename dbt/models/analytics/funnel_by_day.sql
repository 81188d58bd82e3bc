-- How far the day's visits got. A visit has taken a step if it has an event of it or of a later one: a tracker may miss one.
with visits as (
    select
        cast(start_tstamp as date) as day,
        purchases > 0 as purchased,
        purchases > 0 or checkouts > 0 as checked_out,
        purchases > 0 or checkouts > 0 or carts > 0 as filled_a_cart,
        purchases > 0 or checkouts > 0 or carts > 0 or product_views > 0 as saw_a_product,
        order_value
    from {{ ref('web_sessions') }}
)

select
    day,
    count(*) as visits,
    count(*) filter (where saw_a_product) as saw_a_product,
    count(*) filter (where filled_a_cart) as filled_a_cart,
    count(*) filter (where checked_out) as checked_out,
    count(*) filter (where purchased) as purchased,
    {{ ratio('count(*) filter (where saw_a_product)', 'count(*)') }} as product_rate,
    {{ ratio('count(*) filter (where filled_a_cart)', 'count(*) filter (where saw_a_product)') }} as cart_rate,
    {{ ratio('count(*) filter (where checked_out)', 'count(*) filter (where filled_a_cart)') }} as checkout_rate,
    {{ ratio('count(*) filter (where purchased)', 'count(*) filter (where checked_out)') }} as purchase_rate,
    {{ ratio('count(*) filter (where purchased)', 'count(*)') }} as conversion_rate,
    cast(coalesce(sum(order_value), 0) as decimal(38, 4)) as order_value
from visits
group by day
