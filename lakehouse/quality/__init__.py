"""What was asked of the data and what it answered."""

from lakehouse.quality.batches import PROFILES_TABLE, BatchProfile, ColumnProfile, profile_sql, read_profiles
from lakehouse.quality.measures import measured
from lakehouse.quality.references import check_references
from lakehouse.quality.results import CHECKS_TABLE, CheckResult, results_sql
from lakehouse.quality.statistics import check_batch, checks_not_made

__all__ = [
    "CHECKS_TABLE",
    "PROFILES_TABLE",
    "BatchProfile",
    "CheckResult",
    "ColumnProfile",
    "check_batch",
    "check_references",
    "checks_not_made",
    "measured",
    "profile_sql",
    "read_profiles",
    "results_sql",
]
