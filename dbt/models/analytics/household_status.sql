-- The newest interview of each household.
select
    household_id,
    interview_id,
    submitted_at,
    district,
    household_size,
    monthly_income,
    months_food_shortage,
    shock,
    vulnerable
from {{ ref('stg_household_survey') }}
qualify row_number() over (partition by household_id order by submitted_at desc, interview_id desc) = 1
