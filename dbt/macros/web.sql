{# What a visit is made of. Every rule of sessionization is here, as an expression over the columns of staging.web_events. #}

{# An event's own time: the corrected clock of its device where the sender corrects it, else when it was received. #}
{% macro event_time() -%}
  coalesce(derived_tstamp, collector_tstamp)
{%- endmacro %}

{# Said by the check that the collector made, or by the browser's own name for itself. #}
{% macro is_bot() -%}
  (
    coalesce(try_cast(json_extract_string(bot_check, '$[0].spiderOrRobot') as boolean), false)
    or coalesce(regexp_matches(
      lower(useragent),
      'bot\b|bot[/;_-]|crawl|slurp|spider|archiver|facebookexternalhit|bingpreview|phantomjs|headless|pingdom|lighthouse|semalt|python-requests|curl/|wget/|scrapy'
    ), false)
  )
{%- endmacro %}

{# Sent long after it happened, both by the device's own clock. The event alone says so: when it arrives here does not matter. #}
{% macro is_too_late() -%}
  coalesce(dvce_sent_tstamp > dvce_created_tstamp + interval ({{ var('web_late_days') }}) day, false)
{%- endmacro %}

{# One look at one page. A tracker that names none has one for each page view; one that names it empty has lost it. #}
{% macro page_view_key() -%}
  case
    when event_name not in ('page_view', 'page_ping', 'screen_view', 'product_view') then null
    when web_page is null then case when event_name <> 'page_ping' then event_id end
    else json_extract_string(web_page, '$[0].id')
  end
{%- endmacro %}

{# Who can't be told apart for longer than an event: the browser, else the customer, else the network address and the browser's name. #}
{% macro visitor_key() -%}
  coalesce(
    'browser ' || domain_userid, 'browser ' || network_userid, 'user ' || user_id,
    'address ' || user_ipaddress || ' ' || coalesce(useragent, '')
  )
{%- endmacro %}

{# The events that can only be told apart together: those of one visit by the tracker's count, else all of one visitor. #}
{% macro visit_group() -%}
  coalesce('visit ' || domain_sessionid, {{ visitor_key() }})
{%- endmacro %}

{# One value of the JSON text of a context, which is a list of one object. #}
{% macro context_value(column, key) -%}
  json_extract_string({{ column }}, '$[0].{{ key }}')
{%- endmacro %}

{# Columns that a visit takes from the first look at a page in it. #}
{% macro first_page_columns() -%}
  {{ return([
    'app_id', 'platform', 'user_id', 'domain_userid', 'network_userid', 'domain_sessionidx',
    'page_title', 'page_url', 'page_urlscheme', 'page_urlhost', 'page_urlpath', 'page_urlquery', 'page_urlfragment',
    'page_referrer', 'refr_urlscheme', 'refr_urlhost', 'refr_urlpath', 'refr_urlquery', 'refr_urlfragment',
    'refr_medium', 'refr_source', 'refr_term',
    'mkt_medium', 'mkt_source', 'mkt_term', 'mkt_content', 'mkt_campaign', 'mkt_clickid', 'mkt_network',
    'geo_country', 'geo_region', 'geo_region_name', 'geo_city', 'geo_zipcode', 'geo_latitude', 'geo_longitude', 'geo_timezone',
    'useragent', 'br_renderengine', 'br_lang', 'os_timezone', 'dvce_screenwidth', 'dvce_screenheight',
    'bot_check', 'user_agent_parts', 'device_parts',
  ]) }}
{%- endmacro %}

{# Columns that it takes from the last. #}
{% macro last_page_columns() -%}
  {{ return([
    'page_title', 'page_url', 'page_urlscheme', 'page_urlhost', 'page_urlpath', 'page_urlquery', 'page_urlfragment',
    'geo_country', 'geo_region_name', 'geo_city', 'br_lang',
  ]) }}
{%- endmacro %}

{# All values of an event as one text, to choose between copies that were received at once; pseudonyms differ from home to home. #}
{% macro web_event_text() -%}
  {% if execute %}
  concat_ws(chr(31) {%- for column in lakehouse_contract('web_events').columns if column.name != 'user_ipaddress' %}, coalesce(cast({{ adapter.quote(column.name) }} as varchar), '') {%- endfor %})
  {% else %}
  event_id
  {% endif %}
{%- endmacro %}

{# The steps of the shop's funnel, each with the events that take it. #}
{% macro funnel_steps() -%}
  {{ return({
    'product_view': ['product_view', 'view_item'],
    'cart': ['add_to_cart'],
    'checkout': ['begin_checkout', 'checkout'],
    'purchase': ['purchase', 'transaction'],
  }) }}
{%- endmacro %}

{% macro takes_step(step) -%}
  event_name in ({% for name in funnel_steps()[step] %}'{{ name }}'{{ ', ' if not loop.last }}{% endfor %})
{%- endmacro %}
