"""Dagster resources: the settings' objects, made once."""
