"""What a batch is counted for: values per column, warnings per rule, and the statistical level."""

from collections import Counter
from dataclasses import dataclass

import duckdb

from lakehouse.contracts import DatasetContract, Level, Severity
from lakehouse.ingest.validation import BAD, RowJudge
from lakehouse.quality import BatchProfile, CheckResult, ColumnProfile
from lakehouse.sql import quote_identifier

_NUMERIC = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "DECIMAL", "DOUBLE", "FLOAT", "BOOLEAN")


@dataclass(frozen=True, slots=True)
class Mark:
    """A state to go back to when a file is refused."""

    rows: int
    filled: Counter[str]
    sums: Counter[str]
    warned: Counter[str]


class BatchTally:
    """Numbers of a batch's good rows, added up piece by piece."""

    def __init__(self, con: duckdb.DuckDBPyConnection, contract: DatasetContract, judge: RowJudge) -> None:
        self._con = con
        self._contract = contract
        self._judge = judge
        self.rows = 0
        self._filled: Counter[str] = Counter()
        self._sums: Counter[str] = Counter()
        self.warned: Counter[str] = Counter()
        self.broken: Counter[str] = Counter()
        self.rows_sql = ""

    def add(self, rows_sql: str, repeated: str | None) -> None:
        """Count the good rows of a piece."""
        columns = self._contract.columns
        numeric = [column for column in columns if self._is_numeric(column.sql_type) and not column.protected]
        measures = ["count(*)", *(f"count({quote_identifier(column.name)})" for column in columns)]
        measures += [f"sum(CAST({quote_identifier(column.name)} AS DOUBLE))" for column in numeric]
        measures += [f"count_if({quote_identifier(f'__w{number}')})" for number in range(len(self._judge.warnings))]
        others = f" AND _row NOT IN (SELECT _row FROM {quote_identifier(repeated)})" if repeated else ""
        found = self._con.execute(f"SELECT {', '.join(measures)} FROM {rows_sql} WHERE {BAD} IS NULL{others}").fetchone()
        if found is None:
            return
        values = iter(found)
        self.rows += int(next(values))
        for column in columns:
            self._filled[column.name] += int(next(values))
        for column in numeric:
            self._sums[column.name] += float(next(values) or 0.0)  # pyright: ignore[reportArgumentType]
        for rule in self._judge.warnings:
            self.warned[rule.id] += int(next(values))

    @staticmethod
    def _is_numeric(sql_type: str) -> bool:
        return sql_type.startswith(_NUMERIC)

    def mark(self) -> Mark:
        """The state before a file."""
        return Mark(self.rows, self._filled.copy(), self._sums.copy(), self.warned.copy())

    def back_to(self, mark: Mark) -> None:
        """Forget what was added since."""
        self.rows, self._filled, self._sums, self.warned = mark.rows, mark.filled, mark.sums, mark.warned

    def measure(self, rows_sql: str, bad_table: str) -> None:
        """Note where the batch's good rows are, and count the bad ones by rule."""
        self.rows_sql = rows_sql
        for rule, count in self._con.execute(
            f"SELECT rule, count(*) FROM (SELECT unnest(rules) AS rule FROM {bad_table}) GROUP BY rule"
        ).fetchall():
            self.broken[rule] = count

    def profile(self, batch: int, files: int) -> BatchProfile:
        """The batch in numbers."""
        columns = {
            column.name: ColumnProfile(
                self.rows - self._filled[column.name],
                self._sums[column.name] / self._filled[column.name] if column.name in self._sums and self._filled[column.name] else None,
            )
            for column in self._contract.columns
        }
        return BatchProfile(batch, files, self.rows, columns)

    def row_results(self) -> list[CheckResult]:
        """One result per rule that judges rows.

        A rule that sent rows to quarantine is a warning about the batch: raw holds none of those rows.
        """
        contract = self._contract
        results = [
            CheckResult(
                rule.id,
                contract.name,
                contract.raw,
                rule.level,
                Severity.WARNING,
                failed == 0,
                failed,
                f"{rule.description}: {failed} rows {'quarantined' if rule in self._judge.rules else 'accepted with a warning'}"
                if failed
                else rule.description,
            )
            for rule in self._judge.checked
            for failed in (self.broken[rule.id] + self.warned[rule.id],)
        ]
        known = {rule.id for rule in self._judge.checked}
        results += [
            CheckResult(rule, contract.name, contract.raw, Level.STRUCTURAL, Severity.WARNING, False, failed, f"{failed} rows quarantined")
            for rule, failed in sorted(self.broken.items())
            if rule not in known
        ]
        return results
