"""Dagster sensors and schedules: they only start runs; correctness never depends on them."""
