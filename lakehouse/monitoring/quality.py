"""A quality score per dataset, between 0 and 1, measured once per version of its raw table.

    score = mean(validity, completeness, uniqueness)

validity      rows accepted / rows read, over everything ever ingested
completeness  values present / values possible, over the contract's columns of the raw table
uniqueness    distinct keys / rows of the raw table; 1 for a dataset without a key
"""

from dataclasses import dataclass
from datetime import datetime

from lakehouse.contracts import DatasetContract
from lakehouse.monitoring.volumes import batch_volumes
from lakehouse.sql import quote_identifier, quote_literal
from lakehouse.tables import Lake, Stamp

TABLE = "monitoring.quality_scores"


@dataclass(frozen=True, slots=True)
class QualityScore:
    """One measurement of one version of a raw table."""

    dataset: str
    raw_version: int
    rows: int
    validity: float
    completeness: float
    uniqueness: float
    newest_batch_at: datetime
    measured_at: datetime

    @property
    def score(self) -> float:
        """The mean of the three."""
        return (self.validity + self.completeness + self.uniqueness) / 3


def score_dataset(lake: Lake, contract: DatasetContract, *, run: str, now: datetime) -> QualityScore | None:
    """Measure the dataset's raw table and record the score; the recorded one if this version has been measured before.

    Returns:
        None if nothing was ever ingested.
    """
    version = lake.content_version(contract.raw)
    if version is None:
        return None
    recorded = latest_quality(lake, contract.name)
    if recorded is not None and recorded.raw_version == version:
        return recorded
    score = _measure(lake, contract, version, now=now)
    stamp = Stamp(asset=TABLE, run=run, inputs={contract.raw: version}, code="quality-score-1")
    with lake.connect(()) as session:
        lake.append(session.con, TABLE, _row(score), stamp=stamp)
    return score


def latest_quality(lake: Lake, dataset: str) -> QualityScore | None:
    """The newest recorded score of a dataset."""
    if not lake.exists(TABLE):
        return None
    with lake.connect([TABLE]) as session:
        row = session.con.execute(
            "SELECT dataset, raw_version, rows, validity, completeness, uniqueness, newest_batch_at, measured_at "
            f"FROM {TABLE} WHERE dataset = ? ORDER BY raw_version DESC, measured_at DESC LIMIT 1",
            [dataset],
        ).fetchone()
    return None if row is None else QualityScore(*row)


def _measure(lake: Lake, contract: DatasetContract, version: int, *, now: datetime) -> QualityScore:
    # A batch may have come since: the score is of this version.
    volumes = [volume for volume in batch_volumes(lake, contract.name) if volume.version <= version]
    read = sum(volume.rows_read for volume in volumes)
    accepted = sum(volume.rows_accepted for volume in volumes)
    with lake.connect([contract.raw], as_of={contract.raw: version}) as session:
        stored = lake.schema(contract.raw, version)
        columns = [column.name for column in contract.columns if column.name in stored]
        present = " + ".join(f"count({quote_identifier(column)})" for column in columns) or "0"
        key = [column for column in contract.primary_key if column in stored]
        distinct = f"count(DISTINCT ({', '.join(map(quote_identifier, key))}))" if key else "count(*)"
        relation = ".".join(quote_identifier(part) for part in contract.raw.split("."))
        row = session.con.execute(f"SELECT count(*), {present}, {distinct} FROM {relation}").fetchone()
    rows, values, keys = row or (0, 0, 0)
    return QualityScore(
        dataset=contract.name,
        raw_version=version,
        rows=rows,
        validity=accepted / read if read else 1.0,
        completeness=values / (rows * len(columns)) if rows and columns else 1.0,
        uniqueness=keys / rows if rows else 1.0,
        newest_batch_at=volumes[-1].committed_at if volumes else now,
        measured_at=now,
    )


def _row(score: QualityScore) -> str:
    return (
        f"SELECT {quote_literal(score.dataset)} AS dataset, {score.raw_version}::BIGINT AS raw_version, {score.rows}::BIGINT AS rows, "
        f"{score.validity!r}::DOUBLE AS validity, {score.completeness!r}::DOUBLE AS completeness, {score.uniqueness!r}::DOUBLE AS uniqueness, "
        f"{score.score!r}::DOUBLE AS score, {quote_literal(score.newest_batch_at.isoformat())}::TIMESTAMPTZ AS newest_batch_at, "
        f"{quote_literal(score.measured_at.isoformat())}::TIMESTAMPTZ AS measured_at"
    )
