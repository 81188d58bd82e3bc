-- Here and not beside the columns: a test beside a model is selected with its folder, and staging is built before the seed.
select staged.district
from {{ ref('stg_household_survey') }} as staged
left join {{ ref('district_regions') }} as regions on staged.district = regions.district
where staged.district is not null and regions.district is null
