"""What a materialisation says about a Delta table, in the names that Dagster's UI understands. Read from the log alone, never by counting rows."""

import json
from collections.abc import Mapping
from typing import Any

import dagster as dg

from lakehouse.tables import Lake


def table_metadata(lake: Lake, table: str, *, before: int | None) -> dict[str, Any]:
    """Rows, place, columns and versions of a table as it is now.

    Args:
        lake: the tables.
        table: `layer.name`.
        before: the version before this run; None when the run created the table.
    """
    version = lake.version(table)
    if version is None:
        return {"delta/state": dg.MetadataValue.text("not created yet: nothing has been written to it")}
    detail = lake.detail(table)
    newest = lake.content_commit(table)
    metadata: dict[str, Any] = {
        "dagster/row_count": dg.IntMetadataValue(detail.rows),
        "dagster/table_name": table,
        "dagster/uri": _uri(lake, table),
        "dagster/column_schema": column_schema(detail.columns),
        "delta/version": dg.IntMetadataValue(version),
        "delta/version_before": dg.MetadataValue.text("none") if before is None else dg.IntMetadataValue(before),
        "delta/size_bytes": dg.IntMetadataValue(detail.bytes),
        "delta/files": dg.IntMetadataValue(detail.files),
    }
    if newest is not None and newest.stamp is not None and newest.stamp.inputs:
        metadata["delta/inputs"] = inputs_table(newest.stamp.inputs)
    return metadata


def column_schema(columns: Mapping[str, str]) -> dg.TableSchema:
    """Columns and types as the UI's column list shows them."""
    return dg.TableSchema([dg.TableColumn(name, type=sql_type) for name, sql_type in columns.items()])


def described_columns(columns: Mapping[str, tuple[str, str]]) -> dg.TableSchema:
    """Columns with type and meaning, for a definition."""
    return dg.TableSchema([dg.TableColumn(name, type=kind, description=meaning or None) for name, (kind, meaning) in columns.items()])


def inputs_table(inputs: Mapping[str, int]) -> dg.MarkdownMetadataValue:
    """The versions that were read, one line per table."""
    lines = [f"| {table} | {version} |" for table, version in sorted(inputs.items())]
    return dg.MarkdownMetadataValue("\n".join(["| read | version |", "| --- | ---: |", *lines]))


def records_table(records: list[dict[str, Any]]) -> dg.MarkdownMetadataValue:
    """A few records as a table; values are shown as they are."""
    if not records:
        return dg.MarkdownMetadataValue("none")
    header = list(records[0])
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    lines += ["| " + " | ".join(_cell(record[name]) for name in header) + " |" for record in records]
    return dg.MarkdownMetadataValue("\n".join(lines))


def data_version(lake: Lake, table: str) -> dg.DataVersion | None:
    """The Delta version that last changed a row: what is downstream is stale exactly when this has moved, and maintenance does not move it.

    Of fixed width, because Dagster joins several without a delimiter.
    """
    version = lake.content_version(table)
    return None if version is None else dg.DataVersion(f"{version:020d}")


def _uri(lake: Lake, table: str) -> str:
    root = str(lake.uri)
    place = f"{root.rstrip('/')}/{table.replace('.', '/', 1)}"
    return place if "://" in place else f"file://{place}"


def _cell(value: object) -> str:
    text = value if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else json.dumps(value, default=str)
    return text.replace("|", "\\|").replace("\n", " ")
