with incomes as (
    select
        district,
        cast({{ dbt.date_trunc('quarter', 'submitted_at') }} as date) as quarter_start,
        monthly_income,
        cast(monthly_income as double) as income,
        {{ ratio('monthly_income', 'household_size') }} as income_per_person
    from {{ ref('stg_household_survey') }}
),

ranked as (
    select
        *,
        row_number() over (partition by district, quarter_start order by income) as income_rank,
        count(income) over (partition by district, quarter_start) as reported
    from incomes
    where income is not null
),

distributed as (
    select
        district,
        quarter_start,
        count(*) as households_reporting,
        avg(income) as mean_income,
        avg(income_per_person) as mean_income_per_person,
        quantile_cont(income, 0.10) as income_p10,
        quantile_cont(income, 0.25) as income_p25,
        quantile_cont(income, 0.50) as income_median,
        quantile_cont(income, 0.75) as income_p75,
        quantile_cont(income, 0.90) as income_p90,
        -- Gini from ranks: sum of (2 rank - n - 1) x income over n times the total.
        {{ ratio('sum((2 * income_rank - reported - 1) * income)', 'max(reported) * sum(income)') }} as gini
    from ranked
    group by district, quarter_start
),

asked as (
    select
        district,
        quarter_start,
        count(*) as households_interviewed
    from incomes
    group by district, quarter_start
)

select
    asked.district,
    regions.region,
    asked.quarter_start,
    asked.households_interviewed,
    coalesce(distributed.households_reporting, 0) as households_reporting,
    distributed.mean_income,
    distributed.mean_income_per_person,
    distributed.income_p10,
    distributed.income_p25,
    distributed.income_median,
    distributed.income_p75,
    distributed.income_p90,
    distributed.gini
from asked
left join distributed
    on asked.district = distributed.district and asked.quarter_start = distributed.quarter_start
left join {{ ref('district_regions') }} as regions on asked.district = regions.district
