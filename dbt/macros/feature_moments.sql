{# The moments at which a customer's features change, as (customer_id, as_of, known_on): midnights. A day changes them when it is over,
   and again whenever it leaves one of the windows (`offsets`, days). A day that was known late changes them a second time, under the
   midnight that knows it: so what is asked for one instant is answered by what was known then. No moment lies beyond the newest day
   that is known at all. `daily` is a relation of (customer_id, day, known_day, ...). #}
{% macro feature_moments(daily, offsets=[1, 2, 3, 8, 15, 31, 61]) -%}
    changes as (
        select distinct
            daily.customer_id,
            daily.day + shifts.shift as as_of
        from {{ daily }} as daily
        cross join (select unnest({{ offsets }}) as shift) as shifts
        where daily.day + shifts.shift <= (select max(known_day) + 1 from {{ daily }})
    ),

    moments as (
        select
            customer_id,
            as_of,
            as_of as known_on
        from changes
        union
        select
            changes.customer_id,
            changes.as_of,
            daily.known_day + 1 as known_on
        from changes
        inner join {{ daily }} as daily on changes.customer_id = daily.customer_id
        where daily.day < changes.as_of and daily.known_day >= changes.as_of
    ),

    known_days as (
        select
            moments.as_of,
            moments.known_on,
            -- 1 is the day before the moment.
            moments.as_of - daily.day as days_ago,
            daily.*
        from moments
        inner join {{ daily }} as daily
            on moments.customer_id = daily.customer_id and daily.day < moments.as_of and daily.known_day < moments.known_on
    )
{%- endmacro %}

{# A sum over the last so many days, or over as many days before those. #}
{% macro in_window(measure, days, before=0) -%}
  coalesce(sum({{ measure }}) filter (where days_ago > {{ before }} and days_ago <= {{ before + days }}), 0)
{%- endmacro %}

{# Of everything that was computed the customers whose rows differ from those that are already there: what is written is what is new. #}
{% macro changed_customers(computed) -%}
    select *
    from {{ computed }}
    {% if is_incremental() %}
        where customer_id in (
            select fresh.customer_id
            from (
                select customer_id, sum(cast(hash({{ computed }}) as hugeint)) as digest from {{ computed }} group by customer_id
            ) as fresh
            left join (
                select customer_id, sum(cast(hash(built) as hugeint)) as digest from {{ this }} as built group by customer_id
            ) as there on fresh.customer_id = there.customer_id
            where fresh.digest is distinct from there.digest
        )
    {% endif %}
{%- endmacro %}
