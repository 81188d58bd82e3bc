"""The feature views that dbt declares, for those who need them."""

from collections.abc import Mapping

from lakehouse.contracts import ModelContract
from lakehouse.features import FeatureView, feature_views
from lakehouse.settings import Settings


def declared_views(settings: Settings, contract: ModelContract) -> Mapping[str, FeatureView]:
    """Every feature view of the project; none where the contract asks for none, so that dbt need not be loaded.

    Raises:
        TransformError: dbt can't parse the project.
        FeatureError: a view is declared wrongly.
    """
    if not contract.feature_views:
        return {}
    from lakehouse.transform import prepare

    return feature_views(prepare(settings))
