"""What dbt knows of the raw tables: one source per dataset contract, written down where dbt looks for it."""

from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from lakehouse.contracts import DatasetContract

# What ingestion adds to the columns of a contract, in every raw table.
PROVENANCE: Mapping[str, str] = {
    "_batch": "BIGINT",
    "_file": "VARCHAR",
    "_sha256": "VARCHAR",
    "_row": "BIGINT",
    "_ingested_at": "TIMESTAMP WITH TIME ZONE",
    "_arrival": "BIGINT",
}
_PROVENANCE_MEANING = {
    "_batch": "Ingestion batch that brought the row.",
    "_file": "Name of the file as it arrived.",
    "_sha256": "Digest of the file's bytes.",
    "_row": "Row or line number in the file.",
    "_ingested_at": "When the batch was accepted.",
    "_arrival": "Batch in which the file of a replayed row arrived; empty where that is _batch.",
}
HEADER = "# Generated from the dataset contracts: `lakehouse` writes it again whenever one changes. Edit the contract instead.\n"


def raw_columns(contract: DatasetContract) -> dict[str, str]:
    """Columns and DuckDB types of a dataset's raw table."""
    own = {column.name: column.stored_type for column in contract.columns if column.protection != "drop"}
    return {**own, **PROVENANCE}


def source_yaml(contracts: Iterable[DatasetContract]) -> str:
    """The dbt source file of these datasets; the same text for the same contracts."""
    tables = [_table(contract) for contract in sorted(contracts, key=lambda contract: contract.name)]
    source = {"name": "raw", "schema": "raw", "description": "Accepted rows, typed by their contracts, as they arrived.", "tables": tables}
    text = yaml.safe_dump({"version": 2, "sources": [source]}, sort_keys=False, allow_unicode=True, width=140)
    return HEADER + text


def _table(contract: DatasetContract) -> dict[str, Any]:
    own: dict[str, Any] = {
        "primary_key": list(contract.primary_key),
        "event_timestamp": contract.event_timestamp,
        "entity": list(contract.entity),
        "contract_version": contract.version,
    }
    described = {column.name: column.description for column in contract.columns}
    return {
        "name": contract.name,
        "description": plain_text(contract.description),
        "config": {"meta": {"domain": contract.domain, "lakehouse": own}},
        "columns": [
            {"name": name, "data_type": kind, "description": plain_text(described.get(name) or _PROVENANCE_MEANING.get(name, ""))}
            for name, kind in raw_columns(contract).items()
        ],
    }


def plain_text(text: str) -> str:
    """A description as dbt can take it, which renders descriptions as Jinja."""
    return text.replace("{", "(").replace("}", ")").strip()
