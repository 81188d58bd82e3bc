{# Text as analysts expect it: no white space around it, and nothing at all instead of an empty string. #}
{% macro clean_text(column) -%}
  nullif(trim({{ column }}, ' ' || chr(9) || chr(10) || chr(13)), '')
{%- endmacro %}

{# The staging table of a dataset, from nothing but its contract: one row per primary key (the newest by event time, then
   the one that arrived last, however late it was repaired), text cleaned, and where each row came from. A dataset without a key keeps every row, under
   row_id. New batches alone are read after the first run: they compete with the rows already here that have their keys.

   `newest` are expressions that say which row of a key is the newest, the first to decide first; then the values themselves do, so that
   the order of arrival decides nothing. `cleaned` are expressions that take the place of columns before rows compete: what is cleaned
   afterwards would be compared with what comes later as it was not.

   Configure the model that calls this as incremental, strategy merge, with unique_key=staging_key(dataset). #}
{% macro stage_dataset(dataset, newest=none, cleaned={}) -%}
  {% set relation = source('raw', dataset) %}
  {% if execute %}
    {% set contract = lakehouse_contract(dataset) %}
    {% set key = contract.primary_key or ['row_id'] %}
    {% set columns = ([] if contract.primary_key else ['row_id']) + contract.columns | map(attribute='name') | list + contract.provenance %}
with arrived as (
    select
        {% if not contract.primary_key %}
        left(_sha256, 16) || '-' || cast(_row as varchar) as row_id,
        {% endif %}
        {% for column in contract.columns %}
        {% set text = clean_text('cast(' ~ adapter.quote(column.name) ~ ' as varchar)') if column.text else adapter.quote(column.name) %}
        {{ cleaned.get(column.name, text) }} as {{ adapter.quote(column.name) }},
        {% endfor %}
        {{ contract.provenance | join(', ') }}
    from {{ relation }}
    {% if is_incremental() %}
    where _batch > (select coalesce(max(_batch), -1) from {{ this }})
    {% endif %}
),

competing as (
    select * from arrived
    {% if is_incremental() %}
    union all by name
    select {% for name in columns %}{{ adapter.quote(name) }}{{ ', ' if not loop.last }}{% endfor %}

    from {{ this }} as kept
    where exists (
        select 1 from arrived
        where {% for name in key %}{{ 'and ' if not loop.first }}arrived.{{ adapter.quote(name) }} = kept.{{ adapter.quote(name) }} {% endfor %}

    )
    {% endif %}
)

select * from competing
qualify row_number() over (
    partition by {% for name in key %}{{ adapter.quote(name) }}{{ ', ' if not loop.last }}{% endfor %}

    order by {% for one in newest or [] %}{{ one }} desc nulls last, {% endfor %}

    {% if contract.event_timestamp %}{{ adapter.quote(contract.event_timestamp) }} desc nulls last, {% endif %}

    {% for column in contract.columns if newest %}{{ adapter.quote(column.name) }} desc nulls last, {% endfor %}

    coalesce(_arrival, _batch) desc, _sha256 desc, _row desc
) = 1
  {% else %}
select * from {{ relation }}
  {% endif %}
{%- endmacro %}

{# What the dataset's contract says, from the contract itself. #}
{% macro lakehouse_contract(dataset) -%}
  {% set request = {} %}
  {% do lakehouse_call('contract', api.Relation.create(schema='raw', identifier=dataset), '', request) %}
  {{ return(request) }}
{%- endmacro %}
