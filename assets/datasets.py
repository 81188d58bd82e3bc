"""Raw and quarantine tables of every dataset, with the checks of its contract. Adding a contract adds them; no Python is written."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets import plots
from assets.metadata import data_version, described_columns, records_table, table_metadata
from assets.naming import asset_key, owners, slug
from assets.quality import quality_metadata
from lakehouse.contracts import DatasetContract, Level, Severity
from lakehouse.pipeline.workspace import Workspace

if TYPE_CHECKING:
    from lakehouse.ingest import Arrived, IngestReport
    from lakehouse.monitoring import BatchVolume, DatasetVolume
    from lakehouse.pipeline.rejected import QuarantineCount, QuarantinedRow
    from lakehouse.privacy.erasure.suppression import RowsGone
    from lakehouse.quality import CheckResult
    from lakehouse.quality.profile import Profile
    from lakehouse.tables import Lake

_SHOWN_FILES = 20
_SHOWN_BATCHES = 30
# A larger table is profiled by the quality job: its files should not wait for that.
_PROFILED_ROWS = 2_000_000
CONSERVATION = "rows_read_equal_accepted_plus_quarantined"
READABLE = "every_file_could_be_read"
LEVEL_CLAIMS = {
    Level.STRUCTURAL: "every_row_has_the_columns_and_types",
    Level.SEMANTIC: "every_value_is_possible",
    Level.BUSINESS: "values_agree_with_each_other",
    Level.STATISTICAL: "the_batch_is_like_earlier_ones",
}
_PROVENANCE = {
    "_batch": ("BIGINT", "Number of the batch that brought the row."),
    "_file": ("VARCHAR", "Name of the file as it arrived."),
    "_sha256": ("VARCHAR", "Digest of the file's bytes; the original is kept under it."),
    "_row": ("BIGINT", "Number of the row or line in the file."),
    "_ingested_at": ("TIMESTAMP WITH TIME ZONE", "When the batch was ingested."),
    "_arrival": ("BIGINT", "Number of the batch in which the file of a replayed row arrived; NULL where `_batch` is that."),
}
_QUARANTINE_COLUMNS = {
    **_PROVENANCE,
    "record": ("VARCHAR", "The row as it arrived, as JSON."),
    "level": ("VARCHAR", "The worst level that failed: structural, semantic or business."),
    "rules": ("VARCHAR[]", "Every rule the row broke."),
    "reasons": ("VARCHAR[]", "For each rule, what was found and what was expected."),
    "status": ("VARCHAR", "`waiting` until somebody decides, then `replayed` (it is in raw) or `discarded`."),
    "attempts": ("INTEGER", "How often the row was judged, ingestion included."),
    "changed_at": ("TIMESTAMP WITH TIME ZONE", "When somebody last decided on it."),
    "changed_by": ("VARCHAR", "Who did."),
    "history": ("VARCHAR", "Every decision as JSON: at, by, run, batch, action, note, and changed values before and after."),
}
PATIENCE = "no_row_waits_too_long"
_LONGEST_WAIT = timedelta(days=7)
_SHOWN_ROWS = 10
LIMIT = "quarantined_share_is_within_the_limit"


def build_dataset_assets(contract: DatasetContract) -> dg.AssetsDefinition:
    """The step that ingests what waits in a dataset's landing folder."""

    @dg.multi_asset(
        name=f"ingest_{contract.name}",
        specs=[_raw_spec(contract), _quarantine_spec(contract)],
        check_specs=_check_specs(contract),
        can_subset=True,
        pool=contract.raw,
    )
    def ingest_dataset(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> Iterator[Any]:
        lake, run, now = workspace.lake, context.run.run_id, datetime.now(UTC)
        before = {table: lake.version(table) for table in (contract.raw, contract.quarantine)}
        report: IngestReport | None = None
        # Asked for its checks alone, the step changes nothing: they judge what is there.
        if context.selected_asset_keys:
            report = _ingest(context, workspace, contract, run=run, now=now)
        yield from _results(context, lake, contract, report, _State.after(workspace, contract, before, run=run, now=now))

    return ingest_dataset


def _ingest(
    context: dg.AssetExecutionContext, workspace: Workspace, contract: DatasetContract, *, run: str, now: datetime
) -> "IngestReport":
    from lakehouse.pipeline.ingestion import ingest_arrived

    report = ingest_arrived(workspace, contract, run=run, now=now)
    files = ", ".join(f"{count:,} {status}" for status, count in report.counts().items())
    context.log.info(
        f"files: {files}; rows: {report.rows_read:,} read, {report.rows_accepted:,} accepted, {report.rows_quarantined:,} quarantined"
    )
    for topic in report.topics:
        context.log.info(f"topic {topic.topic}: {topic.messages:,} messages read, {topic.lag:,} behind")
        if topic.lost:
            context.log.warning(f"topic {topic.topic} had removed {topic.lost:,} messages before they were read")
    for slot in (table.replicated for table in report.slots if table.replicated is not None):
        context.log.info(f"slot {slot.slot}: {slot.lag_bytes:,} bytes behind, {slot.retained_bytes:,} bytes kept by the server for it")
    for file in report.files:
        if file.status == "refused":
            context.log.warning(f"refused: {file.path}: {file.error}")
        for warning in file.warnings:
            context.log.warning(warning)
    return report


def landing_spec(contract: DatasetContract) -> dg.AssetSpec:
    """The folder in which the files arrive: nothing makes it, so it is external."""
    return dg.AssetSpec(
        key=["landing", contract.name],
        description=f"Files of {contract.name} as they arrive: {', '.join(contract.landing.paths) or 'its landing folder'}.",
        group_name=slug(contract.domain),
        kinds={"landing", "file"},
        owners=owners(contract.owner),
        tags={"layer": "landing"},
    )


def _raw_spec(contract: DatasetContract) -> dg.AssetSpec:
    key = ", ".join(contract.primary_key) or "file and row number"
    return dg.AssetSpec(
        key=asset_key(contract.raw),
        deps=[dg.AssetKey(["landing", contract.name])],
        description=f"{contract.description}\n\nAccepted rows, typed by the contract, append-only. Key: {key}.",
        group_name=slug(contract.domain),
        kinds={"raw", "duckdb", "deltalake"},
        owners=owners(contract.owner),
        tags={"layer": "raw"},
        code_version=contract.digest[:12],
        skippable=True,
        metadata={
            "dagster/table_name": contract.raw,
            "dagster/column_schema": described_columns(
                {**{column.name: (column.stored_type, column.description) for column in contract.columns}, **_PROVENANCE}
            ),
            "lakehouse/contract_version": contract.version,
        },
    )


def _quarantine_spec(contract: DatasetContract) -> dg.AssetSpec:
    return dg.AssetSpec(
        key=asset_key(contract.quarantine),
        deps=[dg.AssetKey(["landing", contract.name])],
        description=f"Rows of {contract.name} that broke a rule, as they arrived, each with all its reasons. None is lost: a later contract can accept them.",
        group_name=slug(contract.domain),
        kinds={"quarantine", "duckdb", "deltalake"},
        owners=owners(contract.owner),
        tags={"layer": "quarantine"},
        code_version=contract.digest[:12],
        skippable=True,
        metadata={"dagster/table_name": contract.quarantine, "dagster/column_schema": described_columns(_QUARANTINE_COLUMNS)},
    )


def _check_specs(contract: DatasetContract) -> list[dg.AssetCheckSpec]:
    key = asset_key(contract.raw)
    limit = contract.quarantine_limit_percent
    claims = {
        CONSERVATION: "For every file ever ingested, rows read = rows accepted + rows quarantined.",
        LIMIT: f"At most {limit:g} % of a batch's rows are quarantined."
        if limit is not None
        else "The contract sets no limit to the share of quarantined rows.",
        READABLE: "Every file that arrived could be read as rows of the dataset.",
        LEVEL_CLAIMS[Level.STRUCTURAL]: "Each row has the columns, types and key the contract asks for; others are in quarantine.",
        LEVEL_CLAIMS[Level.SEMANTIC]: "Each value is in its range, pattern or list; rows with others are in quarantine.",
        LEVEL_CLAIMS[Level.BUSINESS]: "The values of a row agree with each other; rows in which they don't are in quarantine.",
        LEVEL_CLAIMS[
            Level.STATISTICAL
        ]: "Volume, nulls, means, spread, categories and outliers of the newest batch are those of the batches before.",
    }
    specs = [dg.AssetCheckSpec(name, asset=key, description=text, blocking=name in (CONSERVATION, LIMIT)) for name, text in claims.items()]
    waits = f"No quarantined row has waited for more than {_LONGEST_WAIT.days} days to be corrected, replayed or discarded."
    return [*specs, dg.AssetCheckSpec(PATIENCE, asset=asset_key(contract.quarantine), description=waits)]


def _results(
    context: dg.AssetExecutionContext, lake: "Lake", contract: DatasetContract, report: "IngestReport | None", state: "_State"
) -> Iterator[Any]:
    for table, extra in ((contract.raw, _raw_metadata(report, state)), (contract.quarantine, _quarantine_metadata(state))):
        if asset_key(table) not in context.selected_asset_keys or not lake.exists(table):
            continue
        quality = quality_metadata(state.profile) if state.profile and table == contract.raw else {}
        metadata = {**table_metadata(lake, table, before=state.before[table]), **quality, **extra}
        yield dg.MaterializeResult(asset_key=asset_key(table), metadata=metadata, data_version=data_version(lake, table))
    for result in [
        _conservation(state),
        _limit(contract, state),
        _readable(state),
        *(_level(level, state.checks) for level in LEVEL_CLAIMS),
        _patience(contract, state),
    ]:
        check = dg.AssetCheckKey(result.asset_key or asset_key(contract.raw), result.check_name or "")
        if check in context.selected_asset_check_keys:
            yield result._replace(asset_key=check.asset_key)


@dataclass(frozen=True, slots=True)
class _State:
    """The dataset as it is after ingestion."""

    before: Mapping[str, int | None]
    volumes: Sequence["BatchVolume"]
    total: "DatasetVolume"
    waiting_of_newest: int
    raw_rows: int
    gone: "RowsGone"
    quarantined: "QuarantineCount | None"
    waiting: Sequence["QuarantinedRow"]
    now: datetime
    checks: Sequence["CheckResult"]
    profile: "Profile | None"
    refused: Sequence[tuple["Arrived", str]]

    @classmethod
    def after(
        cls, workspace: Workspace, contract: DatasetContract, before: Mapping[str, int | None], *, run: str, now: datetime
    ) -> "_State":
        from lakehouse.ingest import pending
        from lakehouse.ingest.waiting import Selection
        from lakehouse.monitoring import batch_volumes, dataset_volume, newest_checks, profile_dataset
        from lakehouse.pipeline.rejected import WAITING, count_by_rule, quarantined_rows
        from lakehouse.privacy.erasure.suppression import rows_gone
        from lakehouse.tables.tiers import archive_tiers, rows_over

        lake = workspace.lake
        volumes = batch_volumes(lake, contract.name)
        newest = count_by_rule(lake, Selection(batch=volumes[-1].batch), dataset=contract.name) if volumes else {}
        return cls(
            before=before,
            volumes=volumes,
            total=dataset_volume(lake, contract.name),
            waiting_of_newest=newest[contract.name].rows if contract.name in newest else 0,
            raw_rows=rows_over(list(archive_tiers(workspace.settings, lake).values()), contract.raw),
            gone=rows_gone(lake, contract.name),
            quarantined=count_by_rule(lake, dataset=contract.name).get(contract.name),
            waiting=quarantined_rows(lake, contract.name, selection=WAITING, limit=_SHOWN_ROWS),
            now=now,
            checks=newest_checks(lake, contract.name),
            profile=profile_dataset(lake, contract, run=run, now=now, most_rows=_PROFILED_ROWS),
            # Also those of earlier runs: they are told as long as they lie there.
            refused=pending(lake, contract, settings=workspace.settings).refused,
        )


def _raw_metadata(report: "IngestReport | None", state: _State) -> dict[str, Any]:
    files = report.files if report is not None else ()
    records: list[dict[str, Any]] = [
        {
            "file": Path(file.path).name,
            "status": str(file.status),
            "read": file.rows_read,
            "accepted": file.rows_accepted,
            "quarantined": file.rows_quarantined,
        }
        for file in files
    ]
    shown = sorted(records, key=lambda file: file["status"] == "already")[:_SHOWN_FILES]
    more = len(records) - len(shown)
    metadata: dict[str, Any] = {"lakehouse/files": records_table(shown), "lakehouse/files_looked_at": dg.IntMetadataValue(len(files))}
    if report is not None and report.topics:
        metadata["lakehouse/lag_messages"] = dg.IntMetadataValue(sum(topic.lag for topic in report.topics))
        metadata["lakehouse/lost_messages"] = dg.IntMetadataValue(sum(topic.lost for topic in report.topics))
    if report is not None and report.slots:
        slots = [table.replicated for table in report.slots if table.replicated is not None]
        metadata["lakehouse/lag_bytes"] = dg.IntMetadataValue(sum(slot.lag_bytes for slot in slots))
        metadata["lakehouse/retained_bytes"] = dg.IntMetadataValue(sum(slot.retained_bytes for slot in slots))
    if more:
        metadata["lakehouse/files_not_shown"] = dg.IntMetadataValue(more)
    newest = state.volumes[-_SHOWN_BATCHES:]
    if newest:
        metadata["lakehouse/rows_per_batch"] = plots.rows_per_batch(
            [volume.batch for volume in newest], [volume.rows_accepted for volume in newest], [volume.rows_quarantined for volume in newest]
        )
    return metadata


def _quarantine_metadata(state: _State) -> dict[str, Any]:
    if state.quarantined is None:
        return {}
    rules = state.quarantined.rules
    found = state.quarantined
    shown: list[dict[str, Any]] = [
        {
            "file": row.file,
            "row": row.row,
            "arrived": f"{row.ingested_at:%Y-%m-%d %H:%M}",
            "attempts": row.attempts,
            "why": "; ".join(row.reasons),
        }
        for row in state.waiting
    ]
    since = {"lakehouse/waiting_since": dg.TimestampMetadataValue(found.oldest.timestamp())} if found.oldest else {}
    return {
        "lakehouse/waiting_rows": dg.IntMetadataValue(found.rows),
        **since,
        "lakehouse/replayed_rows": dg.IntMetadataValue(found.replayed),
        "lakehouse/discarded_rows": dg.IntMetadataValue(found.discarded),
        "lakehouse/samples": records_table(shown),
        "lakehouse/rows_by_rule": plots.bars("Quarantined rows by rule", {rule.rule: rule.rows for rule in rules}, unit="rows", bad=True),
        "lakehouse/reasons": records_table(
            [
                {
                    "rule": rule.rule,
                    "rows": rule.rows,
                    "oldest": f"{rule.oldest:%Y-%m-%d %H:%M}" if rule.oldest else "",
                    "example": rule.example or "",
                }
                for rule in rules[:12]
            ]
        ),
    }


def _conservation(state: _State) -> dg.AssetCheckResult:
    """The log says what was read; the tables say what is there."""
    total, found, gone = state.total, state.quarantined, state.gone
    kept = found.rows + found.discarded + total.rows_replaced if found else total.rows_replaced
    passed = (
        all(volume.conserved for volume in state.volumes)
        and total.rows_read == total.rows_accepted + total.rows_quarantined + total.rows_erased
        and (total.rows_accepted, total.rows_quarantined) == (state.raw_rows + gone.raw, kept + gone.quarantine)
    )
    erased = total.rows_erased + gone.raw + gone.quarantine
    told = f", {erased:,} erased" if erased else ""
    return dg.AssetCheckResult(
        check_name=CONSERVATION,
        passed=passed,
        description=f"{total.rows_read:,} read = {total.rows_accepted:,} accepted + {total.rows_quarantined:,} quarantined; "
        f"the tables hold {state.raw_rows:,} and {kept:,}{told}",
        metadata={
            "rows_read": total.rows_read,
            "rows_accepted": total.rows_accepted,
            "rows_quarantined": total.rows_quarantined,
            "rows_erased": erased,
        },
    )


def _limit(contract: DatasetContract, state: _State) -> dg.AssetCheckResult:
    """Rows that were replayed or discarded since wait no more: they hold nothing up."""
    newest = state.volumes[-1] if state.volumes else None
    percent = 100 * state.waiting_of_newest / newest.rows_read if newest and newest.rows_read else 0.0
    limit = contract.quarantine_limit_percent
    return dg.AssetCheckResult(
        check_name=LIMIT,
        passed=limit is None or percent <= limit,
        description=f"{percent:.2f} % of the newest batch is in quarantine; the limit is {'not set' if limit is None else f'{limit:g} %'}",
        metadata={"quarantined_percent": round(percent, 4)},
    )


def _patience(contract: DatasetContract, state: _State) -> dg.AssetCheckResult:
    """Somebody has to decide about what waits; until then the rows are missing in everything downstream."""
    found = state.quarantined
    late = [rule for rule in found.rules if rule.oldest and state.now - rule.oldest > _LONGEST_WAIT] if found else []
    days = (state.now - found.oldest).days if found and found.oldest else 0
    told = f"{found.rows:,} rows wait, the oldest for {days} days" if found and found.rows else "No row waits"
    fix = f": lakehouse quarantine show {contract.name} says why" if late else ""
    rows: list[dict[str, Any]] = [
        {"rule": rule.rule, "rows": rule.rows, "days": (state.now - rule.oldest).days if rule.oldest else 0} for rule in late[:_SHOWN_FILES]
    ]
    return dg.AssetCheckResult(
        asset_key=asset_key(contract.quarantine),
        check_name=PATIENCE,
        passed=not late,
        severity=dg.AssetCheckSeverity.WARN,
        description=told + fix,
        metadata={"rows_waiting": found.rows if found else 0, "days_of_the_oldest": days, "late": records_table(rows)},
    )


def _readable(state: _State) -> dg.AssetCheckResult:
    rows: list[dict[str, Any]] = [{"file": path.name, "why": why} for path, why in state.refused[:_SHOWN_FILES]]
    return dg.AssetCheckResult(
        check_name=READABLE,
        passed=not state.refused,
        description="; ".join(why for _, why in state.refused[:3]) or "No file in the landing folder is refused",
        metadata={"files_refused": len(state.refused), "refused": records_table(rows)},
    )


def _level(level: Level, checks: Sequence["CheckResult"]) -> dg.AssetCheckResult:
    asked = [check for check in checks if check.level is level]
    failed = [check for check in asked if not check.passed]
    # A row that broke a rule is in quarantine already; a batch that is unlike the others is in raw.
    stops = level is Level.STATISTICAL and any(check.severity is Severity.ERROR for check in failed)
    found = "; ".join(f"{check.id}: {check.detail}" if check.detail else f"{check.id}: {check.rows_failed:,} rows" for check in failed[:5])
    rows: list[dict[str, Any]] = [
        {"question": check.id, "rows": check.rows_failed, "found": check.detail} for check in failed[:_SHOWN_FILES]
    ]
    return dg.AssetCheckResult(
        check_name=LEVEL_CLAIMS[level],
        passed=not failed,
        severity=dg.AssetCheckSeverity.ERROR if stops else dg.AssetCheckSeverity.WARN,
        description=found or f"{len(asked):,} questions, all answered well",
        metadata={"failed": records_table(rows), "rows_failed": sum(check.rows_failed for check in failed), "questions": len(asked)},
    )
