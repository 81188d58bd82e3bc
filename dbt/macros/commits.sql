{# The kinds of change this project tells apart, each with the spellings that mean it. Anything else before a colon is
   part of the sentence, such as "cli: read the config". #}
{% macro commit_types() -%}
  {{ return({
    'feat': ['feat', 'feature', 'features'],
    'fix': ['fix', 'fixes', 'bugfix', 'hotfix'],
    'docs': ['docs', 'doc', 'documentation'],
    'style': ['style', 'styles'],
    'refactor': ['refactor', 'refacto', 'ref'],
    'perf': ['perf', 'performance'],
    'test': ['test', 'tests', 'testing'],
    'build': ['build', 'deps'],
    'ci': ['ci'],
    'chore': ['chore', 'chores'],
    'revert': ['revert', 'reverts'],
    'bump': ['bump'],
    'depr': ['depr', 'deprecate', 'deprecation'],
  }) }}
{%- endmacro %}

{% macro folded_commit_type(word) -%}
  case
    {% for kind, spellings in commit_types().items() %}
    when {{ word }} in ({% for spelling in spellings %}'{{ spelling }}'{{ ', ' if not loop.last }}{% endfor %}) then '{{ kind }}'
    {% endfor %}
  end
{%- endmacro %}

{# type(scope)!: subject -- of the first line of a message, as struct fields type_word, scope, bang, subject. #}
{% macro conventional_prefix(line) -%}
  regexp_extract(
    {{ line }},
    '^\s*([A-Za-z]+)\s*(?:\(([^()]*)\))?\s*(!?)\s*:\s*(.*)$',
    ['type_word', 'scope', 'bang', 'subject']
  )
{%- endmacro %}

{# What a changed file is for, judged by its path alone. #}
{% macro file_kind(path) -%}
  case
    when regexp_matches({{ path }}, '(^|/)(\.github|\.gitlab|\.circleci|\.ci)/|(^|/)(\.gitlab-ci\.ya?ml|\.travis\.yml|azure-pipelines\.yml|jenkinsfile)$') then 'ci'
    when regexp_matches({{ path }}, '(^|/)(tests?|testing|__tests__|spec|specs)/|(^|/)(test_[^/]*|[^/]*_test|conftest)\.[a-z]+$') then 'tests'
    when regexp_matches({{ path }}, '(^|/)docs?/|\.(md|mdx|rst|adoc)$|(^|/)(changelog|readme|license|contributing)[^/]*$') then 'docs'
    when regexp_matches({{ path }}, '\.(toml|ya?ml|json|ini|cfg|lock|env|conf)$|(^|/)(makefile|dockerfile|requirements[^/]*\.txt|\.[^/]+)$') then 'config'
    when regexp_matches({{ path }}, '\.(py|pyi|rs|c|h|cc|cpp|hpp|go|java|kt|scala|js|jsx|ts|tsx|rb|r|sql|sh|pyx|cs|swift|php)$') then 'source'
    else 'other'
  end
{%- endmacro %}

{# A subject without anything that spells its type: a revert quotes the subject it takes back, prefix and all. #}
{% macro hidden_commit_type(subject) -%}
  {%- set words = commit_types().values() | sum(start=[]) | join('|') -%}
  regexp_replace(
    regexp_replace({{ subject }}, '^Revert\s+"?', '', 'i'),
    '^({{ words }})\s*(\([^()]*\))?\s*!?\s*:\s*', '', 'i'
  )
{%- endmacro %}
