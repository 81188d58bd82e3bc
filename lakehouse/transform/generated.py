"""dbt files for datasets that the project itself has no models for: added ones work without a line of SQL.

They are a dbt package in the home, beside its tables, and follow the contracts: what a contract no longer asks for is removed.
A package, because dbt writes compiled SQL at a model's path relative to its project: a model path outside of the project would
send it astray, over the model itself where the path is absolute.
"""

import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from lakehouse.contracts import Contracts, DatasetContract, ModelContract
from lakehouse.durable import write_whole
from lakehouse.errors import ContractError
from lakehouse.settings import Settings
from lakehouse.sql import quote_identifier
from lakehouse.transform.registered import registered_views
from lakehouse.transform.sources import HEADER, plain_text, raw_columns, source_yaml

_SQL_HEADER = "-- " + HEADER.removeprefix("# ")
ROW_ID = "row_id"
ADDED = "added"
"""The package's name."""
_PROJECT = (
    HEADER
    + f"""name: {ADDED}
version: "1.0.0"
config-version: 2
model-paths: [models]
models:
  {ADDED}:
    +materialized: table
    +on_schema_change: append_new_columns
    staging: {{+schema: staging}}
    analytics: {{+schema: analytics}}
    features: {{+schema: features}}
"""
)


def packages_dir(settings: Settings) -> Path:
    """Where dbt looks for packages; dbt_project.yml says the same."""
    return settings.dbt_home / "packages"


def write_generated(settings: Settings, contracts: Contracts) -> None:
    """Make the generated files of the home those that the contracts ask for; a file with the right text is not touched."""
    folder = packages_dir(settings) / ADDED
    wanted = {folder / name: text for name, text in generated_files(settings, contracts).items()}
    for path, text in wanted.items():
        if not path.is_file() or path.read_text("utf-8") != text:
            write_whole(path, text)
    models = folder / "models"
    for path in [*models.rglob("*.sql"), *models.rglob("*.yml")]:
        if path not in wanted and _is_generated(path):
            path.unlink(missing_ok=True)
    # What somebody else put there stays, and so does the package around it.
    if not wanted and folder.is_dir() and not any(path.is_file() for path in models.rglob("*")):
        # dbt takes every folder here for a package, but for those that begin with two underscores.
        leaving = folder.with_name(f"__{ADDED}.{os.getpid()}")
        with suppress(FileNotFoundError):
            folder.rename(leaving)
        shutil.rmtree(leaving, ignore_errors=True)


def generated_files(settings: Settings, contracts: Contracts) -> dict[str, str]:
    """The text of every generated file, by its path inside the package; none if the project has models for all that there is.

    Raises:
        FeatureError: a registered view's file is no declaration.
    """
    project = settings.project / "dbt" / "models"
    own_models = {path.stem for path in project.rglob("*.sql")} | {path.stem for path in project.rglob("*.py")}
    own_sources = _declared_sources(project / "_sources.yml")
    files: dict[str, str] = {}
    added = [contract for name, contract in sorted(contracts.datasets.items()) if name not in own_sources]
    if added:
        files["models/_sources.yml"] = source_yaml(added)
    for name, contract in sorted(contracts.datasets.items()):
        is_added = f"stg_{name}" not in own_models
        if is_added:
            files[f"models/staging/stg_{name}.sql"] = _staging_sql(contract)
            files[f"models/staging/_{name}.yml"] = _models_yaml([_staging_properties(contract)])
        models = contracts.models_of(name)
        view = f"{name}_features"
        if view not in own_models and _wants_features(contract, models, is_added=is_added):
            files[f"models/features/{view}.sql"] = _features_sql(contract, models)
            files[f"models/features/_{name}.yml"] = _models_yaml([_features_properties(contract, models)])
    for name, view in registered_views(settings).items():
        # The project's own model of that name is the view.
        if name not in own_models and f"models/features/{name}.sql" not in files:
            files[f"models/features/{name}.sql"] = _SQL_HEADER + view.sql()
            files[f"models/features/_registered_{name}.yml"] = _models_yaml([view.properties()])
    # First: a folder without it would be a broken package to a dbt that starts just now.
    return {"dbt_project.yml": _PROJECT, **files} if files else {}


def staging_key(contract: DatasetContract) -> tuple[str, ...]:
    """What tells the rows of a staging table apart: the primary key, or the row's place in its file."""
    return contract.primary_key or (ROW_ID,)


def feature_columns(contract: DatasetContract, models: Sequence[ModelContract]) -> list[str]:
    """Columns that may be features: neither key nor time nor protected, and no part of what a model predicts."""
    keys = {*_entity(contract), *staging_key(contract), contract.event_timestamp}
    targets = {name for model in models for name in _target_columns(contract, model)}
    return [column.name for column in contract.columns if not column.protected and column.name not in keys | targets]


