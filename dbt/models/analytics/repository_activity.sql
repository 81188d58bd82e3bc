{{ config(materialized='incremental', unique_key=['repository', 'activity_week']) }}

with commits as (
    select
        *,
        cast({{ dbt.date_trunc('week', "(committed_at at time zone 'UTC')") }} as date) as activity_week,
        {{ ratio(dbt.datediff('authored_at', 'committed_at', 'second'), 3600) }}
            as lead_time_hours
    from {{ ref('stg_commits') }}
    where repository <> ''
),

counted as (
    select *
    from commits
    {% if is_incremental() %}
        where (repository, activity_week) in (
            select (fresh.repository, fresh.activity_week)
            from commits as fresh
            where fresh._batch > (select coalesce(max(built._batch), -1) from {{ this }} as built)
        )
    {% endif %}
)

select
    repository,
    activity_week,
    count(*) as commits,
    count(distinct author_email) as authors,
    {{ ratio('sum(case when is_bot then 1 else 0 end)', 'count(*)') }} as bot_share,
    cast(sum(case when is_merge then 1 else 0 end) as bigint) as merge_commits,
    cast(sum(case when is_breaking then 1 else 0 end) as bigint) as breaking_changes,
    {{ ratio("sum(case when type = 'fix' then 1 else 0 end)", 'count(type)') }} as fix_share,
    cast(sum(additions) as bigint) as additions,
    cast(sum(deletions) as bigint) as deletions,
    cast(sum(additions + deletions) as bigint) as churn,
    -- Rebased and squashed commits keep the hour they were written: what lies between is how long a change waited.
    quantile_cont(lead_time_hours, 0.5) as lead_time_median_hours,
    quantile_cont(lead_time_hours, 0.9) as lead_time_p90_hours,
    max(_batch) as _batch
from counted
group by repository, activity_week
