"""Rules between datasets: every value that refers to another dataset's row finds one there.

Judged over the whole raw tables, never row by row at the door: a parent that arrives after its children settles them at the next look.
"""

from collections.abc import Mapping

from lakehouse.contracts import Contracts, DatasetContract, Level, Reference, Severity
from lakehouse.quality.results import CheckResult
from lakehouse.sql import quote_identifier
from lakehouse.tables import Lake

_SAMPLES = 5


def check_references(lake: Lake, contract: DatasetContract, contracts: Contracts) -> list[CheckResult]:
    """One result per reference of a dataset: how many of its rows refer to nothing, with some of their values.

    Args:
        lake: the tables.
        contract: of the dataset that refers.
        contracts: those of the home, among them the ones referred to.
    """
    if not contract.references or not lake.exists(contract.raw):
        return []
    return [_check(lake, contract, reference, contracts) for reference in contract.references]


def _check(lake: Lake, contract: DatasetContract, reference: Reference, contracts: Contracts) -> CheckResult:
    parent = contracts.datasets.get(reference.parent)
    claim = f"{', '.join(reference.columns)} refers to {reference.parent}.{', '.join(reference.parent_columns)}"
    problem = None if parent is None else _unanswerable(contract, parent, reference)
    if parent is None or problem is not None:
        why = problem or f"there is no dataset {reference.parent}"
        return _result(contract, reference, passed=False, rows=0, detail=f"{claim}: can't be judged: {why}")
    tables = [table for table in (contract.raw, parent.raw) if lake.exists(table)]
    with lake.connect(tables) as session:
        orphans = _orphans_sql(contract, parent, reference, is_parent_there=parent.raw in tables)
        found = session.con.execute(f"SELECT count(*), coalesce(sum(__rows), 0) FROM ({orphans})").fetchone()
        keys, rows = (int(found[0]), int(found[1])) if found else (0, 0)
        order = ", ".join(str(number + 1) for number in range(len(reference.columns)))
        samples = (
            session.con.execute(f"SELECT * FROM ({orphans}) ORDER BY __rows DESC, {order} LIMIT {_SAMPLES}").fetchall() if rows else []
        )
        versions = {table: lake.version(table) for table in tables}
    hidden = any(contract.column(name).protected for name in reference.columns)
    shown = "" if hidden else ", such as " + "; ".join(f"{', '.join(map(str, row[:-1]))} ({row[-1]:,})" for row in samples)
    if not rows:
        return _result(contract, reference, passed=True, rows=0, detail=f"{claim}: every row finds one", metadata=versions)
    parents = "" if parent.raw in tables else f"; {parent.raw} has no rows yet"
    detail = f"{claim}: {rows:,} rows refer to {keys:,} that are not there{shown}{parents}"
    return _result(contract, reference, passed=False, rows=rows, detail=detail, metadata={"rows": rows, "values": keys, **versions})


def _unanswerable(contract: DatasetContract, parent: DatasetContract, reference: Reference) -> str | None:
    known = {column.name: column for column in parent.columns}
    strange = next((name for name in reference.parent_columns if name not in known), None)
    if strange is not None:
        return f"{parent.name} has no column {strange}"
    for name, other in zip(reference.columns, reference.parent_columns, strict=True):
        if contract.column(name).protection != known[other].protection:
            return f"{name} is protected by {contract.column(name).protection}, {parent.name}.{other} by {known[other].protection}"
        if known[other].protection in {"encrypt", "redact", "drop"}:
            return f"values of {name} can't be compared: {known[other].protection}"
    return None


def _orphans_sql(contract: DatasetContract, parent: DatasetContract, reference: Reference, *, is_parent_there: bool) -> str:
    """Values that refer to nothing, with the rows that have them; a row with no value in one of the columns refers to nobody."""
    columns = [quote_identifier(name) for name in reference.columns]
    listed, filled = ", ".join(columns), " AND ".join(f"{name} IS NOT NULL" for name in columns)
    child = f"SELECT {listed}, count(*) AS __rows FROM raw.{quote_identifier(contract.name)} WHERE {filled} GROUP BY ALL"
    if not is_parent_there:
        return child
    pairs = " AND ".join(
        _equal(
            f"c.{quote_identifier(name)}",
            contract.column(name).stored_type,
            f"p.{quote_identifier(other)}",
            parent.column(other).stored_type,
        )
        for name, other in zip(reference.columns, reference.parent_columns, strict=True)
    )
    keys = ", ".join(quote_identifier(name) for name in reference.parent_columns)
    return f"SELECT c.* FROM ({child}) c ANTI JOIN (SELECT DISTINCT {keys} FROM raw.{quote_identifier(parent.name)}) p ON {pairs}"


def _equal(one: str, one_type: str, other: str, other_type: str) -> str:
    """Equality that never fails to cast: text is compared as text."""
    if one_type != other_type and "VARCHAR" in {one_type, other_type}:
        return f"CAST({one} AS VARCHAR) = CAST({other} AS VARCHAR)"
    return f"{one} = {other}"


def _result(
    contract: DatasetContract, reference: Reference, *, passed: bool, rows: int, detail: str, metadata: Mapping[str, object] | None = None
) -> CheckResult:
    severity = reference.severity if rows or passed else Severity.WARNING
    return CheckResult(reference.id, contract.name, contract.raw, Level.BUSINESS, severity, passed, rows, detail, metadata or {})
