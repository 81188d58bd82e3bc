{{ config(alias='orders', materialized='incremental', unique_key=['order_id', 'product_id', 'quantity', 'unit_price']) }}

-- Spreadsheets and data frames write the number 17850 as 17850.0 where some are empty.
{% set cleaned = {'customer_id': "regexp_replace(" ~ clean_text('customer_id') ~ ", '^([0-9]+)\\.0+$', '\\1')"} %}
with staged as (
    {{ stage_dataset('orders', newest=['coalesce(updated_at, ordered_at)'], cleaned=cleaned) }}
),

-- A line that is touched in the database has another updated_at, but what it says was known before. So it counts as known from the first
-- of its states on that say the same of customer and time, without another one in between.
states as (
    select
        staged.order_id,
        staged.product_id,
        staged.quantity,
        staged.unit_price,
        coalesce(stated.updated_at, stated.ordered_at) as stated_at,
        stated.ordered_at is not distinct from staged.ordered_at
        and {{ cleaned.customer_id | replace('customer_id', 'stated.customer_id') }} is not distinct from staged.customer_id as is_same
    from {{ source('raw', 'orders') }} as stated
    inner join staged
        on
            {{ clean_text('stated.order_id') }} = staged.order_id
            and {{ clean_text('stated.product_id') }} = staged.product_id
            and stated.quantity = staged.quantity
            and stated.unit_price = staged.unit_price
),

changed as (
    select
        *,
        max(stated_at) filter (where not is_same) over (partition by order_id, product_id, quantity, unit_price) as changed_at
    from states
),

known as (
    select
        order_id,
        product_id,
        quantity,
        unit_price,
        min(stated_at) filter (where is_same and (changed_at is null or stated_at > changed_at)) as known_at
    from changed
    group by order_id, product_id, quantity, unit_price
)

select
    staged.*,
    coalesce(known.known_at, staged.updated_at, staged.ordered_at) as known_at,
    cast(staged.quantity * staged.unit_price as decimal(38, 4)) as line_total,
    starts_with(staged.order_id, 'C') or staged.quantity < 0 as is_return,
    not starts_with(staged.order_id, 'C') and staged.quantity > 0 and staged.unit_price > 0 as is_sale
from staged
left join known using (order_id, product_id, quantity, unit_price)
