"""What was asked of the data and what it answered."""

from lakehouse.quality.references import check_references
from lakehouse.quality.results import CHECKS_TABLE, CheckResult, results_sql
from lakehouse.quality.statistics import (
    PROFILES_TABLE,
    BatchProfile,
    ColumnProfile,
    check_batch,
    checks_not_made,
    profile_sql,
    read_profiles,
)

__all__ = [
    "CHECKS_TABLE",
    "PROFILES_TABLE",
    "BatchProfile",
    "CheckResult",
    "ColumnProfile",
    "check_batch",
    "check_references",
    "checks_not_made",
    "profile_sql",
    "read_profiles",
    "results_sql",
]
