"""Profiles of tables and their quality scores: made once per version of a table, by this code and this contract, and kept.

`monitoring.quality_scores` has a row per profile: the score and its five dimensions as columns, the whole profile as JSON.
A kept profile is used again only if the table (not another of the same name), its version, the contract, the columns that are
out of sight, the target and this code are the same; so it is never stale, and free the second time.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from importlib import resources

from lakehouse.contracts import Contracts, DatasetContract
from lakehouse.monitoring.volumes import DatasetVolume, batch_volumes, dataset_volume
from lakehouse.quality.profile import DIMENSIONS, Freshness, Profile, Subject, as_of, build_profile, hidden_columns, promised
from lakehouse.sql import quote_identifier, quote_literal
from lakehouse.tables import Lake, Stamp, TableName

TABLE = "monitoring.quality_scores"
_LAYERS_OF_A_DATASET = ("raw", "staging")


@dataclass(frozen=True, slots=True)
class QualityScore:
    """One measurement of one version of a table; a dimension is None where it could not be judged."""

    table: str
    version: int
    rows: int
    score: float
    completeness: float | None
    validity: float | None
    uniqueness: float | None
    consistency: float | None
    timeliness: float | None
    newest_at: datetime | None
    measured_at: datetime


@dataclass(frozen=True, slots=True)
class TableProfile:
    """A profile, and whether it was there already."""

    profile: Profile
    cached: bool


def profile_table(
    lake: Lake,
    contracts: Contracts,
    table: str,
    *,
    run: str,
    now: datetime,
    version: int | datetime | None = None,
    target: str | None = None,
) -> TableProfile:
    """The profile of one version of a table; the kept one if it has been profiled before.

    Args:
        lake: the tables.
        contracts: those of the home: what they protect is out of sight in every table.
        table: `layer.name`.
        run: who asks.
        now: what the timeliness is judged by.
        version: or the instant at which it was current; the newest without.
        target: a column to look at as the one to be predicted.

    Raises:
        TableNotFound: there is no such table or version.
        ContractError: the target is no column.
    """
    name = TableName.parse(table)
    snapshot = lake.snapshot(name, version)
    # Maintenance moves the version, but no row.
    content = lake.content_version(name, snapshot.version)
    profiled = snapshot.version if content is None else content
    contract = contract_of(contracts, str(name))
    hidden = _hidden(contracts, contract, name)
    key = _Key(str(name), profiled, str(snapshot.delta.metadata().id), _digest(contract, hidden), target)
    kept = _kept(lake, key)
    is_cached = kept is not None
    if kept is None:
        subject = _subject(lake, contract, key, hidden=hidden)
        with lake.connect([name], as_of={str(name): snapshot.version}) as session:
            relation = f"{quote_identifier(name.layer)}.{quote_identifier(name.name)}"
            kept = build_profile(session.con, relation, subject, now=now)
        _keep(lake, key, kept, contract, run=run)
    if profiled != lake.content_version(name):
        kept = replace(kept, freshness=replace(kept.freshness, superseded=True))
    return TableProfile(as_of(kept, now), is_cached)


def contract_of(contracts: Contracts, table: str) -> DatasetContract | None:
    """The contract of the dataset whose rows a table holds as the contract describes them."""
    name = TableName.parse(table)
    return contracts.datasets.get(name.name) if name.layer in _LAYERS_OF_A_DATASET else None


def profile_dataset(lake: Lake, contract: DatasetContract, *, run: str, now: datetime, most_rows: int | None = None) -> Profile | None:
    """The profile of the newest version of a dataset's raw table.

    Args:
        lake: the tables.
        contract: the dataset's.
        run: who asks.
        now: what the timeliness is judged by.
        most_rows: a larger table is left to whoever has the time.

    Returns:
        None if nothing was ever ingested, or there are more rows than that.
    """
    if not lake.exists(contract.raw) or (most_rows is not None and lake.detail(contract.raw).rows > most_rows):
        return None
    return profile_table(lake, Contracts(datasets={contract.name: contract}), contract.raw, run=run, now=now).profile


def profile_datasets(lake: Lake, contracts: Contracts, *, run: str, now: datetime) -> list[Profile]:
    """The profiles of every dataset's raw and staging table, of those that are there."""
    tables = [table for one in contracts.datasets.values() for table in (one.raw, one.staging) if lake.exists(table)]
    return [profile_table(lake, contracts, table, run=run, now=now).profile for table in tables]


def score_of(profile: Profile) -> QualityScore:
    """The score of a profiled table."""
    return QualityScore(
        table=profile.subject,
        version=profile.version or 0,
        rows=profile.rows,
        score=profile.score,
        completeness=profile.dimension("completeness"),
        validity=profile.dimension("validity"),
        uniqueness=profile.dimension("uniqueness"),
        consistency=profile.dimension("consistency"),
        timeliness=profile.dimension("timeliness"),
        newest_at=profile.freshness.newest_at,
        measured_at=profile.profiled_at,
    )


