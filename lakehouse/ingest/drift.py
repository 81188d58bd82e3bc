"""Files whose columns are not the contract's: said by name, with what became of the values and what would change it."""

from collections.abc import Iterable, Sequence

from lakehouse.contracts import DatasetContract, Level, Severity
from lakehouse.ingest.reading import FileOutcome
from lakehouse.ingest.validation import RESCUED
from lakehouse.quality import CheckResult

NEW_COLUMNS = "batch.new_columns"
MISSING_COLUMNS = "batch.missing_columns"
_SHOWN_COLUMNS = 20
_SHOWN_FILES = 3


def column_warnings(contract: DatasetContract, outcome: FileOutcome) -> tuple[str, ...]:
    """What to tell about the columns of an ingested file, one sentence each."""
    name = outcome.original.path.name
    warnings: list[str] = []
    if outcome.missing:
        warnings.append(f"{name} lacks {_columns(outcome.missing)}: no row of it has a value there")
    if outcome.unknown:
        warnings.append(
            f"{name} has {_columns(outcome.unknown)} that the contract does not know: {_what_became(contract, outcome.unknown)}"
        )
    return tuple(warnings)


def column_results(contract: DatasetContract, outcomes: Iterable[FileOutcome]) -> list[CheckResult]:
    """Two claims about a batch: its files have all columns of the contract, and no others."""
    accepted = [outcome for outcome in outcomes if outcome.error is None]
    lacking = [outcome for outcome in accepted if outcome.missing]
    missing = list(dict.fromkeys(column for outcome in lacking for column in outcome.missing))
    results = [
        _result(
            contract,
            MISSING_COLUMNS,
            passed=not missing,
            detail=f"{_columns(missing)} in {_files(lacking)}: no row of these files has a value there"
            if missing
            else "no column is missing",
        )
    ]
    if contract.schema_changes.new_columns != "ignore":
        adding = [outcome for outcome in accepted if outcome.unknown]
        new = list(dict.fromkeys(column for outcome in adding for column in outcome.unknown))
        detail = f"{_columns(new)} in {_files(adding)}: {_what_became(contract, new)}" if new else "no column is new"
        results.append(_result(contract, NEW_COLUMNS, passed=not new, detail=detail))
    return results


def _result(contract: DatasetContract, check: str, *, passed: bool, detail: str) -> CheckResult:
    return CheckResult(check, contract.name, contract.raw, Level.STRUCTURAL, Severity.WARNING, passed, 0 if passed else 1, detail)


def _what_became(contract: DatasetContract, columns: Sequence[str]) -> str:
    them = "it" if len(columns) == 1 else "them"
    change = f"add {them} to {contract.path or 'the contract'}"
    if contract.schema_changes.new_columns == "rescue":
        return f"the values are kept in {contract.raw}.{RESCUED} as JSON; to have columns of their own, {change}"
    return f"the values are only in the archived file, not in {contract.raw}; to keep them, {change}, or set newColumns: rescue there"


def _columns(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) if not name.isidentifier() else name for name in names[:_SHOWN_COLUMNS])
    more = f" and {len(names) - _SHOWN_COLUMNS} more" if len(names) > _SHOWN_COLUMNS else ""
    return f"{'column' if len(names) == 1 else 'columns'} {shown}{more}"


def _files(outcomes: Sequence[FileOutcome]) -> str:
    names = [outcome.original.path.name for outcome in outcomes]
    return ", ".join(names[:_SHOWN_FILES]) + (f" and {len(names) - _SHOWN_FILES:,} more files" if len(names) > _SHOWN_FILES else "")
