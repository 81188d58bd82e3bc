{# dbt's own names, so that a model reads the same with any other adapter. #}

{% materialization table, adapter='duckdb', supported_languages=['sql', 'python'] %}
  {% set relation = this.incorporate(type='view') %}
  {% set request = lakehouse_request('overwrite', compiled_code) %}
  {% set rows = none %}
  {% if model['language'] == 'python' and not lakehouse_is_current(relation, request) %}
    {# dbt runs a Python model only from a statement that stands in the materialization itself. #}
    {% set rows = this.incorporate(path={'identifier': this.identifier ~ '__python'}, type='table') %}
    {% do adapter.drop_relation(rows) %}
    {% do adapter.create_schema(rows) %}
    {% call statement('python', language='python') %}{{- create_table_as(False, rows, compiled_code, 'python') }}{% endcall %}
  {% elif model['language'] == 'sql' %}
    {% do lakehouse_is_current(relation, request) %}
  {% endif %}
  {{ return(lakehouse_build(relation, request, rows)) }}
{% endmaterialization %}

{% materialization view, adapter='duckdb' %}
  {{ exceptions.raise_compiler_error(
      model.unique_id ~ " is materialized as a view, which no other process could read: every model here is a Delta table. "
      ~ "Use materialized='table', 'incremental' or 'ephemeral'") }}
{% endmaterialization %}

{% materialization incremental, adapter='duckdb', supported_languages=['sql', 'python'] %}
  {% set relation = this.incorporate(type='view') %}
  {% set strategy = config.get('incremental_strategy') or ('merge' if config.get('unique_key') else 'append') %}
  {# The SQL of the first run differs from that of the later ones: the plugin identifies it by the model's definition alone. #}
  {% set request = lakehouse_request(strategy if is_incremental() else 'overwrite', '') %}
  {% set rows = none %}
  {% if model['language'] == 'python' and not lakehouse_is_current(relation, request) %}
    {% set rows = this.incorporate(path={'identifier': this.identifier ~ '__python'}, type='table') %}
    {% do adapter.drop_relation(rows) %}
    {% do adapter.create_schema(rows) %}
    {% call statement('python', language='python') %}{{- create_table_as(False, rows, compiled_code, 'python') }}{% endcall %}
  {% elif model['language'] == 'sql' %}
    {% do lakehouse_is_current(relation, request) %}
  {% endif %}
  {{ return(lakehouse_build(relation, request, rows)) }}
{% endmaterialization %}

{% materialization seed, adapter='duckdb' %}
  {% set relation = this.incorporate(type='view') %}
  {% set rows = this.incorporate(path={'identifier': this.identifier ~ '__seed'}, type='table') %}
  {% set table = load_agate_table() %}
  {% do store_result('agate_table', response='OK', agate_table=table) %}
  {{ run_hooks(pre_hooks, inside_transaction=False) }}
  {{ run_hooks(pre_hooks, inside_transaction=True) }}
  {% set request = lakehouse_request('overwrite', model.raw_code) %}
  {% set types = config.get('column_types', {}) %}
  {% do request.update({'code_file': adapter.get_seed_file_path(model), 'code': types | string}) %}
  {% if not lakehouse_is_current(relation, request) %}
    {% do adapter.create_schema(rows) %}
    {% do adapter.drop_relation(rows) %}
    {% call statement('create_seed') %}
      create table {{ rows }} (
        {% for column in table.column_names %}
        {{ adapter.quote(column) }} {{ types.get(column, adapter.convert_type(table, loop.index0)) }}{{ ',' if not loop.last }}
        {% endfor %}
      )
    {% endcall %}
    {% call statement('load_seed') %}
      copy {{ rows }} from '{{ adapter.escape_sql_string(adapter.get_seed_file_path(model)) }}'
      (format csv, header true, delimiter '{{ config.get('delimiter', ',') }}')
    {% endcall %}
  {% endif %}
  {% do lakehouse_write(relation, 'select * from ' ~ rows, request) %}
  {% do adapter.drop_relation(rows) %}
  {{ run_hooks(post_hooks, inside_transaction=True) }}
  {% do adapter.commit() %}
  {{ run_hooks(post_hooks, inside_transaction=False) }}
  {{ return({'relations': [relation]}) }}
{% endmaterialization %}

{% materialization snapshot, adapter='duckdb' %}
  {% set relation = this.incorporate(type='view') %}
  {% set exists = lakehouse_exists(this) %}
  {% set strategy = strategy_dispatch(config.get('strategy'))(model, 'snapshotted_data', 'source_data', model['config'], exists) %}
  {% set columns = config.get('snapshot_table_column_names') or get_snapshot_table_column_names() %}
  {{ run_hooks(pre_hooks, inside_transaction=False) }}
  {{ run_hooks(pre_hooks, inside_transaction=True) }}
  {# The SQL itself differs between the first run and the later ones, as an incremental model's does. #}
  {% set request = lakehouse_request('snapshot' if exists else 'overwrite', model['compiled_code'] ~ model.config) %}
  {% do request.update({'unique_key': [columns.dbt_scd_id], 'full_refresh': false}) %}
  {% if lakehouse_is_current(relation, request) or not exists %}
    {% set sql = build_snapshot_table(strategy, model['compiled_code']) %}
  {% else %}
    {# One statement over the table's view and not a table in memory: when another process commits first, the plugin
       refreshes the view and runs the very same statement again. #}
    {% set sql = lakehouse_snapshot_changes(relation, strategy, columns) %}
  {% endif %}
  {% do lakehouse_write(relation, sql, request) %}
  {{ run_hooks(post_hooks, inside_transaction=True) }}
  {% do adapter.commit() %}
  {{ run_hooks(post_hooks, inside_transaction=False) }}
  {{ return({'relations': [relation]}) }}
{% endmaterialization %}

{# New rows, and the old rows that they close: one merge on dbt_scd_id. #}
{% macro lakehouse_snapshot_changes(relation, strategy, columns) -%}
  {% set own = adapter.get_columns_in_relation(relation) | map(attribute='name') | list %}
  with changes as materialized (
    {{ snapshot_staging_table(strategy, model['compiled_code'], relation) }}
  )
  select * exclude (dbt_change_type, dbt_unique_key) from changes where dbt_change_type = 'insert'
  union all by name
  select existing.* replace (changes.{{ columns.dbt_valid_to }} as {{ columns.dbt_valid_to }})
  from {{ relation }} as existing
  inner join changes on changes.{{ columns.dbt_scd_id }}::text = existing.{{ columns.dbt_scd_id }}::text
  where changes.dbt_change_type in ('update', 'delete')
{%- endmacro %}
