{{ config(
    materialized='incremental', incremental_strategy='delete+insert', unique_key=['visit_group'],
    meta={'lakehouse': {'gone': 'visit_id is null'}}
) }}

-- Every visit, also those in which no page was looked at; web_sessions are those in which one was. A group of events that can only be
-- told apart together is made anew, whole, when an event of it came or went since the last run: so a late event finds its visit, joins
-- two or divides one, a corrected one leaves the visit that it was in, and the order of arrival leaves no trace.
with groups as (
    {% if is_incremental() %}
        {{ changed_keys(ref('stg_web_events'), 'visit_group') }}
    {% else %}
        select distinct visit_group from {{ ref('stg_web_events') }}
    {% endif %}
),

events as (
    select
        *,
        min(collector_tstamp) over (partition by visit_group) as group_received_at
    from {{ ref('stg_web_events') }}
    where not is_bot and not is_too_late and visit_group in (select groups.visit_group from groups)
),

spaced as (
    select
        *,
        lag(event_at) over (partition by visit_group order by event_at, event_id) as previous_at
    from events
    -- A tracker that never ends a visit: what comes after its longest time belongs to none.
    where domain_sessionid is null or collector_tstamp <= group_received_at + interval ({{ var('web_visit_days') }}) day
),

bounded as (
    select
        *,
        sum(case when domain_sessionid is null and event_at > previous_at + interval ({{ var('web_gap_minutes') }}) minute then 1 else 0 end)
            over (partition by visit_group order by event_at, event_id) as visit_number
    from spaced
),

placed as (
    select
        *,
        coalesce(domain_sessionid, md5(first_value(event_id) over by_time)) as visit_id,
        row_number() over (
            partition by visit_group, visit_number order by (page_view_id is null), event_at, dvce_created_tstamp, event_id
        ) as first_page_place,
        row_number() over (
            partition by visit_group, visit_number order by (page_view_id is null), event_at desc, dvce_created_tstamp desc, event_id
        ) as last_page_place
    from bounded
    window by_time as (partition by visit_group, visit_number order by event_at, event_id)
),

attention as (
    select
        visit_id,
        cast(sum(pings * {{ var('web_ping_s') }} - {{ var('web_ping_s') - var('web_least_visit_s') }}) as bigint) as engaged_time_in_s
    from (
        select
            visit_id,
            page_view_id,
            count(distinct floor(epoch(coalesce(dvce_created_tstamp, event_at)) / {{ var('web_ping_s') }})) as pings
        from placed
        where event_name = 'page_ping' and page_view_id is not null
        group by visit_id, page_view_id
    ) as pinged
    group by visit_id
),

names as (
    select
        visit_id,
        '{' || string_agg(to_json(event_name) || ' :' || events, ', ' order by event_name) || '}' as event_counts
    from (
        select
            visit_id,
            event_name,
            count(*) as events
        from placed
        group by visit_id, event_name
    ) as named
    group by visit_id
),

visits as (
    select
        visit_group,
        visit_id,
        min(case when event_name = 'page_ping' then event_at - interval ({{ var('web_least_visit_s') }}) second else event_at end)
            as start_tstamp,
        max(event_at) as end_tstamp,
        max(collector_tstamp) as known_at,
        count(distinct page_view_id) as page_views,
        count(*) as total_events,
        {% for step in funnel_steps() %}
            count(*) filter (where {{ takes_step(step) }}) as {{ step }}s,
        {% endfor %}
        sum(cast(order_total as decimal(18, 4))) filter (where {{ takes_step('purchase') }}) as order_value,
        any_value(event_id) filter (where first_page_place = 1) as event_id,
        any_value(domain_sessionid) filter (where first_page_place = 1) as original_domain_sessionid,
        max(struct_pack(collector_tstamp, event_at, user_id)) filter (where user_id is not null) as last_user,
        {% for column in first_page_columns() %}
            any_value({{ column }}) filter (where first_page_place = 1) as {{ column }},
        {% endfor %}
        {% for column in last_page_columns() %}
            any_value({{ column }}) filter (where last_page_place = 1) as last_{{ column }},
        {% endfor %}
        max(_batch) as _batch
    from placed
    group by visit_group, visit_id
)

select
    groups.visit_group,
    visits.* exclude (visit_group, last_user, _batch),
    visits.last_user.user_id as last_user_id,
    visits.last_user.collector_tstamp as last_user_at,
    coalesce(attention.engaged_time_in_s, 0) as engaged_time_in_s,
    names.event_counts,
    visits._batch
from groups
-- A group whose events have all gone has no visit: its row only says so.
left join visits on groups.visit_group = visits.visit_group
left join attention on visits.visit_id = attention.visit_id
left join names on visits.visit_id = names.visit_id
{% if not is_incremental() %}
    where visits.visit_id is not null
{% endif %}