def quality_trend(lake: Lake, table: str) -> list[QualityScore]:
    """What was measured of the versions of a table, oldest version first: of each the newest measurement."""
    name = TableName.parse(table)
    if not _is_there(lake) or not lake.exists(name):
        return []
    identity = str(lake.snapshot(name).delta.metadata().id)
    columns = ", ".join(("rows", "score", *DIMENSIONS, "newest_at", "measured_at"))
    with lake.connect([TABLE]) as session:
        rows = session.con.execute(
            f'SELECT "table", version, {columns} FROM {TABLE} WHERE "table" = {quote_literal(str(name))} AND target IS NULL '
            f"AND identity = {quote_literal(identity)} "
            "QUALIFY row_number() OVER (PARTITION BY version ORDER BY measured_at DESC) = 1 ORDER BY version"
        ).fetchall()
    return [QualityScore(*row) for row in rows]


def latest_quality(lake: Lake, dataset: str) -> QualityScore | None:
    """The score of the newest measured version of a dataset's raw table."""
    measured = quality_trend(lake, f"raw.{dataset}")
    return measured[-1] if measured else None


@dataclass(frozen=True, slots=True)
class _Key:
    """What a kept profile must agree in to be used again, besides the code."""

    table: str
    version: int
    identity: str
    contract: str
    target: str | None


@cache
def _code() -> str:
    """A digest of what makes profiles: another code makes other ones."""
    digest = hashlib.sha256()
    folder = resources.files("lakehouse.quality.profile")
    for file in sorted((one for one in folder.iterdir() if one.name.endswith(".py")), key=lambda one: one.name):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _digest(contract: DatasetContract | None, hidden: Mapping[str, str]) -> str:
    text = f"{contract.digest if contract else ''} {sorted(hidden.items())}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _hidden(contracts: Contracts, contract: DatasetContract | None, table: TableName) -> dict[str, str]:
    """Columns that are out of sight although the table has no contract: those called like one that some contract hides."""
    if contract is not None:
        return hidden_columns(contract)
    found: dict[str, str] = {}
    for dataset in contracts.datasets.values():
        hidden = hidden_columns(dataset)
        found |= {name: f"{why} in {dataset.name}" for name, why in hidden.items()}
        if hidden and table == TableName.parse(dataset.quarantine):
            found |= {name: "rows as they arrived, with protected columns" for name in ("record", "reasons")}
    return found


def _subject(lake: Lake, contract: DatasetContract | None, key: _Key, *, hidden: Mapping[str, str]) -> Subject:
    is_raw = contract is not None and key.table == contract.raw
    volumes = batch_volumes(lake, contract.name, version=key.version if is_raw else None) if contract is not None else []
    total = dataset_volume(lake, contract.name, version=key.version) if contract is not None and is_raw else DatasetVolume()
    came = volumes[-1].committed_at if volumes else None
    if came is None:
        commits = lake.history(key.table)
        came = next((one.timestamp for one in commits if one.version <= key.version), None)
    promise = promised(contract)
    return Subject(
        name=key.table,
        version=key.version,
        contract=contract,
        hidden=hidden,
        rows_read=total.rows_read or None,
        rows_accepted=total.rows_accepted if total.rows_read else None,
        rows_quarantined=total.rows_quarantined,
        freshness=Freshness(came, promise.promise_s, promise.promise),
        target=key.target,
    )


def _is_there(lake: Lake) -> bool:
    """Whether profiles have ever been kept; the table of an older release has scores of another kind."""
    return lake.exists(TABLE) and "profile" in lake.schema(TABLE)


def _kept(lake: Lake, key: _Key) -> Profile | None:
    from pydantic import TypeAdapter

    if not _is_there(lake):
        return None
    target = "target IS NULL" if key.target is None else f"target = {quote_literal(key.target)}"
    with lake.connect([TABLE]) as session:
        row = session.con.execute(
            f'SELECT profile FROM {TABLE} WHERE "table" = {quote_literal(key.table)} AND version = {key.version} '
            f"AND identity = {quote_literal(key.identity)} AND contract = {quote_literal(key.contract)} AND code = {quote_literal(_code())} "
            f"AND {target} ORDER BY measured_at DESC LIMIT 1"
        ).fetchone()
    return None if row is None else TypeAdapter(Profile).validate_json(row[0])


def _keep(lake: Lake, key: _Key, profile: Profile, contract: DatasetContract | None, *, run: str) -> None:
    from pydantic import TypeAdapter

    document = TypeAdapter(Profile).dump_json(profile).decode()
    score = score_of(profile)
    shares = ", ".join(f"{_number(getattr(score, name))}::DOUBLE AS {name}" for name in ("score", *DIMENSIONS))
    sql = (
        f'SELECT {quote_literal(contract.name if contract else None)}::VARCHAR AS dataset, {quote_literal(key.table)} AS "table", '
        f"{key.version}::BIGINT AS version, {profile.rows}::BIGINT AS rows, {shares}, "
        f"{quote_literal(score.newest_at)}::TIMESTAMPTZ AS newest_at, {quote_literal(profile.profiled_at)}::TIMESTAMPTZ AS measured_at, "
        f"{quote_literal(key.identity)} AS identity, {quote_literal(key.contract)} AS contract, {quote_literal(_code())} AS code, "
        f"{quote_literal(key.target)}::VARCHAR AS target, {quote_literal(run)} AS run, {quote_literal(document)} AS profile"
    )
    stamp = Stamp(asset=TABLE, run=run, inputs={key.table: key.version}, code=_code())
    with lake.connect(()) as session:
        lake.append(session.con, TABLE, sql, stamp=stamp)


def _number(value: float | None) -> str:
    return "NULL" if value is None else repr(float(value))
