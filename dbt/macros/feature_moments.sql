{# The moments at which a customer's features change, as (customer_id, as_of, known_on): midnights. A day changes them when it is over,
   and again whenever it leaves one of the windows (`offsets`, days). A day that was known late changes them a second time, under the
   midnight that knows it: so what is asked for one instant is answered by what was known then. No moment lies beyond the newest day
   that is known at all. `daily` is a relation of (customer_id, day, known_day, ...), made from the table `source` whose column `customer`
   says whose a row is: an incremental run makes the moments of those customers of whom a row came or went there, and of those for whom the
   time has brought a new one, because the newest day that is known is another one now. #}
{% macro feature_moments(daily, source, customer='customer_id', offsets=[1, 2, 3, 8, 15, 31, 61]) -%}
    clock as (select max(known_day) + 1 as today from {{ daily }}),

    shifts as (select unnest({{ offsets }}) as shift),

    {% if is_incremental() %}
        built_clock as (select coalesce(cast(max(built.known_at) as date), date '0001-01-01') as today from {{ this }} as built),

        spoken_of as (
            {{ changed_keys(source, customer, name='customer_id') }}
            union
            select daily.customer_id
            from {{ daily }} as daily
            cross join shifts
            cross join clock
            cross join built_clock
            where
                daily.day + shifts.shift > least(clock.today, built_clock.today)
                and daily.day + shifts.shift <= greatest(clock.today, built_clock.today)
            union
            select built.customer_id
            from {{ this }} as built
            cross join clock
            where clock.today is null or cast(built.known_at as date) > clock.today
        ),
    {% endif %}

    changes as (
        select distinct
            daily.customer_id,
            daily.day + shifts.shift as as_of
        from {{ daily }} as daily
        cross join shifts
        where
            daily.day + shifts.shift <= (select clock.today from clock)
            {% if is_incremental() %}
                and daily.customer_id in (select spoken_of.customer_id from spoken_of)
            {% endif %}
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

{# The shortest of the windows that something lies in, so many days ago; NULL beyond the longest. A number of days would be another one at every
   midnight, and the row that is served is of the last one at which something changed: of an age only this can be told by it. #}
{% macro within_days(days) -%}
  case {% for most in [1, 2, 7, 14, 30, 60] %}when {{ days }} <= {{ most }} then {{ most }} {% endfor %}end
{%- endmacro %}

{# Of the customers that were computed those whose rows differ from what is there: what is written is what is new. Who has none any more
   comes with empty rows, by which those that are there go (`gone: as_of is null`). #}
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
                select customer_id, sum(cast(hash(built) as hugeint)) as digest
                from {{ this }} as built
                where customer_id in (select spoken_of.customer_id from spoken_of)
                group by customer_id
            ) as there on fresh.customer_id = there.customer_id
            where fresh.digest is distinct from there.digest
        )
        union all by name
        select distinct built.customer_id
        from {{ this }} as built
        where
            built.customer_id in (select spoken_of.customer_id from spoken_of)
            and built.customer_id not in (select {{ computed }}.customer_id from {{ computed }})
    {% endif %}
{%- endmacro %}
