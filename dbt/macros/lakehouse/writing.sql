{# What the plugin needs to know of a write: identity, inputs, strategy, and the compiled text that its code stamp depends on. #}
{% macro lakehouse_request(strategy, code) -%}
  {% set partition_by = config.get('partition_by') or [] %}
  {% set unique_key = config.get('unique_key') or [] %}
  {% set own = (config.get('meta') or {}).get('lakehouse') or {} %}
  {{ return({
    'node': model.unique_id,
    'resource_type': model.resource_type,
    'is_incremental': model.config.materialized == 'incremental',
    'may_rebuild': config.get('full_refresh') is not false,
    'invocation_id': invocation_id,
    'inputs': lakehouse_inputs(model),
    'strategy': strategy,
    'partition_by': [partition_by] if partition_by is string else partition_by,
    'unique_key': [unique_key] if unique_key is string else unique_key,
    'on_schema_change': config.get('on_schema_change'),
    'full_refresh': should_full_refresh(),
    'always_build': own.get('always_build', false),
    'replace_where': own.get('replace_where'),
    'gone': own.get('gone'),
    'code': code,
  }) }}
{%- endmacro %}

{# Is the table already what this code makes of these versions? Then building it again would only add a version. #}
{% macro lakehouse_is_current(relation, request) -%}
  {% do lakehouse_call('compare', relation, '', request) %}
  {{ return(request['current']) }}
{%- endmacro %}

{% macro lakehouse_write(relation, sql, request) -%}
  {% if not request.get('current') %}
    {% do lakehouse_call('write', relation, sql, request) %}
  {% endif %}
  {% if request.get('is_mixed') %}
    {% do exceptions.warn("WARNING: " ~ relation.schema ~ "." ~ relation.identifier ~ " has rows that an earlier definition made (of " ~ model.name
        ~ ", or of a macro, contract or table that it uses): --full-refresh applies this one to all rows, as the next run of the lakehouse does") %}
  {% endif %}
  {% do adapter.cache_added(relation) %}
  {% call noop_statement('main', request['message'], request['outcome'], request['rows']) %}{{ sql }}{% endcall %}
{%- endmacro %}

{# False in a run of the lakehouse for a table whose rows another definition made, too: it is then written anew, as a whole.
   `full_refresh: false` in the model's config keeps them, by hand and in a run. #}
{% macro is_incremental() -%}
  {% if not execute or model.config.materialized != 'incremental' or should_full_refresh() %}{{ return(false) }}{% endif %}
  {# Nothing is refreshed by compiling: this asks for the SQL of a table that does not exist yet. #}
  {% if flags.WHICH == 'compile' and flags.FULL_REFRESH %}{{ return(false) }}{% endif %}
  {% set request = {'node': model.unique_id, 'may_rebuild': config.get('full_refresh') is not false} %}
  {% do lakehouse_call('plan', this, '', request) %}
  {{ return(request['version'] is not none and not request['is_outdated']) }}
{%- endmacro %}

{# The body of table and incremental. `rows` names a table in memory that holds a Python model's result. #}
{% macro lakehouse_build(relation, request, rows=none) -%}
  {% set sql = ('select * from ' ~ rows) if rows else compiled_code %}
  {{ run_hooks(pre_hooks, inside_transaction=False) }}
  {{ run_hooks(pre_hooks, inside_transaction=True) }}
  {% if config.get('contract').enforced and not rows and not request.get('current') %}{{ get_assert_columns_equivalent(sql) }}{% endif %}
  {% do lakehouse_write(relation, sql, request) %}
  {% if rows %}{% do adapter.drop_relation(rows) %}{% endif %}
  {{ run_hooks(post_hooks, inside_transaction=True) }}
  {% do adapter.commit() %}
  {{ run_hooks(post_hooks, inside_transaction=False) }}
  {{ return({'relations': [relation]}) }}
{%- endmacro %}
