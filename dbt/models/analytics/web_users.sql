{{ config(
    materialized='incremental', incremental_strategy='delete+insert', unique_key=['domain_userid'],
    meta={'lakehouse': {'gone': 'sessions is null'}}
) }}

-- One row per browser, made anew when a session of it came, went or changed since the last run. Of sessions that begin or end at one
-- instant the larger id decides, so that the choice is always the same.
with {% if is_incremental() %}
    changed as (
        {{ changed_keys(ref('web_sessions'), 'domain_userid') }}
    ),
{% endif %}

placed as (
    select
        *,
        row_number() over (partition by domain_userid order by start_tstamp, domain_sessionid desc) as first_place,
        row_number() over (partition by domain_userid order by end_tstamp desc, domain_sessionid desc) as last_place
    from {{ ref('web_sessions') }}
    where
        domain_userid is not null
        {% if is_incremental() %}
            and domain_userid in (select changed.domain_userid from changed)
        {% endif %}
),

{% set first = ['user_id', 'original_domain_userid', 'network_userid', 'first_page_title', 'first_page_url', 'first_page_urlscheme',
    'first_page_urlhost', 'first_page_urlpath', 'first_page_urlquery', 'first_page_urlfragment', 'referrer', 'refr_urlscheme', 'refr_urlhost',
    'refr_urlpath', 'refr_urlquery', 'refr_urlfragment', 'refr_medium', 'refr_source', 'refr_term', 'mkt_medium', 'mkt_source', 'mkt_term',
    'mkt_content', 'mkt_campaign', 'mkt_clickid', 'mkt_network', 'mkt_source_platform'] %}
{% set last = ['last_geo_country', 'last_geo_city', 'last_geo_region_name', 'last_br_lang', 'last_page_title', 'last_page_url',
    'last_page_urlscheme', 'last_page_urlhost', 'last_page_urlpath', 'last_page_urlquery', 'last_page_urlfragment'] %}
users as (
    select
        domain_userid,
        {% for column in first %}
            any_value({{ column }}) filter (where first_place = 1) as {{ column }},
        {% endfor %}
        {% for column in ['geo_country', 'geo_city', 'geo_region_name', 'br_lang'] %}
            any_value({{ column }}) filter (where first_place = 1) as first_{{ column }},
        {% endfor %}
        {% for column in last %}
            any_value({{ column }}) filter (where last_place = 1) as {{ column }},
        {% endfor %}
        any_value(event_id) filter (where first_place = 1) as first_event_id,
        any_value(event_id) filter (where last_place = 1) as last_event_id,
        min(start_tstamp) as start_tstamp,
        max(end_tstamp) as end_tstamp,
        cast(sum(page_views) as bigint) as page_views,
        count(*) as sessions,
        cast(sum(engaged_time_in_s) as bigint) as engaged_time_in_s
    from placed
    group by domain_userid
)

select * from users
{{ or_gone('users', 'domain_userid') }}
