-- What happened next: every customer at the beginning of every week, from the first order on until half a year after the last, with what
-- the two models predict. What a week looks ahead to may lie beyond the newest day that is known: then nobody can say yet.
with sales as (
    select distinct
        customer_id,
        day
    from {{ ref('customer_days') }}
    where orders > 0
),

clock as (
    select max(known_day) + 1 as today from {{ ref('customer_days') }}
),

weeks as (
    select
        spans.customer_id,
        unnest(generate_series(spans.first_week, least(spans.last_day + 182, clock.today), interval 7 day)) as snapshot_at
    from (
        select
            customer_id,
            cast({{ dbt.date_trunc('week', 'min(day)') }} as date) + 7 as first_week,
            max(day) as last_day
        from sales
        group by customer_id
    ) as spans
    cross join clock
),

looked_at as (
    select
        weeks.customer_id,
        cast(weeks.snapshot_at as timestamp) as snapshot_at,
        count(*) filter (where sales.day >= weeks.snapshot_at and sales.day < weeks.snapshot_at + interval 7 day) > 0 as purchased,
        count(*) filter (where sales.day >= weeks.snapshot_at and sales.day < weeks.snapshot_at + interval 60 day) > 0 as stayed,
        count(*) filter (where sales.day < weeks.snapshot_at and sales.day >= weeks.snapshot_at - interval 60 day) > 0 as is_active
    from weeks
    inner join sales on weeks.customer_id = sales.customer_id
    group by weeks.customer_id, weeks.snapshot_at
)

select
    looked_at.customer_id,
    looked_at.snapshot_at,
    looked_at.is_active,
    case when clock.today >= looked_at.snapshot_at + interval 7 day then looked_at.purchased end as purchased_next_7_days,
    case when clock.today >= looked_at.snapshot_at + interval 60 day and looked_at.is_active then not looked_at.stayed end
        as churned_next_60_days
from looked_at
cross join clock
