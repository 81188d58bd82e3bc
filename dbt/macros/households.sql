{# Interviews to compute again: all of every household that a new batch spoke of. A correction may have moved an interview
   to another household, so the household it was filed under until now counts as well. #}
{% macro touched_households(staged, interview_column) -%}
  {% if is_incremental() %}
    household_id in (
        select fresh.household_id
        from {{ staged }} as fresh
        where fresh._batch > (select coalesce(max(built._batch), -1) from {{ this }} as built)
        union
        select filed.household_id
        from {{ this }} as filed
        inner join {{ staged }} as fresh on filed.{{ interview_column }} = fresh.interview_id
        where fresh._batch > (select coalesce(max(built._batch), -1) from {{ this }} as built)
    )
  {% else %}
    true
  {% endif %}
{%- endmacro %}
