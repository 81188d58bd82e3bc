"""Tables, files, jobs and runs in the words of OpenLineage 2-0-2. Names and counts only, no values of rows."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

from lakehouse.errors import LakehouseError
from lakehouse.tables import CommitInfo, Lake
from lakehouse.tables.snapshot import Snapshot

PRODUCER = f"urn:lakehouse:{version('lakehouse')}"
_SPEC = "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent"
_FACETS = "https://openlineage.io/spec/facets"
_VERSIONS = {
    "SchemaDatasetFacet": "1-2-0",
    "DatasetVersionDatasetFacet": "1-0-1",
    "OutputStatisticsOutputDatasetFacet": "1-0-2",
    "ColumnLineageDatasetFacet": "1-2-0",
    "DataQualityMetricsDatasetFacet": "1-0-1",
    "DataQualityAssertionsDatasetFacet": "1-1-0",
    "ErrorMessageRunFacet": "1-0-1",
    "ParentRunFacet": "1-2-0",
    "JobTypeJobFacet": "2-0-4",
    "SymlinksDatasetFacet": "1-0-1",
    "LifecycleStateChangeDatasetFacet": "1-0-1",
    "ProcessingEngineRunFacet": "1-1-1",
}
Facet = dict[str, Any]
ColumnSources = Mapping[str, list[tuple[str, str]]]
"""For each column of a table, the tables and columns it comes from."""


@dataclass(frozen=True, slots=True)
class Assertion:
    """A question that was asked of a table, and its answer.

    Attributes:
        name: of the rule or test.
        kind: what sort of question: `unique`, `maximum`.
        blocks: whether what is downstream waits where it fails; otherwise somebody is warned.
        failed: how many rows, or things, it is not true of.
    """

    name: str
    kind: str
    passed: bool
    blocks: bool
    failed: int = 0
    column: str | None = None


def facet(kind: str, **fields: Any) -> Facet:
    """A facet of the specification's kind and version."""
    return {"_producer": PRODUCER, "_schemaURL": f"{_FACETS}/{_VERSIONS[kind]}/{kind}.json#/$defs/{kind}", **fields}


def run_id(run: str) -> str:
    """The id of a run of the lakehouse as OpenLineage wants it: the same for the same run."""
    try:
        return str(uuid.UUID(run))
    except ValueError:
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"lakehouse:{run}"))


def event(kind: str, *, at: str, run: Facet, job: Facet, inputs: list[Facet] | None = None, outputs: list[Facet] | None = None) -> Facet:
    """One event of a run."""
    return {
        "eventType": kind,
        "eventTime": at,
        "producer": PRODUCER,
        "schemaURL": _SPEC,
        "run": run,
        "job": job,
        "inputs": inputs or [],
        "outputs": outputs or [],
    }


def job_of(namespace: str, name: str, *, integration: str, kind: str) -> Facet:
    """A job with its type."""
    return {
        "namespace": namespace,
        "name": name,
        "facets": {"jobType": facet("JobTypeJobFacet", processingType="BATCH", integration=integration, jobType=kind)},
    }


def address_of(lake: Lake, table: str) -> Facet:
    """How OpenLineage names a table: by its place."""
    return _address(lake.storage.address(*table.split(".")))


def _address(place: str) -> Facet:
    if "://" not in place:
        return {"namespace": "file", "name": place}
    parts = urlsplit(place)
    return {"namespace": f"{parts.scheme}://{parts.netloc}", "name": parts.path.lstrip("/")}


def table_input(lake: Lake, namespace: str, table: str, at: int) -> Facet:
    """A table version that was read."""
    facets = {**_symlink(namespace, table), "version": facet("DatasetVersionDatasetFacet", datasetVersion=str(at))}
    snapshot = _open(lake, table, at)
    if snapshot is not None:
        facets["schema"] = _schema(snapshot)
    return {**address_of(lake, table), "facets": facets}


def file_input(lake: Lake, entry: Mapping[str, Any]) -> Facet:
    """A file that was ingested, where its bytes are kept."""
    archived = entry.get("archive")
    place = lake.storage.address(str(archived)) if archived else str(entry.get("file"))
    return {**_address(place), "facets": {"version": facet("DatasetVersionDatasetFacet", datasetVersion=str(entry.get("sha256")))}}


