"""Predictions beside the labels that came later: the rows that performance and outcomes are measured on."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from lakehouse.contracts import ModelContract
from lakehouse.errors import VersionGone
from lakehouse.features import target_columns
from lakehouse.learning.lifecycle import Ledger
from lakehouse.learning.lifecycle.journal import DeltaJournal
from lakehouse.learning.scoring import probability_columns
from lakehouse.sql import quote_identifier, quote_literal
from lakehouse.tables import CommitInfo, Lake

if TYPE_CHECKING:
    import duckdb

JUDGED = "__judged"
# The newest batches of a table, and the newest versions that answered in them beside those that a rollout is about.
_BATCHES = 100
_VERSIONS = 4


@dataclass(frozen=True, slots=True)
class Judged:
    """A session in which the table JUDGED has a row per prediction whose label has come and was not learned from; closed if there is none.

    Attributes:
        columns: types by name: `label` and `prediction` (text for classes, else DOUBLE), `model_version`, `unit` (number of the entity),
            `row` (number of what was predicted), `said_at`, `learned_by` (other versions that learned from the row), `positive` and
            `own_threshold` (where people had the version answer by another threshold, else NULL: the class that it is about, and the
            version's own), perhaps `confidence`, `probability` of the positive class and `probability_<class>`, and `segment_<column>` for
            the other columns of the label table.
        rows: there are.
        inputs: table versions it was read from.
        ledger: where the versions stand.
        began: when each version answered first, in the batches that were looked through.
        ended: when it answered last.
    """

    con: "duckdb.DuckDBPyConnection"
    columns: Mapping[str, str]
    rows: int
    inputs: Mapping[str, int]
    ledger: Ledger
    began: Mapping[str, datetime] = field(default_factory=dict[str, datetime])
    ended: Mapping[str, datetime] = field(default_factory=dict[str, datetime])


@dataclass(frozen=True, slots=True)
class _Batch:
    """A commit of a table of predictions, and whose answers in it are judged.

    Attributes:
        adjusted: the version that answered in it by a threshold that people had set, if one did.
    """

    table: str
    version: int
    at: datetime
    answered: tuple[str, ...]
    adjusted: "_Adjusted | None" = None


@dataclass(frozen=True, slots=True)
class _Adjusted:
    """A version whose own threshold is another than that it answered by."""

    version: str
    positive: str
    own_threshold: float


@contextmanager
def judged_rows(lake: Lake, contract: ModelContract) -> Iterator[Judged | None]:
    """What each version said last of each row that a label has come for and that it had not learned from; None without predictions.

    Each version is judged by the training set that it was made from, over all batches in which it answered, or was a shadow: labels add
    up, however often others are trained meanwhile. A label comes when the row has long been followed by a newer one of its entity:
    batches that were replaced are looked through as well, as far as maintenance has left them.
    """
    training_table, predictions_table = f"models.{contract.name}_training_set", f"models.{contract.name}_predictions"
    needed = (training_table, predictions_table, contract.label_table)
    if not all(lake.exists(table) for table in needed):
        yield None
        return
    journal = DeltaJournal(lake)
    ledger = journal.ledger(contract.name)
    shadows = f"models.{contract.name}_shadow_predictions"
    tables = [*needed, *([shadows] if lake.exists(shadows) else [])]
    with lake.connect(tables) as session:
        key = _key(lake, contract, training_table, predictions_table)
        batches = [
            batch for table in tables if table in (predictions_table, shadows) for batch in _batches(lake, session.con, table, ledger)
        ]
        trained = {one.version: one.training_set for one in journal.events(contract.name) if one.training_set is not None}
        learned = _learned_sql(lake, session.con, training_table, {one: trained.get(one) for one in _versions(batches, ledger)}, key)
        said = _said_sql(lake, session.con, predictions_table, batches, versions=tuple(learned), key=key)
        session.con.execute(
            f"CREATE TEMP TABLE {JUDGED} AS {_judged_sql(lake, contract, predictions_table, key=key, said=said, learned=learned)}"
        )
        columns = {str(row[0]): str(row[1]) for row in session.con.execute(f"DESCRIBE {JUDGED}").fetchall()}
        counted = session.con.execute(f"SELECT count(*) FROM {JUDGED}").fetchone()
        times = {version: [one.at for one in batches if version in one.answered] for version in learned}
        yield Judged(
            session.con,
            columns,
            int(counted[0]) if counted else 0,
            dict(session.inputs()),
            ledger,
            {version: min(found) for version, found in times.items() if found},
            {version: max(found) for version, found in times.items() if found},
        )


def _key(lake: Lake, contract: ModelContract, training_table: str, predictions_table: str) -> list[str]:
    """What a label finds its predictions by."""
    known = set(lake.schema(predictions_table)) & set(lake.schema(training_table)) & set(lake.schema(contract.label_table))
    times = [contract.event_timestamp] if contract.event_timestamp else []
    return [column for column in (*contract.entity, *times) if column in known] or [column for column in ("row_id",) if column in known]


def _batches(lake: Lake, con: "duckdb.DuckDBPyConnection", table: str, ledger: Ledger) -> Iterator[_Batch]:
    """The newest batches that are left, with the versions that answered in each; not one of the same number from a registry before this one."""
    for commit in [commit for commit in lake.history(table) if commit.changes_rows][:_BATCHES]:
        try:
            rows = lake.scan_sql(table, version=commit.version, con=con)
        except VersionGone:
            continue
        digests = _digests(commit)
        answered = list(digests)
        if not answered:
            found = con.execute(f"SELECT DISTINCT CAST(model_version AS VARCHAR) FROM ({rows}) ORDER BY 1").fetchall()
            answered = [str(version) for (version,) in found]
        known = ledger.standings
        own = (
            one
            for one in answered
            if one not in known or known[one].digest is None or digests.get(one, known[one].digest) == known[one].digest
        )
        yield _Batch(table, commit.version, commit.timestamp, tuple(own), _adjusted(commit))


def _digests(commit: CommitInfo) -> Mapping[str, object]:
    """The versions that a batch is of, each with its model's digest, as the batch's stamp tells them."""
    source = dict(commit.stamp.source or {}) if commit.stamp is not None else {}
    named = {"model": "model_digest", "candidate": "candidate_digest"}
    return {str(source[name]).rpartition("@")[2]: source[digest] for name, digest in named.items() if name in source and digest in source}


def _adjusted(commit: CommitInfo) -> _Adjusted | None:
    """Who answered by a threshold that people had set, as the batch's stamp tells it."""
    source = dict(commit.stamp.source or {}) if commit.stamp is not None else {}
    if not {"model", "threshold", "positive", "own_threshold"} <= source.keys():
        return None
    return _Adjusted(str(source["model"]).rpartition("@")[2], str(source["positive"]), float(str(source["own_threshold"])))


def _versions(batches: Sequence[_Batch], ledger: Ledger) -> list[str]:
    """Those to judge: in production now and before, rolled out, and a few more that answered last."""
    staged = ledger.staged
    wanted = [*ledger.line[-2:], *([staged.version] if staged is not None else [])]
    answered = dict.fromkeys(version for batch in sorted(batches, key=lambda one: one.at, reverse=True) for version in batch.answered)
    newest = list(answered)[:_VERSIONS]
    return [version for version in answered if version in wanted or version in newest]


def _learned_sql(
    lake: Lake, con: "duckdb.DuckDBPyConnection", table: str, trained: Mapping[str, int | None], key: Sequence[str]
) -> dict[str, str]:
    """For each version whether it learned from a row of `labels`; one whose training set is gone can't be judged.

    A version that the history does not know is judged by the newest training set, which has the rows of those before.
    """
    found: dict[str, str] = {}
    for version, training_set in trained.items():
        try:
            if not set(key) <= set(lake.schema(table, training_set)):
                continue
            rows = lake.scan_sql(table, version=training_set, con=con)
        except VersionGone:
            continue
        found[version] = f"EXISTS (SELECT 1 FROM ({rows}) AS learned WHERE {_same('labels', 'learned', key)})"
    return found


def _said_sql(
    lake: Lake, con: "duckdb.DuckDBPyConnection", table: str, batches: Sequence[_Batch], *, versions: Sequence[str], key: Sequence[str]
) -> str:
    """All answers of some versions, each with its batch's time; those of a batch that is about other entities find no label."""
    nothing = {"__at": "NULL::TIMESTAMPTZ", "__positive": "NULL::VARCHAR", "__own_threshold": "NULL::DOUBLE"}
    parts = [f"SELECT *, {', '.join(f'{value} AS {name}' for name, value in nothing.items())} FROM {_relation(table)} WHERE false"]
    for batch in batches:
        own = ", ".join(quote_literal(version) for version in batch.answered if version in versions)
        if own and set(key) <= set(lake.schema(batch.table, batch.version)):
            rows = lake.scan_sql(batch.table, version=batch.version, con=con)
            listed = f"{quote_literal(batch.at)} AS __at{_adjusted_sql(batch.adjusted)}"
            parts.append(f"SELECT *, {listed} FROM ({rows}) WHERE CAST(model_version AS VARCHAR) IN ({own})")
    return " UNION ALL BY NAME ".join(parts)


def _adjusted_sql(adjusted: _Adjusted | None) -> str:
    """Further columns of a batch: of the rows of the version that people adjusted, what it would have decided by."""
    if adjusted is None:
        return ""
    is_its_own = f"CAST(model_version AS VARCHAR) = {quote_literal(adjusted.version)}"
    return (
        f", CASE WHEN {is_its_own} THEN {quote_literal(adjusted.positive)} END AS __positive"
        f", CASE WHEN {is_its_own} THEN {adjusted.own_threshold!r}::DOUBLE END AS __own_threshold"
    )


def _judged_sql(
    lake: Lake, contract: ModelContract, predictions_table: str, *, key: Sequence[str], said: str, learned: Mapping[str, str]
) -> str:
    """One row per prediction that meets a new label."""
    known, labelled = lake.schema(predictions_table), lake.schema(contract.label_table)
    kind = "VARCHAR" if contract.problem == "classification" else "DOUBLE"
    units = [column for column in contract.entity if column in key]
    listed = {"label": f"CAST(labels.__label AS {kind})", "prediction": f"TRY_CAST(predicted.prediction AS {kind})"}
    listed |= {"model_version": "predicted.__version", "said_at": "predicted.__at", "learned_by": "labels.__learned_by"}
    listed |= {"positive": "predicted.__positive", "own_threshold": "predicted.__own_threshold"}
    listed |= {"unit": _numbered(units or key), "row": _numbered(key)}
    if "confidence" in known:
        listed["confidence"] = "predicted.confidence"
    positive = probability_columns([contract.positive_class])[0].lower() if contract.positive_class is not None else None
    for column in known:
        if column.lower() == positive:
            listed["probability"] = f"predicted.{quote_identifier(column)}"
        if column.startswith("probability_"):
            listed[column] = f"predicted.{quote_identifier(column)}"
    hidden = {*key, *([contract.event_timestamp] if contract.event_timestamp else []), *target_columns(contract)}
    for column in labelled:
        if column not in hidden and not column.startswith("_"):
            listed[f"segment_{column}"] = f"labels.{quote_identifier(column)}"
    by = ", ".join(quote_identifier(column) for column in (*key, "__version"))
    select = ", ".join(f"{value} AS {quote_identifier(name)}" for name, value in listed.items())
    learned_by = ", ".join(f"CASE WHEN {sql} THEN {quote_literal(version)} END" for version, sql in learned.items()) or "NULL::VARCHAR"
    # An earlier contract may have had classes where there are numbers now.
    is_judged = f"{listed['prediction']} IS NOT NULL AND NOT list_contains(labels.__learned_by, predicted.__version)"
    # What all have learned judges none of them: the answers about it, which are most, need not be sorted.
    is_new = f"__label IS NOT NULL AND list_count(__learned_by) < {len(learned)}"
    return (
        f"WITH labels AS (SELECT *, {contract.target} AS __label, [{learned_by}] AS __learned_by FROM {_relation(contract.label_table)} AS labels), "
        f"asked AS (SELECT DISTINCT {', '.join(quote_identifier(column) for column in key) or '1'} FROM labels WHERE {is_new}), "
        f"predicted AS (SELECT *, CAST(model_version AS VARCHAR) AS __version FROM ({said}) AS said "
        f"WHERE EXISTS (SELECT 1 FROM asked WHERE {_same('asked', 'said', key)}) "
        f"QUALIFY row_number() OVER (PARTITION BY {by} ORDER BY __at DESC) = 1) "
        f"SELECT {select} FROM labels JOIN predicted ON {_same('labels', 'predicted', key)} "
        f"WHERE labels.__label IS NOT NULL AND {is_judged}"
    )


def _numbered(columns: Sequence[str]) -> str:
    """A number for each of their values; without any, for each row."""
    order = ", ".join(f"labels.{quote_identifier(column)}" for column in columns)
    return f"dense_rank() OVER (ORDER BY {order})" if order else "row_number() OVER ()"


def _same(left: str, right: str, key: Sequence[str]) -> str:
    """Whether two rows are about the same; nothing is, without a key."""
    pairs = (f"{left}.{quote_identifier(column)} IS NOT DISTINCT FROM {right}.{quote_identifier(column)}" for column in key)
    return " AND ".join(pairs) or "false"


def _relation(table: str) -> str:
    return ".".join(quote_identifier(part) for part in table.split("."))
