{{ config(
    materialized='incremental', incremental_strategy='delete+insert', unique_key=['customer_id'],
    meta={'lakehouse': {'gone': 'as_of is null'}}
) }}

with {{ feature_moments(ref('customer_days'), ref('customer_days'), offsets=[1, 31]) }},

placed as (
    -- A day has several rows where a part of it was known late.
    select
        *,
        sum(sales) over (partition by customer_id, as_of, known_on, day) as day_sales
    from known_days
),

computed as (
    select
        customer_id,
        cast(as_of as timestamp) as as_of,
        cast(known_on as timestamp) as known_at,
        {{ ratio(in_window('lines', 30), in_window('orders', 30)) }} as lines_per_order_30d,
        {{ ratio(in_window('units', 30), in_window('orders', 30)) }} as units_per_order_30d,
        {{ ratio(in_window('sales', 30), in_window('units', 30)) }} as price_per_unit_30d,
        {{ ratio('sum(lines)', 'sum(orders)') }} as lines_per_order,
        {{ ratio('sum(units)', 'sum(orders)') }} as units_per_order,
        {{ ratio('sum(products)', 'count(distinct day) filter (where orders > 0)') }} as products_per_day,
        {{ ratio('sum(sales)', 'sum(units)') }} as price_per_unit,
        cast(max(largest_line) as double) as largest_line,
        cast(max(day_sales) as double) as largest_day,
        {{ ratio('sum(returned_lines)', 'sum(lines)') }} as returned_lines_share
    from placed
    group by customer_id, as_of, known_on
)

{{ changed_customers('computed') }}
