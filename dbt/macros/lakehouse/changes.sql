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

{# Behind the last SELECT of a model that makes `changed` keys anew: who of them has no row any more loses the one that is there, by a row of
   the key alone, which the model's `gone` recognises. #}
{% macro or_gone(made, key, changed='changed') -%}
  {% if is_incremental() %}
    union all by name
    select {{ changed }}.{{ key }}
    from {{ changed }}
    where {{ changed }}.{{ key }} not in (select {{ made }}.{{ key }} from {{ made }})
  {% endif %}
{%- endmacro %}
