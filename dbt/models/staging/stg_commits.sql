{{ config(alias='commits', materialized='incremental', unique_key=['sha']) }}

with staged as (
    {{ stage_dataset('commits') }}
),

read_lines as (
    select
        *,
        trim(split_part(message, chr(10), 1), ' ' || chr(9) || chr(13)) as subject,
        coalesce(json_array_length(parents), 0) > 1 as is_merge
    from staged
),

prefixed as (
    select
        *,
        {{ conventional_prefix('subject') }} as prefix
    from read_lines
),

judged as (
    select
        *,
        {{ folded_commit_type('lower(prefix.type_word)') }} as prefix_type
    from prefixed
)

select
    * exclude (prefix, prefix_type),
    regexp_extract(html_url, '^https?://[^/]+/([^/]+/[^/]+)/', 1) as repository,
    case
        when is_merge then 'merge'
        when prefix_type is not null then prefix_type
        when regexp_matches(subject, '^Revert\s+"') then 'revert'
    end as type,
    case when prefix_type is not null then nullif(prefix.scope, '') end as scope,
    (prefix_type is not null and prefix.bang = '!') or regexp_matches(message, '(^|\n)BREAKING[ -]CHANGE:') as is_breaking,
    case when prefix_type is not null and not is_merge then prefix.subject else subject end as subject_without_prefix,
    -- Names and addresses are pseudonyms here: the kind of account is all that is left to tell a bot by.
    coalesce(author_type = 'Bot', false) as is_bot
from judged
