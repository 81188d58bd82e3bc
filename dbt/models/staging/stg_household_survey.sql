{{ config(alias='household_survey', materialized='incremental', unique_key=['interview_id']) }}

{{ stage_dataset('household_survey') }}
