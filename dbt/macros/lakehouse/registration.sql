{# The bridge to the plugin: store_relation is the only adapter method of dbt-duckdb that reaches one. The plugin answers
   by writing into `request`. #}
{% macro lakehouse_call(operation, relation, sql='', request={}) -%}
  {% do adapter.store_relation('lakehouse', relation, [], sql, operation, request) %}
{%- endmacro %}

{% macro lakehouse_exists(relation) -%}
  {% set request = {} %}
  {% do lakehouse_call('register', relation, '', request) %}
  {{ return(request['version'] is not none) }}
{%- endmacro %}

{# Every table that a node reads, through ephemeral models too, as [layer, name]. #}
{% macro lakehouse_inputs(node, found=none) -%}
  {% set found = found if found is not none else [] %}
  {% for id in node.depends_on.nodes or [] %}
    {% set upstream = graph.nodes.get(id) or graph.sources.get(id) %}
    {% if upstream and upstream.config.get('materialized') == 'ephemeral' %}
      {% do lakehouse_inputs(upstream, found) %}
    {% elif upstream and upstream.resource_type in ('model', 'seed', 'snapshot', 'source') %}
      {% set name = [upstream.schema, upstream.get('alias') or upstream.identifier] %}
      {% if name not in found %}{% do found.append(name) %}{% endif %}
    {% endif %}
  {% endfor %}
  {{ return(found) }}
{%- endmacro %}

{# on-run-start: views over what the selection reads or writes, and nothing else, whatever else is in the lake. #}
{% macro lakehouse_register_selection() -%}
  {% if execute %}
    {% set names = [] %}
    {% for id in selected_resources %}
      {# A unit test is not in the graph, but its id names its model. #}
      {% set id = 'model.' ~ id.split('.')[1] ~ '.' ~ id.split('.')[2] if id.startswith('unit_test.') else id %}
      {% set node = graph.nodes.get(id) or graph.sources.get(id) %}
      {% if node %}
        {% if node.resource_type in ('model', 'seed', 'snapshot', 'source') and node.config.get('materialized') != 'ephemeral' %}
          {% do names.append([node.schema, node.get('alias') or node.identifier]) %}
        {% endif %}
        {% if node.resource_type != 'source' %}{% do lakehouse_inputs(node, names) %}{% endif %}
      {% endif %}
    {% endfor %}
    {% set request = {'names': names} %}
    {% do lakehouse_call('register_all', api.Relation.create(schema=target.schema, identifier='_'), '', request) %}
    {% for layer, name in request['registered'] %}
      {# dbt listed the relations before this hook ran. #}
      {% do adapter.cache_added(api.Relation.create(database=target.database, schema=layer, identifier=name, type='view')) %}
    {% endfor %}
  {% endif %}
{%- endmacro %}

{# {{ lakehouse_as_of(ref('stg_household_survey'), 3) }}: one version (a number) or instant (ISO text) of a table. #}
{% macro lakehouse_as_of(relation, version) -%}
  {% if not execute %}{{ return(relation) }}{% endif %}
  {% set request = {'version': version} %}
  {% do lakehouse_call('as_of', relation, '', request) %}
  {{ return('(' ~ request['sql'] ~ ')') }}
{%- endmacro %}
