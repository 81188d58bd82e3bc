{{ config(alias='orders', materialized='incremental', unique_key=['order_id', 'product_id', 'quantity', 'unit_price']) }}

-- Spreadsheets and data frames write the number 17850 as 17850.0 where some are empty.
{% set cleaned = {'customer_id': "regexp_replace(" ~ clean_text('customer_id') ~ ", '^([0-9]+)\\.0+$', '\\1')"} %}
with staged as (
    {{ stage_dataset('orders', newest=['coalesce(updated_at, ordered_at)'], cleaned=cleaned) }}
)

select
    *,
    coalesce(updated_at, ordered_at) as known_at,
    cast(quantity * unit_price as decimal(38, 4)) as line_total,
    starts_with(order_id, 'C') or quantity < 0 as is_return,
    not starts_with(order_id, 'C') and quantity > 0 and unit_price > 0 as is_sale
from staged
