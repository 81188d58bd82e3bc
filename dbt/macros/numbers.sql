{# A ratio that is empty, and not an error or infinity, where there is nothing to divide by. #}
{% macro ratio(numerator, denominator) -%}
  (cast({{ numerator }} as double) / nullif(cast({{ denominator }} as double), 0))
{%- endmacro %}

{# One end of the 95 % Wilson score interval of a rate: honest for small counts and for rates near 0 and 1, where the
   textbook interval is not. `end` is 'low' or 'high'. #}
{% macro wilson(successes, trials, end) -%}
  {%- set z = '1.959963984540054' -%}
  {%- set n = 'cast(' ~ trials ~ ' as double)' -%}
  {%- set p = ratio(successes, trials) -%}
  {%- set sign = '-' if end == 'low' else '+' -%}
  (
    ({{ p }} + {{ z }} * {{ z }} / (2 * nullif({{ n }}, 0))
    {{ sign }} {{ z }} * sqrt(
      {{ p }} * (1 - {{ p }}) / nullif({{ n }}, 0) + {{ z }} * {{ z }} / (4 * nullif({{ n }}, 0) * nullif({{ n }}, 0))
    ))
    / (1 + {{ z }} * {{ z }} / nullif({{ n }}, 0))
  )
{%- endmacro %}
