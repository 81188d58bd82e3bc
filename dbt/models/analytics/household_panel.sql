{{ config(materialized='incremental', unique_key=['interview_id']) }}

with interviews as (
    select *
    from {{ ref('stg_household_survey') }}
    where {{ touched_households(ref('stg_household_survey'), 'interview_id') }}
),

paired as (
    select
        interview_id,
        household_id,
        district,
        submitted_at,
        monthly_income,
        total_expenditure,
        household_size,
        shock,
        vulnerable,
        _batch,
        row_number() over household as wave,
        lag(interview_id) over household as previous_interview_id,
        lag(submitted_at) over household as previous_submitted_at,
        lag(district) over household as previous_district,
        lag(monthly_income) over household as previous_monthly_income,
        lag(total_expenditure) over household as previous_total_expenditure,
        lag(household_size) over household as previous_household_size,
        lag(vulnerable) over household as previous_vulnerable
    from interviews
    window household as (partition by household_id order by submitted_at, interview_id)
)

select
    interview_id,
    household_id,
    district,
    submitted_at,
    wave,
    previous_interview_id,
    previous_submitted_at,
    {{ dbt.datediff('previous_submitted_at', 'submitted_at', 'day') }} as days_since_previous,
    district <> previous_district as moved_district,
    household_size - previous_household_size as household_size_change,
    monthly_income - previous_monthly_income as monthly_income_change,
    {{ ratio('monthly_income - previous_monthly_income', 'previous_monthly_income') }} as monthly_income_change_share,
    {{ ratio('total_expenditure - previous_total_expenditure', 'previous_total_expenditure') }} as expenditure_change_share,
    shock,
    case when previous_vulnerable is not null then vulnerable and not previous_vulnerable end as became_vulnerable,
    case when vulnerable is not null then previous_vulnerable and not vulnerable end as left_vulnerability,
    _batch
from paired
