"""How good the data is, how much of it there is, and how the models do: measured and kept in `monitoring` tables."""

from lakehouse.monitoring.checks import newest_checks
from lakehouse.monitoring.distributions import Spread, prediction_spread
from lakehouse.monitoring.performance import Performance, measure_performance
from lakehouse.monitoring.quality import (
    QualityScore,
    TableProfile,
    latest_quality,
    profile_dataset,
    profile_datasets,
    profile_table,
    quality_trend,
    score_of,
)
from lakehouse.monitoring.storage import TableSize, measure_storage
from lakehouse.monitoring.volumes import BatchVolume, DatasetVolume, batch_volumes, dataset_volume

__all__ = [
    "BatchVolume",
    "DatasetVolume",
    "Performance",
    "QualityScore",
    "Spread",
    "TableProfile",
    "TableSize",
    "batch_volumes",
    "dataset_volume",
    "latest_quality",
    "measure_performance",
    "measure_storage",
    "newest_checks",
    "prediction_spread",
    "profile_dataset",
    "profile_datasets",
    "profile_table",
    "quality_trend",
    "score_of",
]
