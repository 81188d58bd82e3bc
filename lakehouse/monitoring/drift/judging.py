"""Has it drifted? A large effect that chance does not explain: neither many rows nor few alarm for nothing."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from lakehouse.learning.multiple_tests import holm
from lakehouse.learning.schema import FeatureSchema
from lakehouse.monitoring.drift.bins import count
from lakehouse.monitoring.drift.reference import ColumnProfile, Reference, typed_sql
from lakehouse.monitoring.drift.statistics import chi_square, cramers_v, expected_psi, jensen_shannon, kolmogorov_smirnov, psi

if TYPE_CHECKING:
    import duckdb


class Verdict(StrEnum):
    """What is said of a column, and by its worst column of a table."""

    UNKNOWN = "unknown"
    STABLE = "stable"
    MOVED = "moved"
    DRIFTED = "drifted"

    @property
    def rank(self) -> int:
        """How bad it is."""
        return list(Verdict).index(self)


@dataclass(frozen=True, slots=True)
class DriftLimits:
    """When a difference counts.

    Attributes:
        warn: PSI above what chance gives, from which a column has moved.
        drift: the same, from which it has drifted.
        level: the chance that any column of a table is called significant although none has changed.
        min_rows: of fewer rows nothing is concluded.
    """

    warn: float = 0.2
    drift: float = 0.25
    level: float = 0.01
    min_rows: int = 50


@dataclass(frozen=True, slots=True)
class ColumnDrift:
    """One column against its reference.

    Attributes:
        psi: over the coarse bins, as it is usually given.
        psi_by_chance: what it would be on average if nothing had changed.
        ks: None for a column without order; over what is not missing.
        p_value: of chi-square and KS together, adjusted for the number of columns.
        reference: rows by bin, beside `current`.
    """

    column: str
    measure: str
    psi: float
    psi_by_chance: float
    jensen_shannon: float
    chi_square_p: float
    cramers_v: float
    ks: float | None
    ks_p: float | None
    p_value: float
    verdict: Verdict
    labels: tuple[str, ...]
    reference: tuple[int, ...]
    current: tuple[int, ...]

    @property
    def effect(self) -> float:
        """PSI beyond what chance gives: what the limits are about."""
        return max(0.0, self.psi - self.psi_by_chance)

    @property
    def missing(self) -> float:
        """Share of the current rows without a value."""
        return self.current[-1] / sum(self.current) if any(self.current) else 0.0


@dataclass(frozen=True, slots=True)
class DriftReport:
    """All columns of a table against their reference; the largest effect first."""

    rows_reference: int
    rows: int
    columns: tuple[ColumnDrift, ...]
    left_out: dict[str, str]

    @property
    def verdict(self) -> Verdict:
        """That of the worst column."""
        return max((one.verdict for one in self.columns), key=lambda one: one.rank, default=Verdict.UNKNOWN)

    @property
    def drifted(self) -> tuple[str, ...]:
        """The columns that have drifted."""
        return tuple(one.column for one in self.columns if one.verdict is Verdict.DRIFTED)

    def __str__(self) -> str:
        if self.verdict is Verdict.UNKNOWN:
            return f"{self.rows:,} rows against {self.rows_reference:,}: too few to conclude anything"
        worst = [f"{one.column} (PSI {one.psi:.3f})" for one in self.columns if one.verdict is self.verdict][:5]
        beside = f": {', '.join(worst)}" if self.verdict is not Verdict.STABLE else ""
        return f"{self.rows:,} rows against {self.rows_reference:,}: {self.verdict}{beside}"


def measure_drift(
    con: "duckdb.DuckDBPyConnection", relation: str, schema: FeatureSchema, reference: Reference, limits: DriftLimits
) -> DriftReport:
    """Compare a relation's rows with a stored reference, in one pass over them.

    Args:
        con: a session.
        relation: SQL that can stand after FROM; has the reference's columns.
        schema: types of the columns, as the reference was made with.
        reference: the profile.
        limits: when a difference counts.
    """
    found = count(con, typed_sql(schema, relation), [one.bins for one in reference.columns])
    rows = sum(found[0]) if found else 0
    return judge(reference, found, rows=rows, limits=limits)


def judge(reference: Reference, counts: Sequence[Sequence[int]], *, rows: int, limits: DriftLimits) -> DriftReport:
    """Compare counts with a reference."""
    compared = [_compared(profile, found) for profile, found in zip(reference.columns, counts, strict=True)]
    adjusted = holm([one.p_value for one in compared])
    enough = min(rows, reference.rows) >= limits.min_rows
    judged = [
        replace(one, p_value=p_value, verdict=_verdict(one.effect, p_value, limits) if enough else Verdict.UNKNOWN)
        for one, p_value in zip(compared, adjusted, strict=True)
    ]
    judged.sort(key=lambda one: (-one.verdict.rank, -one.effect, one.column))
    return DriftReport(reference.rows, rows, tuple(judged), dict(reference.left_out))


def _compared(profile: ColumnProfile, counts: Sequence[int]) -> ColumnDrift:
    bins = profile.bins
    reference, current = bins.coarsened(profile.counts), bins.coarsened(counts)
    _, chi_p = chi_square(reference, current)
    ks, ks_p = kolmogorov_smirnov(profile.counts[:-1], counts[:-1]) if bins.has_intervals else (None, None)
    return ColumnDrift(
        column=bins.column,
        measure=bins.measure,
        psi=psi(reference, current),
        psi_by_chance=expected_psi(reference, current),
        jensen_shannon=jensen_shannon(reference, current),
        chi_square_p=chi_p,
        cramers_v=cramers_v(reference, current),
        ks=ks,
        ks_p=ks_p,
        # Two questions about one column: the better answer counts half.
        p_value=chi_p if ks_p is None else min(1.0, 2 * min(chi_p, ks_p)),
        verdict=Verdict.UNKNOWN,
        labels=bins.labels,
        reference=reference,
        current=current,
    )


def _verdict(effect: float, p_value: float, limits: DriftLimits) -> Verdict:
    if p_value >= limits.level or effect < limits.warn:
        return Verdict.STABLE
    return Verdict.DRIFTED if effect >= limits.drift else Verdict.MOVED
