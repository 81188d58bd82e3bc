{{ config(materialized='incremental', unique_key=['day']) }}

-- A day that got new lines is counted again, whole; the others are not read.
with lines as (
    select
        *,
        cast(ordered_at as date) as day
    from {{ ref('stg_orders') }}
),

counted as (
    select *
    from lines
    {% if is_incremental() %}
        where day in (
            select fresh.day
            from lines as fresh
            where fresh._batch > (select coalesce(max(built._batch), -1) from {{ this }} as built)
        )
    {% endif %}
)

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
from counted
group by day
