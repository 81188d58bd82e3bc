select
    district,
    quarter_start
from {{ ref('household_vulnerability_by_district_quarter') }}
where
    assessed > interviews
    or vulnerable_households > assessed
    or vulnerability_rate < rate_low - 1e-9
    or vulnerability_rate > rate_high + 1e-9
