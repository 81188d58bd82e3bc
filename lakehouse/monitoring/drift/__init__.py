"""Drift: how far what comes now is from what was known, with effect sizes, so that neither many rows nor few alarm for nothing."""

from lakehouse.monitoring.drift.files import compare_files
from lakehouse.monitoring.drift.judging import ColumnDrift, DriftLimits, DriftReport, Verdict, measure_drift
from lakehouse.monitoring.drift.models import ModelDrift, NotCompared, limits_of, measure_file_drift, measure_model_drift, measure_models
from lakehouse.monitoring.drift.reference import Reference, profile_reference

__all__ = [
    "ColumnDrift",
    "DriftLimits",
    "DriftReport",
    "ModelDrift",
    "NotCompared",
    "Reference",
    "Verdict",
    "compare_files",
    "limits_of",
    "measure_drift",
    "measure_file_drift",
    "measure_model_drift",
    "measure_models",
    "profile_reference",
]
