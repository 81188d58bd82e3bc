{# The values of a column, or of an expression over columns, that rows have which came or went in a table since this model was built from
   it: what an incremental run has to make anew, whoever the row belonged to before or belongs to now. Where the commits can't tell it is
   every value that is there, or was when this model was built. As a SELECT of the column `name`; `name` is also what this model calls it. #}
{% macro changed_keys(relation, column, name=none) -%}
  {% set name = name or column %}
  {% set request = {'source': [relation.schema, relation.identifier]} %}
  {% if execute %}{% do lakehouse_call('changes', this, '', request) %}{% endif %}
  {% if request.get('sql') %}
    select distinct {{ column }} as {{ name }}
    from ({{ request['sql'] }}) as changes
    where {{ column }} is not null
  {% else %}
    select {{ column }} as {{ name }}
    from {{ relation }} as there
    where {{ column }} is not null
    union
    select built.{{ name }}
    from {{ this }} as built
  {% endif %}
{%- endmacro %}
