{{ config(
    materialized='incremental', incremental_strategy='delete+insert', unique_key=['customer_id'],
    meta={'lakehouse': {'gone': 'as_of is null'}}
) }}

-- Visits count for the customer who was logged in during them: who was found out later is not known at the time.
with days as (
    select
        last_user_id as customer_id,
        cast(start_tstamp as date) as day,
        greatest(cast(start_tstamp as date), cast(known_at as date)) as known_day,
        count(*) as visits,
        cast(sum(page_views) as bigint) as page_views,
        cast(sum(engaged_time_in_s) as bigint) as engaged_s,
        cast(sum(product_views) as bigint) as product_views,
        cast(sum(carts) as bigint) as carts,
        cast(sum(checkouts) as bigint) as checkouts,
        cast(sum(purchases) as bigint) as purchases
    from {{ ref('web_visits') }}
    where last_user_id is not null and page_views > 0
    group by customer_id, day, known_day
),

{{ feature_moments('days', ref('web_visits'), customer='last_user_id') }},

computed as (
    select
        customer_id,
        cast(as_of as timestamp) as as_of,
        cast(known_on as timestamp) as known_at,
        {% for days in [1, 7, 30] %}
            {% for measure in ['visits', 'page_views', 'engaged_s', 'product_views', 'carts', 'checkouts', 'purchases'] %}
                cast({{ in_window(measure, days) }} as bigint) as {{ measure }}_{{ days }}d,
            {% endfor %}
            cast({{ in_window('visits', days, before=days) }} as bigint) as visits_{{ days }}d_before,
        {% endfor %}
        max(day) as last_visit_day,
        {{ within_days('min(days_ago)') }} as last_visit_within_days,
        cast(sum(visits) as bigint) as visits,
        {{ ratio('sum(carts)', 'sum(product_views)') }} as cart_share,
        {{ ratio('sum(purchases)', 'sum(carts)') }} as purchase_share
    from known_days
    group by customer_id, as_of, known_on
)

{{ changed_customers('computed') }}
