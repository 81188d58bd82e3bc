"""The lakehouse library: contracts, tables, ingestion, features and models. Knows nothing of Dagster."""
