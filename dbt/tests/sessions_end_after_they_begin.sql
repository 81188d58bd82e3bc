select domain_sessionid
from {{ ref('web_sessions') }}
where end_tstamp < start_tstamp or engaged_time_in_s < 0 or page_views > total_events
