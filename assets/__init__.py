"""Dagster assets and checks: each calls one function of the library and reports what happened."""
