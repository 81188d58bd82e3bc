-- Recency, frequency and monetary value of every customer at the newest day that is known, each as a fifth of the customers: 5 is best.
with customers as (
    select
        customer_id,
        (select max(known_day) + 1 from {{ ref('customer_days') }}) as as_of,
        max(day) filter (where orders > 0) as last_order_day,
        cast(sum(orders) as bigint) as frequency,
        cast(sum(sales) - sum(returns) as decimal(38, 4)) as monetary
    from {{ ref('customer_days') }}
    group by customer_id
    having sum(orders) > 0
),

scored as (
    select
        *,
        {{ dbt.datediff('last_order_day', 'as_of', 'day') }} as recency_days,
        -- Customers who are equal in the value are told apart by their key, so that the fifths are the same on every run.
        ntile(5) over (order by last_order_day, frequency, customer_id) as recency_score,
        ntile(5) over (order by frequency, monetary, customer_id) as frequency_score,
        ntile(5) over (order by monetary, frequency, customer_id) as monetary_score
    from customers
)

select
    customer_id,
    as_of,
    last_order_day,
    recency_days,
    frequency,
    monetary,
    recency_score,
    frequency_score,
    monetary_score,
    case
        when recency_score >= 4 and frequency_score >= 4 then 'champion'
        when recency_score >= 3 and frequency_score >= 3 then 'loyal'
        when recency_score >= 4 then 'new'
        when recency_score <= 2 and frequency_score >= 4 then 'at risk'
        when recency_score <= 2 then 'lost'
        else 'occasional'
    end as segment
from scored
