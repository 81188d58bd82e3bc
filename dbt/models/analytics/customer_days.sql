{{ config(
    materialized='incremental', incremental_strategy='delete+insert', unique_key=['customer_id'], meta={'lakehouse': {'gone': 'day is null'}}
) }}

-- What each customer bought on each day, as far as it was known at the end of known_day: what the database learned of later has a row
-- of its own. An order, and a product, counts on the day that the first of its lines was known, so that all rows of a day add up to the day.
-- The customers who have a line that came or went since the last run are counted again, whole, also those who have lost it to another one.
with {% if is_incremental() %}
    changed as (
        {{ changed_keys(ref('stg_orders'), 'customer_id') }}
    ),
{% endif %}

lines as (
    select
        *,
        cast(ordered_at as date) as day,
        greatest(cast(ordered_at as date), cast(known_at as date)) as known_day
    from {{ ref('stg_orders') }}
    where
        customer_id is not null
        {% if is_incremental() %}
            and customer_id in (select changed.customer_id from changed)
        {% endif %}
),

placed as (
    select
        *,
        min(known_day) filter (where is_sale) over (partition by customer_id, day, order_id) as order_known_day,
        min(known_day) filter (where is_sale) over (partition by customer_id, day, product_id) as product_known_day
    from lines
),

counted as (
    select
        customer_id,
        day,
        known_day,
        count(distinct order_id) filter (where is_sale and known_day = order_known_day) as orders,
        count(*) filter (where is_sale) as lines,
        cast(coalesce(sum(quantity) filter (where is_sale), 0) as bigint) as units,
        count(distinct product_id) filter (where is_sale and known_day = product_known_day) as products,
        cast(coalesce(sum(line_total) filter (where is_sale), 0) as decimal(38, 4)) as sales,
        cast(coalesce(sum(-line_total) filter (where is_return), 0) as decimal(38, 4)) as returns,
        count(*) filter (where is_return) as returned_lines,
        cast(coalesce(max(line_total) filter (where is_sale), 0) as decimal(38, 4)) as largest_line,
        max(_batch) as _batch
    from placed
    group by customer_id, day, known_day
)

select * from counted
{{ or_gone('counted', 'customer_id') }}
