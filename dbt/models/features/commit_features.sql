{{ config(materialized='incremental', unique_key=['sha']) }}

-- One row per commit. The conventional type is the label: neither it nor the prefix that spells it is among the features.
with commits as (
    select *
    from {{ ref('stg_commits') }}
    {% if is_incremental() %}
        where _batch > (select coalesce(max(built._batch), -1) from {{ this }} as built)
    {% endif %}
),

changed_files as (
    select
        commits.sha,
        changed.filename as path,
        {{ file_kind('lower(changed.filename)') }} as kind,
        nullif(lower(regexp_extract(changed.filename, '\.([A-Za-z0-9_]+)$', 1)), '') as extension,
        coalesce(nullif(regexp_replace(changed.filename, '/?[^/]*$', ''), ''), '.') as directory,
        coalesce(changed.status, '') as status
    from commits,
        unnest(from_json(commits.files, '[{"filename": "VARCHAR", "status": "VARCHAR"}]')) as listed (changed)
    where commits.files is not null
),

extensions as (
    select
        sha,
        string_agg(extension, ' ' order by uses desc, extension asc) as top_extensions
    from (
        select
            sha,
            extension,
            count(*) as uses
        from changed_files
        where extension is not null
        group by sha, extension
        qualify row_number() over (partition by sha order by count(*) desc, extension asc) <= 3
    ) as most_used
    group by sha
),

directories as (
    select
        sha,
        string_agg(directory, ' ' order by directory) as directories
    from (
        select distinct
            sha,
            directory
        from changed_files
        qualify dense_rank() over (partition by sha order by directory) <= 20
    ) as touched
    group by sha
),

file_counts as (
    select
        sha,
        count(*) as files_listed,
        {{ ratio("sum(case when kind = 'tests' then 1 else 0 end)", 'count(*)') }} as tests_share,
        {{ ratio("sum(case when kind = 'docs' then 1 else 0 end)", 'count(*)') }} as docs_share,
        {{ ratio("sum(case when kind = 'ci' then 1 else 0 end)", 'count(*)') }} as ci_share,
        {{ ratio("sum(case when kind = 'source' then 1 else 0 end)", 'count(*)') }} as source_share,
        {{ ratio("sum(case when kind = 'config' then 1 else 0 end)", 'count(*)') }} as config_share,
        {{ ratio("sum(case when status = 'added' then 1 else 0 end)", 'count(*)') }} as added_files_share,
        {{ ratio("sum(case when status = 'renamed' then 1 else 0 end)", 'count(*)') }} as renamed_files_share
    from changed_files
    group by sha
)

select
    commits.sha,
    commits.committed_at,
    commits._ingested_at as known_at,

    {{ hidden_commit_type('commits.subject_without_prefix') }} as subject,
    length(commits.subject_without_prefix) as subject_length,
    length(regexp_replace(commits.message, '^[^\n]*\n*', '')) > 0 as has_body,
    length(regexp_replace(commits.message, '^[^\n]*\n*', '')) as body_length,
    commits.is_merge,
    commits.is_bot,
    commits.repository,
    commits.additions,
    commits.deletions,
    commits.additions + commits.deletions as churn,
    {{ ratio('commits.additions', 'commits.additions + commits.deletions') }} as additions_share,
    coalesce(commits.files_truncated_from, file_counts.files_listed) as files_changed,
    file_counts.tests_share,
    file_counts.docs_share,
    file_counts.ci_share,
    file_counts.source_share,
    file_counts.config_share,
    file_counts.added_files_share,
    file_counts.renamed_files_share,
    extensions.top_extensions,
    directories.directories,
    extract(hour from (commits.authored_at at time zone 'UTC')) as authored_hour,
    extract(isodow from (commits.authored_at at time zone 'UTC')) as authored_weekday,

    commits._batch
from commits
left join file_counts on commits.sha = file_counts.sha
left join extensions on commits.sha = extensions.sha
left join directories on commits.sha = directories.sha
