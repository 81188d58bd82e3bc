{{ config(materialized='incremental', incremental_strategy='insert_overwrite', partition_by=['activity_month']) }}

-- A month that got new commits is counted again, whole; the others are not read.
with commits as (
    select
        *,
        cast({{ dbt.date_trunc('month', "(committed_at at time zone 'UTC')") }} as date) as activity_month
    from {{ ref('stg_commits') }}
    where author_email is not null
),

counted as (
    select *
    from commits
    {% if is_incremental() %}
        where activity_month in (
            select fresh.activity_month
            from commits as fresh
            where fresh._batch > (select coalesce(max(built._batch), -1) from {{ this }} as built)
        )
    {% endif %}
)

select
    author_email as author,
    activity_month,
    bool_or(is_bot) as is_bot,
    count(*) as commits,
    count(distinct repository) as repositories,
    count(distinct cast((committed_at at time zone 'UTC') as date)) as active_days,
    cast(sum(case when is_merge then 1 else 0 end) as bigint) as merge_commits,
    cast(sum(case when type = 'feat' then 1 else 0 end) as bigint) as features,
    cast(sum(case when type = 'fix' then 1 else 0 end) as bigint) as fixes,
    cast(sum(case when type in ('docs', 'test') then 1 else 0 end) as bigint) as docs_and_tests,
    cast(sum(additions) as bigint) as additions,
    cast(sum(deletions) as bigint) as deletions,
    min(committed_at) as first_commit_at,
    max(committed_at) as last_commit_at,
    max(_batch) as _batch
from counted
group by author_email, activity_month