def _wants_features(contract: DatasetContract, models: Sequence[ModelContract], *, is_added: bool) -> bool:
    """A model asks for the view by name; or the dataset is an added one with a model, or with an entity and a time."""
    asked = {name.removeprefix("features.") for model in models for name in model.feature_views}
    if asked or not is_added:
        return f"{contract.name}_features" in asked
    return bool(models) or bool(contract.entity and contract.event_timestamp)


def _target_columns(contract: DatasetContract, model: ModelContract) -> set[str]:
    """The columns that a target is made of: they would give it away."""
    if model.target_column is not None:
        return {model.target_column}
    import sqlglot
    from sqlglot import expressions
    from sqlglot.errors import SqlglotError

    try:
        parsed = sqlglot.parse_one(model.target, dialect="duckdb")
    except SqlglotError as error:
        raise ContractError(f"model {model.name}: target_sql", "is not SQL", found=model.target, fix="Correct the expression") from error
    named = {column.name.casefold() for column in parsed.find_all(expressions.Column)}
    return {column.name for column in contract.columns if column.name.casefold() in named}


def _entity(contract: DatasetContract) -> tuple[str, ...]:
    return contract.entity or staging_key(contract)


def _staging_sql(contract: DatasetContract) -> str:
    config = f"alias='{contract.name}', materialized='incremental', unique_key={list(staging_key(contract))!r}"
    return f"{_SQL_HEADER}{{{{ config({config}) }}}}\n\n{{{{ stage_dataset('{contract.name}') }}}}\n"


def _staging_properties(contract: DatasetContract) -> dict[str, Any]:
    described = {column.name: column.description for column in contract.columns}
    names = [*([] if contract.primary_key else [ROW_ID]), *raw_columns(contract)]
    columns: list[dict[str, Any]] = [{"name": name, "description": plain_text(described.get(name, ""))} for name in names]
    key = staging_key(contract)
    if len(key) == 1:
        next(column for column in columns if column["name"] == key[0])["data_tests"] = ["not_null", "unique"]
    return {
        "name": f"stg_{contract.name}",
        "description": plain_text(contract.description) or f"The rows of {contract.name}, deduplicated and cleaned.",
        "config": {"tags": [contract.domain], "meta": {"domain": contract.domain, "dataset": contract.name}},
        "columns": columns,
    }


def _features_sql(contract: DatasetContract, models: Sequence[ModelContract]) -> str:
    times = [contract.event_timestamp] if contract.event_timestamp else []
    keys: list[str] = list(dict.fromkeys([*_entity(contract), *times]))
    row_keys = [f"{quote_identifier(name)} as {quote_identifier('_' + name)}" for name in _row_key(contract)]
    selected = [
        *(quote_identifier(name) for name in keys),
        "_ingested_at as known_at",
        *(quote_identifier(name) for name in feature_columns(contract, models)),
        *row_keys,
        "_batch",
    ]
    unique = ["_" + name for name in _row_key(contract)] or list(_entity(contract))
    config = f"materialized='incremental', unique_key={unique!r}"
    return (
        f"{_SQL_HEADER}{{{{ config({config}) }}}}\n\n"
        "select\n    " + ",\n    ".join(selected) + f"\nfrom {{{{ ref('stg_{contract.name}') }}}}\n"
        "{% if is_incremental() %}\nwhere _batch > (select coalesce(max(built._batch), -1) from {{ this }} as built)\n{% endif %}\n"
    )


def _row_key(contract: DatasetContract) -> list[str]:
    """Key columns of the row that are not already there as its entity; kept under names that make them no features."""
    return [] if set(staging_key(contract)) == set(_entity(contract)) else list(staging_key(contract))


def _features_properties(contract: DatasetContract, models: Sequence[ModelContract]) -> dict[str, Any]:
    view: dict[str, Any] = {"entity": list(_entity(contract)), "known_timestamp": "known_at", "online": True}
    if contract.event_timestamp:
        view["event_timestamp"] = contract.event_timestamp
    if contract.owner:
        view["owner"] = contract.owner
    described = {column.name: column.description for column in contract.columns}
    names = [*view["entity"], *feature_columns(contract, models)]
    return {
        "name": f"{contract.name}_features",
        "description": f"What may be known of {' and '.join(view['entity'])}, without what is predicted.",
        "config": {
            "tags": [contract.domain],
            "meta": {"domain": contract.domain, "dataset": contract.name, "feature_view": view},
        },
        "columns": [{"name": name, "description": plain_text(described.get(name, ""))} for name in names],
    }


def _models_yaml(models: Sequence[Mapping[str, Any]]) -> str:
    document = {"version": 2, "models": [dict(model) for model in models]}
    return HEADER + yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=140)


def _declared_sources(path: Path) -> set[str]:
    if not path.is_file():
        return set()
    document: dict[str, Any] = yaml.safe_load(path.read_text("utf-8")) or {}
    return {str(table["name"]) for source in document.get("sources", []) for table in source.get("tables", [])}


def _is_generated(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8") as file:
            return file.readline() in {HEADER, _SQL_HEADER}
    except FileNotFoundError:
        return False
