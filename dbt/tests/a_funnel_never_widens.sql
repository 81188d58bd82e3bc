select day
from {{ ref('funnel_by_day') }}
where not (visits >= saw_a_product and saw_a_product >= filled_a_cart and filled_a_cart >= checked_out and checked_out >= purchased)
