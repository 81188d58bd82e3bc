{{ config(
    materialized='incremental', incremental_strategy='delete+insert', unique_key=['day'], meta={'lakehouse': {'gone': 'orders is null'}}
) }}

-- A day of which a line came or went since the last run is counted again, whole, also one that has lost its line to another day; the
-- others are not.
with lines as (
    select
        *,
        cast(ordered_at as date) as day
    from {{ ref('stg_orders') }}
),

{% if is_incremental() %}
    changed as (
        {{ changed_keys(ref('stg_orders'), 'cast(ordered_at as date)', name='day') }}
    ),
{% endif %}

counted as (
    select
        day,
        count(distinct order_id) filter (where is_sale) as orders,
        count(distinct customer_id) filter (where is_sale) as customers,
        cast(coalesce(sum(quantity) filter (where is_sale), 0) as bigint) as units,
        cast(coalesce(sum(line_total) filter (where is_sale), 0) as decimal(38, 4)) as sales,
        cast(coalesce(sum(-line_total) filter (where is_return), 0) as decimal(38, 4)) as returns,
        cast(coalesce(sum(line_total) filter (where is_sale or is_return), 0) as decimal(38, 4)) as revenue,
        cast(coalesce(sum(line_total) filter (where is_sale and customer_id is null), 0) as decimal(38, 4)) as guest_sales,
        {{ ratio('sum(line_total) filter (where is_sale)', 'count(distinct order_id) filter (where is_sale)') }} as order_value,
        max(_batch) as _batch
    from lines
    {% if is_incremental() %}
        where day in (select changed.day from changed)
    {% endif %}
    group by day
)

select * from counted
{{ or_gone('counted', 'day') }}
