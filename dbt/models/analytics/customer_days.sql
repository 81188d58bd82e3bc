{{ config(materialized='incremental', unique_key=['customer_id', 'day', 'known_day']) }}

-- What each customer bought on each day, as far as it was known at the end of known_day: what the database learned of later has a row
-- of its own. A customer's day that got new lines is counted again, whole; the others are not read.
with lines as (
    select
        *,
        cast(ordered_at as date) as day,
        greatest(cast(ordered_at as date), cast(known_at as date)) as known_day
    from {{ ref('stg_orders') }}
    where customer_id is not null
),

counted as (
    select *
    from lines
    {% if is_incremental() %}
        where (customer_id, day) in (
            select (fresh.customer_id, fresh.day)
            from lines as fresh
            where fresh._batch > (select coalesce(max(built._batch), -1) from {{ this }} as built)
        )
    {% endif %}
)

select
    customer_id,
    day,
    known_day,
    count(distinct order_id) filter (where is_sale) as orders,
    count(*) filter (where is_sale) as lines,
    cast(coalesce(sum(quantity) filter (where is_sale), 0) as bigint) as units,
    count(distinct product_id) filter (where is_sale) as products,
    cast(coalesce(sum(line_total) filter (where is_sale), 0) as decimal(38, 4)) as sales,
    cast(coalesce(sum(-line_total) filter (where is_return), 0) as decimal(38, 4)) as returns,
    count(*) filter (where is_return) as returned_lines,
    cast(coalesce(max(line_total) filter (where is_sale), 0) as decimal(38, 4)) as largest_line,
    max(_batch) as _batch
from counted
group by customer_id, day, known_day
