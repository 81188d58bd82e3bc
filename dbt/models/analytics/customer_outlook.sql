{{ config(
    materialized='incremental', incremental_strategy='delete+insert', unique_key=['customer_id', 'snapshot_at'],
    meta={'lakehouse': {'gone': 'is_active is null'}}
) }}

-- What happened next: every customer at the beginning of every week, from the first order on until half a year after the last, with what
-- the two models predict. What a week looks ahead to may lie beyond the newest day that is known: then nobody can say yet. A run looks
-- at the weeks of those customers whose days have changed, and of the others at those that are new or can be told only now.
with sales as (
    select distinct
        customer_id,
        day
    from {{ ref('customer_days') }}
    where orders > 0
),

clock as (
    select cast(max(known_day) + 1 as timestamp) as today from {{ ref('customer_days') }}
),

spans as (
    select
        customer_id,
        cast({{ dbt.date_trunc('week', 'min(day)') }} as date) + 7 as first_week,
        max(day) + 182 as last_week
    from sales
    group by customer_id
),

every_week as (
    select
        spans.customer_id,
        unnest(generate_series(cast(spans.first_week as timestamp), least(cast(spans.last_week as timestamp), clock.today), interval 7 day))
            as snapshot_at
    from spans
    cross join clock
),

{% if is_incremental() %}
    changed as (
        {{ changed_keys(ref('customer_days'), 'customer_id') }}
    ),
{% endif %}

weeks as (
    select every_week.*
    from every_week
    {% if is_incremental() %}
        cross join clock
        left join {{ this }} as built on every_week.customer_id = built.customer_id and every_week.snapshot_at = built.snapshot_at
        where
            built.customer_id is null
            or (built.purchased_next_7_days is not null) <> (clock.today >= built.snapshot_at + interval 7 day)
            or (built.churned_next_60_days is not null) <> (built.is_active and clock.today >= built.snapshot_at + interval 60 day)
            or every_week.customer_id in (select changed.customer_id from changed)
    {% endif %}
),

looked_at as (
    select
        weeks.customer_id,
        weeks.snapshot_at,
        count(*) filter (where sales.day >= weeks.snapshot_at and sales.day < weeks.snapshot_at + interval 7 day) > 0 as purchased,
        count(*) filter (where sales.day >= weeks.snapshot_at and sales.day < weeks.snapshot_at + interval 60 day) > 0 as stayed,
        count(*) filter (where sales.day < weeks.snapshot_at and sales.day >= weeks.snapshot_at - interval 60 day) > 0 as is_active
    from weeks
    inner join sales on weeks.customer_id = sales.customer_id
    group by weeks.customer_id, weeks.snapshot_at
),

told as (
    select
        looked_at.customer_id,
        looked_at.snapshot_at,
        looked_at.is_active,
        case when clock.today >= looked_at.snapshot_at + interval 7 day then looked_at.purchased end as purchased_next_7_days,
        case when clock.today >= looked_at.snapshot_at + interval 60 day and looked_at.is_active then not looked_at.stayed end
            as churned_next_60_days
    from looked_at
    cross join clock
)

select told.*
from told
{% if is_incremental() %}
    left join {{ this }} as built on told.customer_id = built.customer_id and told.snapshot_at = built.snapshot_at
    where
        built.is_active is distinct from told.is_active
        or built.purchased_next_7_days is distinct from told.purchased_next_7_days
        or built.churned_next_60_days is distinct from told.churned_next_60_days
    -- A week that is none any more loses its row.
    union all by name
    select
        built.customer_id,
        built.snapshot_at
    from {{ this }} as built
    left join every_week on built.customer_id = every_week.customer_id and built.snapshot_at = every_week.snapshot_at
    where every_week.customer_id is null
{% endif %}
