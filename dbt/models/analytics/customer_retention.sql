-- Customers by the month of their first order, and how many of them ordered again so many months later.
with months as (
    select
        customer_id,
        cast({{ dbt.date_trunc('month', 'day') }} as date) as month,
        cast(sum(sales) as decimal(38, 4)) as sales
    from {{ ref('customer_days') }}
    where orders > 0
    group by customer_id, month
),

cohorts as (
    select
        *,
        min(month) over (partition by customer_id) as cohort_month
    from months
),

sizes as (
    select
        cohort_month,
        count(distinct customer_id) as cohort_customers
    from cohorts
    group by cohort_month
)

select
    cohorts.cohort_month,
    {{ dbt.datediff('cohorts.cohort_month', 'cohorts.month', 'month') }} as months_later,
    sizes.cohort_customers,
    count(*) as active_customers,
    {{ ratio('count(*)', 'sizes.cohort_customers') }} as retention_rate,
    cast(sum(cohorts.sales) as decimal(38, 4)) as sales
from cohorts
inner join sizes on cohorts.cohort_month = sizes.cohort_month
group by cohorts.cohort_month, months_later, sizes.cohort_customers
