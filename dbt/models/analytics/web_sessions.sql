{{ config(
    materialized='incremental', incremental_strategy='delete+insert', unique_key=['domain_sessionid'],
    meta={'lakehouse': {'gone': 'event_id is null'}}
) }}

-- The visits in which a page was looked at, in the words of Snowplow's web model. A visit that came, went or changed since the last run is
-- told anew, and so are the others of its browser, of which it may say who made them; those that differ are written.
with {% if is_incremental() %}
    changed as (
        {{ changed_keys(ref('web_visits'), 'visit_id', name='domain_sessionid') }}
    ),

    changed_browsers as (
        {{ changed_keys(ref('web_visits'), 'domain_userid') }}
    ),
{% endif %}

stitched as (
    select
        *,
        -- The customer who was seen last in this browser, for the visits before the log-in, too.
        case
            when domain_userid is not null
                then first_value(last_user_id) over (partition by domain_userid order by last_user_at desc nulls last, last_user_id desc)
        end as stitched_user_id
    from {{ ref('web_visits') }}
    {% if is_incremental() %}
        where
            visit_id in (select changed.domain_sessionid from changed)
            or domain_userid in (select changed_browsers.domain_userid from changed_browsers)
    {% endif %}
),

sessions as (
    select
        app_id,
        platform,
        visit_id as domain_sessionid,
        original_domain_sessionid,
        domain_sessionidx,
        start_tstamp,
        end_tstamp,
        known_at,
        user_id,
        domain_userid,
        domain_userid as original_domain_userid,
        stitched_user_id,
        network_userid,
        page_views,
        engaged_time_in_s,
        event_counts,
        total_events,
        {{ dbt.datediff('start_tstamp', 'end_tstamp', 'second') }} as absolute_time_in_s,
        page_views >= 2 or engaged_time_in_s >= {{ 2 * var('web_ping_s') }} or purchases > 0 as was_engaged,
        product_views,
        carts,
        checkouts,
        purchases,
        order_value,
        page_title as first_page_title,
        page_url as first_page_url,
        page_urlscheme as first_page_urlscheme,
        page_urlhost as first_page_urlhost,
        page_urlpath as first_page_urlpath,
        page_urlquery as first_page_urlquery,
        page_urlfragment as first_page_urlfragment,
        last_page_title,
        last_page_url,
        last_page_urlscheme,
        last_page_urlhost,
        last_page_urlpath,
        last_page_urlquery,
        last_page_urlfragment,
        page_referrer as referrer,
        refr_urlscheme,
        refr_urlhost,
        refr_urlpath,
        refr_urlquery,
        refr_urlfragment,
        refr_medium,
        refr_source,
        refr_term,
        mkt_medium,
        mkt_source,
        mkt_term,
        mkt_content,
        mkt_campaign,
        mkt_clickid,
        mkt_network,
        nullif(regexp_extract(page_urlquery, '(?:^|&)utm_source_platform=([^&#]*)', 1), '') as mkt_source_platform,
        geo_country,
        geo_region,
        geo_region_name,
        geo_city,
        geo_zipcode,
        geo_latitude,
        geo_longitude,
        geo_timezone,
        last_geo_country,
        last_geo_region_name,
        last_geo_city,
        useragent,
        br_renderengine,
        br_lang,
        last_br_lang,
        os_timezone,
        cast(dvce_screenwidth as varchar) || 'x' || cast(dvce_screenheight as varchar) as screen_resolution,
        {{ context_value('bot_check', 'category') }} as category,
        {{ context_value('bot_check', 'primaryImpact') }} as primary_impact,
        {{ context_value('bot_check', 'reason') }} as reason,
        try_cast({{ context_value('bot_check', 'spiderOrRobot') }} as boolean) as spider_or_robot,
        {{ context_value('user_agent_parts', 'useragentFamily') }} as useragent_family,
        {{ context_value('user_agent_parts', 'useragentVersion') }} as useragent_version,
        {{ context_value('user_agent_parts', 'osFamily') }} as os_family,
        {{ context_value('user_agent_parts', 'osVersion') }} as os_version,
        {{ context_value('user_agent_parts', 'deviceFamily') }} as device_family,
        {{ context_value('device_parts', 'deviceClass') }} as device_class,
        {{ context_value('device_parts', 'agentClass') }} as agent_class,
        {{ context_value('device_parts', 'agentName') }} as agent_name,
        {{ context_value('device_parts', 'deviceBrand') }} as device_brand,
        {{ context_value('device_parts', 'deviceName') }} as device_name,
        {{ context_value('device_parts', 'operatingSystemName') }} as operating_system_name,
        event_id
    from stitched
    where page_views > 0
)

select sessions.*
from sessions
{% if is_incremental() %}
    left join {{ this }} as built on sessions.domain_sessionid = built.domain_sessionid
    where hash(sessions) <> hash(built)
    -- What is no session any more loses its row.
    union all by name
    select built.domain_sessionid
    from {{ this }} as built
    where
        built.domain_sessionid in (select changed.domain_sessionid from changed)
        and built.domain_sessionid not in (select sessions.domain_sessionid from sessions)
{% endif %}
