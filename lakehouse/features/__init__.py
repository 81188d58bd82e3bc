"""Features: views declared in dbt, and the point-in-time join over them."""

from lakehouse.features.offline import Historical, historical_features
from lakehouse.features.point_in_time import (
    JoinedView,
    StepwiseQuery,
    default_literals,
    newest_sql,
    output_names,
    point_in_time,
    point_in_time_sql,
)
from lakehouse.features.training_set import (
    LABEL,
    FeatureSource,
    ModelRows,
    described,
    feature_source,
    prediction_set,
    relation,
    target_columns,
    training_set,
    view_tables,
)
from lakehouse.features.views import FeatureView, feature_views, find_view

__all__ = [
    "LABEL",
    "FeatureSource",
    "FeatureView",
    "Historical",
    "JoinedView",
    "ModelRows",
    "StepwiseQuery",
    "default_literals",
    "described",
    "feature_source",
    "feature_views",
    "find_view",
    "historical_features",
    "newest_sql",
    "output_names",
    "point_in_time",
    "point_in_time_sql",
    "prediction_set",
    "relation",
    "target_columns",
    "training_set",
    "view_tables",
]
