{{ config(alias='payments', materialized='incremental', unique_key=['payment_id']) }}

{{ stage_dataset('payments', newest=['paid_at']) }}
