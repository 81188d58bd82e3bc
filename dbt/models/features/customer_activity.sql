{{ config(
    materialized='incremental', incremental_strategy='delete+insert', unique_key=['customer_id'],
    meta={'lakehouse': {'gone': 'as_of is null'}}
) }}

with {{ feature_moments(ref('customer_days'), ref('customer_days')) }},

placed as (
    -- A day has several rows where a part of it was known late.
    select
        *,
        min(days_ago) filter (where orders > 0) over (partition by customer_id, as_of, known_on) as last_ordered
    from known_days
),

computed as (
    select
        customer_id,
        cast(as_of as timestamp) as as_of,
        cast(known_on as timestamp) as known_at,

        {% for days in [1, 7, 30] %}
            cast({{ in_window('orders', days) }} as bigint) as orders_{{ days }}d,
            cast({{ in_window('units', days) }} as bigint) as units_{{ days }}d,
            cast({{ in_window('sales', days) }} as double) as sales_{{ days }}d,
            cast({{ in_window('returns', days) }} as double) as returns_{{ days }}d,
            cast({{ in_window('orders', days, before=days) }} as bigint) as orders_{{ days }}d_before,
            cast({{ in_window('sales', days, before=days) }} as double) as sales_{{ days }}d_before,
            cast({{ in_window('sales', days) }} - {{ in_window('sales', days, before=days) }} as double) as sales_{{ days }}d_change,
        {% endfor %}

        max(day) filter (where orders > 0) as last_order_day,
        {{ within_days('min(days_ago) filter (where orders > 0)') }} as last_order_within_days,
        cast(sum(orders) as bigint) as frequency,
        cast(sum(sales) - sum(returns) as double) as monetary,
        {{ ratio('sum(sales)', 'sum(orders)') }} as order_value_mean,
        cast(sum(sales) filter (where days_ago = last_ordered) as double) as last_order_day_sales,
        min(day) filter (where orders > 0) as first_order_day,
        count(distinct day) filter (where orders > 0) as active_days,
        {{ ratio(
            'max(days_ago) filter (where orders > 0) - min(days_ago) filter (where orders > 0)',
            'count(distinct day) filter (where orders > 0) - 1'
        ) }} as days_between_orders,
        {{ ratio('sum(returns)', 'sum(sales)') }} as return_share
    from placed
    group by customer_id, as_of, known_on
)

{{ changed_customers('computed') }}
