{{ config(materialized='incremental', unique_key=['_interview_id']) }}

-- One row per interview, known when it arrived. Nothing here is made from this interview's monthly_income or vulnerable,
-- which the models predict; the same answers of the interview before are fair, once they could be known.
with interviews as (
    select
        *,
        (case roof_material when 'tile' then 2 when 'metal' then 1 else 0 end)
        + (case cooking_fuel when 'electricity' then 3 when 'gas' then 2 when 'charcoal' then 1 else 0 end)
        + (case water_source when 'piped' then 2 when 'well' then 1 else 0 end)
        + (case when has_electricity then 2 else 0 end) as asset_score
    from {{ ref('stg_household_survey') }}
    where {{ touched_households(ref('stg_household_survey'), '_interview_id') }}
),

paired as (
    select
        *,
        row_number() over household - 1 as interviews_before,
        lag(submitted_at) over household as previous_submitted_at,
        lag(monthly_income) over household as previous_monthly_income,
        lag(total_expenditure) over household as previous_total_expenditure,
        lag(food_expenditure) over household as previous_food_expenditure,
        lag(household_size) over household as previous_household_size,
        lag(livestock_units) over household as previous_livestock_units,
        lag(asset_score) over household as previous_asset_score,
        lag(months_food_shortage) over household as previous_months_food_shortage,
        lag(shock) over household as previous_shock,
        lag(vulnerable) over household as previous_vulnerable
    from interviews
    window household as (partition by household_id order by submitted_at, interview_id)
)

select
    household_id,
    submitted_at,
    _ingested_at as known_at,

    district,
    urban,
    head_age,
    head_sex,
    head_education,
    household_size,
    children_under_5,
    rooms,
    water_source,
    cooking_fuel,
    has_electricity,
    roof_material,
    cast(land_hectares as double) as land_hectares,
    cast(livestock_units as double) as livestock_units,
    cast(distance_to_market_km as double) as distance_to_market_km,
    cast(total_expenditure as double) as total_expenditure,
    cast(food_expenditure as double) as food_expenditure,
    meals_per_day,
    months_food_shortage,
    shock,

    asset_score,
    {{ ratio('children_under_5', 'household_size') }} as child_dependency,
    {{ ratio('household_size', 'rooms') }} as persons_per_room,
    {{ ratio('food_expenditure', 'total_expenditure') }} as food_share,
    {{ ratio('total_expenditure', 'household_size') }} as expenditure_per_person,
    {{ ratio('livestock_units', 'household_size') }} as livestock_per_person,
    {{ ratio('land_hectares', 'household_size') }} as land_per_person,
    {{ dbt.datediff('start_time', 'end_time', 'minute') }} as interview_minutes,
    extract(quarter from submitted_at) as quarter_of_year,

    interviews_before,
    {{ dbt.datediff('previous_submitted_at', 'submitted_at', 'day') }} as days_since_previous,
    cast(previous_monthly_income as double) as previous_monthly_income,
    cast(previous_total_expenditure as double) as previous_total_expenditure,
    {{ ratio('previous_food_expenditure', 'previous_total_expenditure') }} as previous_food_share,
    previous_months_food_shortage,
    previous_shock,
    -- An interview is assessed a quarter after it: until then nobody knows.
    case when previous_submitted_at <= submitted_at - interval 90 day then previous_vulnerable end as previous_vulnerable,
    {{ ratio('total_expenditure - previous_total_expenditure', 'previous_total_expenditure') }} as expenditure_change_share,
    household_size - previous_household_size as household_size_change,
    cast(livestock_units - previous_livestock_units as double) as livestock_change,
    asset_score - previous_asset_score as asset_score_change,

    interview_id as _interview_id,
    _batch
from paired
