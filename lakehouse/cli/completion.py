"""Names the shell completes. A completion never fails: without a project there is nothing to offer."""

from lakehouse.errors import LakehouseError


def dataset_names(incomplete: str) -> list[str]:
    """Datasets that have a contract."""
    return _starting(incomplete, "datasets")


def model_names(incomplete: str) -> list[str]:
    """Models that have a contract."""
    return _starting(incomplete, "models")


def dataset_and_model_names(incomplete: str) -> list[str]:
    """Both, for commands that take either."""
    return sorted({*dataset_names(incomplete), *model_names(incomplete)})


def table_names(incomplete: str) -> list[str]:
    """Tables that exist."""
    from lakehouse.pipeline.workspace import Workspace

    try:
        return [str(table) for table in Workspace.load().lake.tables() if str(table).startswith(incomplete)]
    except (LakehouseError, OSError):
        return []


def feature_view_names(incomplete: str) -> list[str]:
    """Feature views that dbt declares, as far as their tables are there: asking dbt would take too long."""
    return [name.removeprefix("features.") for name in table_names(f"features.{incomplete}")]


def _starting(incomplete: str, kind: str) -> list[str]:
    from lakehouse.pipeline.workspace import Workspace

    try:
        contracts = Workspace.load().contracts
    except (LakehouseError, OSError):
        return []
    names = contracts.datasets if kind == "datasets" else contracts.models
    return sorted(name for name in names if name.startswith(incomplete))
