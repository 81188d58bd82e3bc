{# A model's schema is its layer, without dbt's usual prefix: the table is staging.household_survey everywhere. #}
{% macro generate_schema_name(custom_schema_name, node) -%}
  {{ (custom_schema_name or target.schema) | trim }}
{%- endmacro %}
