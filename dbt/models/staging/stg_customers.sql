{{ config(alias='customers', materialized='incremental', unique_key=['customer_id']) }}

{{ stage_dataset('customers', newest=['updated_at']) }}
