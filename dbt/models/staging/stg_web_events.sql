{{ config(alias='web_events', materialized='incremental', unique_key=['event_id']) }}

-- An event that was sent twice is one event: the copy that was received first, whichever arrives here first. Of copies that were
-- received at once their own values decide, so that the result does not depend on the order of arrival.
with arrived as (
    {{ stage_dataset('web_events') }}
),

judged as (
    select
        *,
        {{ event_time() }} as event_at,
        {{ is_bot() }} as is_bot,
        {{ is_too_late() }} as is_too_late,
        {{ page_view_key() }} as page_view_id,
        {{ visit_group() }} as visit_group
    from arrived
),

competing as (
    select
        *,
        false as is_kept
    from judged
    {% if is_incremental() %}
        union all by name
        select
            *,
            true as is_kept
        from {{ this }} as kept
        where kept.event_id in (select fresh.event_id from judged as fresh)
    {% endif %}
),

counted as (
    select
        *,
        count(*) over (partition by event_id) as copies
    from competing
),

ranked as (
    select
        *,
        row_number() over (
            partition by event_id
            order by
                collector_tstamp, event_at, dvce_sent_tstamp, visit_group,
                -- Only copies need all of their values compared.
                case when copies > 1 then {{ web_event_text() }} end,
                is_kept desc, _batch, _sha256, _row
        ) as place
    from counted
)

select * exclude (is_kept, copies, place)
from ranked
where place = 1