def judged_input(lake: Lake, namespace: str, table: str, at: int, assertions: Iterable[Assertion]) -> Facet:
    """A table version that was judged, with the answers: how many failed, not what they hold."""
    listed = [
        {"assertion": one.kind, "name": one.name, "success": one.passed, "severity": "error" if one.blocks else "warn"}
        | ({"column": one.column} if one.column else {})
        | ({} if one.passed else {"actual": str(one.failed)})
        for one in assertions
    ]
    judged = {"dataQualityAssertions": facet("DataQualityAssertionsDatasetFacet", assertions=listed)}
    return {**table_input(lake, namespace, table, at), "inputFacets": judged}


def table_output(lake: Lake, namespace: str, commits: Sequence[CommitInfo], columns: ColumnSources | None) -> Facet:
    """A table as a job's commits to it, newest first, have left it, with what the log knows of them."""
    commit, first = commits[0], commits[-1]
    table = str(commit.table)
    facets = {**_symlink(namespace, table), "version": facet("DatasetVersionDatasetFacet", datasetVersion=str(commit.version))}
    change = "CREATE" if first.version == 0 else "OVERWRITE" if commit.operation == "overwrite" else None
    if change is not None:
        facets["lifecycleStateChange"] = facet("LifecycleStateChangeDatasetFacet", lifecycleStateChange=change)
    rows = [one.rows for one in commits if one.rows is not None]
    written = {"rowCount": sum(rows)} if rows else {}
    snapshot = _open(lake, table, commit.version)
    if snapshot is not None:
        facets["schema"] = _schema(snapshot)
        facets["dataQualityMetrics"] = _metrics(snapshot)
        before = set(previous.addresses()) if first.version and (previous := _open(lake, table, first.version - 1)) is not None else set()
        added = [file for file in snapshot.files if file.uri not in before]
        written |= {"size": sum(file.size for file in added), "fileCount": len(added)}
    if columns:
        fields = {
            column: {
                "inputFields": [
                    {**address_of(lake, source), "field": name, "transformations": [{"type": "DIRECT"}]} for source, name in sources
                ]
            }
            for column, sources in columns.items()
        }
        facets["columnLineage"] = facet("ColumnLineageDatasetFacet", fields=fields)
    statistics = facet("OutputStatisticsOutputDatasetFacet", **written)
    return {**address_of(lake, table), "facets": facets, "outputFacets": {"outputStatistics": statistics}}


def _symlink(namespace: str, table: str) -> dict[str, Facet]:
    identifiers = [{"namespace": namespace, "name": table, "type": "TABLE"}]
    return {"symlinks": facet("SymlinksDatasetFacet", identifiers=identifiers)}


def _open(lake: Lake, table: str, at: int) -> Snapshot | None:
    try:
        return lake.snapshot(table, at)
    except LakehouseError:
        return None  # Vacuumed meanwhile, or its log is gone: the event says what is left to say.


def _schema(snapshot: Snapshot) -> Facet:
    fields = [{"name": column.name, "type": column.sql_type, "ordinal_position": place} for place, column in enumerate(snapshot.columns, 1)]
    return facet("SchemaDatasetFacet", fields=fields)


def _metrics(snapshot: Snapshot) -> Facet:
    """Rows and missing values, as the log counts them."""
    counts: dict[str, int] = {}
    for column in snapshot.columns:
        known = [file.facts.get(f"null_count.{column.name}") for file in snapshot.files]
        if known and all(isinstance(count, int) for count in known):
            counts[column.name] = sum(count for count in known if count is not None)
    rows = [file.rows for file in snapshot.files]
    totals: dict[str, Any] = {"bytes": sum(file.size for file in snapshot.files), "fileCount": len(snapshot.files)}
    if all(count is not None for count in rows):
        totals["rowCount"] = sum(count or 0 for count in rows)
    return facet("DataQualityMetricsDatasetFacet", columnMetrics={name: {"nullCount": count} for name, count in counts.items()}, **totals)
