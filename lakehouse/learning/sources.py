"""The feature views that dbt declares, for those who need them."""

from collections.abc import Mapping

from lakehouse.contracts import ModelContract, load_contracts
from lakehouse.errors import TableNotFound
from lakehouse.features import FeatureSource, FeatureView, feature_views
from lakehouse.settings import Settings
from lakehouse.tables import Lake


def declared_views(settings: Settings, contract: ModelContract) -> Mapping[str, FeatureView]:
    """Every feature view of the project; none where the contract asks for none, so that dbt need not be loaded.

    Raises:
        TransformError: dbt can't parse the project.
        FeatureError: a view is declared wrongly.
    """
    if not contract.feature_views:
        return {}
    from lakehouse.transform import prepare

    contracts = load_contracts(settings)
    return feature_views(prepare(settings, contracts), contracts)


def require_tables(lake: Lake, source: FeatureSource) -> None:
    """Every table that a model reads is there.

    Raises:
        TableNotFound: one has not been built.
    """
    name = source.contract.name
    for table in source.tables:
        if not lake.exists(table):
            raise TableNotFound(table, f"has not been built yet, and model {name} learns from it", fix=f"Run `lakehouse run {name}`")
