with customers as (
    select
        day,
        sum(sales) as sales,
        sum(returns) as returns
    from {{ ref('customer_days') }}
    group by day
)

select revenue.day
from {{ ref('revenue_by_day') }} as revenue
left join customers on revenue.day = customers.day
where
    revenue.sales - revenue.guest_sales <> coalesce(customers.sales, 0)
    or revenue.returns < coalesce(customers.returns, 0)
