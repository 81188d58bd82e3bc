"""The contract as one SELECT over a file's text: typed columns, and for a bad row its record and all its reasons.

The same SELECT judges rows while a CSV is parsed and rows of any other format, so a row's fate does not depend on its format.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from lakehouse.contracts import Column, DatasetContract, Level, Rule, Severity, cast_sql, plain_sql, row_rules
from lakehouse.contracts.matching import Matching, match_columns
from lakehouse.errors import FileRefused
from lakehouse.ingest.readers.formats import refused
from lakehouse.privacy import Key, protect_sql
from lakehouse.privacy.subject_keys import subject_sql
from lakehouse.sql import quote_identifier, quote_literal

BAD = "__bad"
RECORD = "__record"
RESCUED = "_rescued"
_TEXT = "__t{number}"
_PLAIN = "__p{number}"
_REASONS = 'STRUCT("rule" VARCHAR, "level" VARCHAR, reason VARCHAR)[]'
_LEVELS = (Level.STRUCTURAL, Level.SEMANTIC, Level.BUSINESS)


def check_columns(file: str, contract: DatasetContract, matching: Matching, *, by_path: bool) -> None:
    """Refuse a file whose columns the contract does not allow.

    Args:
        file: its name, for the error.
        contract: the dataset's.
        matching: its columns against the contract's.
        by_path: the columns were looked up in nested records, where absence shows row by row.

    Raises:
        FileRefused: a required column is missing, or the contract rejects missing or new columns.
    """
    if by_path:
        return
    changes = contract.schema_changes
    required = [column for column in matching.missing if column.required or column.name in contract.primary_key]
    gone = [column for column in matching.missing if not column.may_be_missing] if changes.missing_columns == "reject" else required
    if gone or len(matching.missing) == len(contract.columns):
        listed = ", ".join(column.source for column in (gone or matching.missing))
        raise _wrong_columns(file, f"lacks columns of {contract.name}", listed, matching)
    check_new_columns(file, contract, matching.unknown)


def check_new_columns(file: str, contract: DatasetContract, unknown: Sequence[str]) -> None:
    """Refuse a file with columns that the contract does not know, if it says so.

    Raises:
        FileRefused: it does.
    """
    if contract.schema_changes.new_columns == "reject" and unknown:
        raise refused(
            file,
            f"has columns that {contract.name} does not know",
            found=", ".join(unknown[:20]),
            fix=f"Add them to {contract.path or 'the contract'}, or allow new columns in it",
        )


def _wrong_columns(file: str, problem: str, listed: str, matching: Matching) -> FileRefused:
    shown = ", ".join([*matching.found.values(), *matching.unknown][:20])
    return refused(file, problem, expected=listed, found=shown, fix="Correct the header or the delimiter, or change the contract")


@dataclass
class RowJudge:
    """Builds the SELECTs of one contract; `select` is handed to a reader."""

    contract: DatasetContract
    key: Key | None
    rules: tuple[Rule, ...] = field(init=False)
    warnings: tuple[Rule, ...] = field(init=False)

    def __post_init__(self) -> None:
        every = row_rules(self.contract, text=self._text)
        self.rules = tuple(rule for rule in every if rule.severity is Severity.ERROR)
        self.warnings = tuple(rule for rule in every if rule.severity is not Severity.ERROR)

    @property
    def checked(self) -> tuple[Rule, ...]:
        """Every rule that judges rows, error or warning."""
        return (*self.rules, *self.warnings)

    def _text(self, column: Column) -> str:
        return quote_identifier(_TEXT.format(number=self.contract.columns.index(column)))

    def _plain(self, column: Column) -> str:
        return quote_identifier(_PLAIN.format(number=self.contract.columns.index(column)))

    def select(self, file: str, *, by_path: bool) -> "ContractSelect":
        """What a reader does to the records of a file."""
        return ContractSelect(self, file, by_path)

    def sql(self, matching: Matching, names: Sequence[str], relation: str, *, has_row: bool) -> str:
        """Typed columns, BAD (rules broken, with level and reason; NULL for a good row), RECORD (of a bad row) and `_row`.

        Warnings are judged here as well, by the text they may need; their number is in `__warned`.
        """
        contract = self.contract
        texts = [
            f"{quote_identifier(matching.found[column.name]) if column.name in matching.found else 'NULL::VARCHAR'} AS {self._text(column)}"
            for column in contract.columns
        ]
        unknown = [quote_identifier(name) for name in matching.unknown]
        row = ["_row"] if has_row else []
        sources = {
            column.name: quote_identifier(matching.found[column.name]) for column in contract.columns if column.name in matching.found
        }
        plain = [
            f"{cast} AS {self._plain(column)}"
            for column in contract.columns
            if column.name in sources and (cast := plain_sql(column, sources[column.name]))
        ]
        inner = f"SELECT {', '.join([*texts, *plain, *unknown, *row])} FROM {relation}"
        return self._judged(matching, inner, row)

    def _judged(self, matching: Matching, inner: str, row: list[str]) -> str:
        # Typed columns get their names one level above the text, so that a text column can't be taken for them.
        contract = self.contract
        texts = [self._text(column) for column in contract.columns]
        others = [quote_identifier(f"__u{number}") for number in range(len(matching.unknown))]
        moved = [f"{quote_identifier(name)} AS {other}" for name, other in zip(matching.unknown, others, strict=True)]
        typed = [
            f"{cast_sql(column, self._text(column), self._plain(column) if has_plain else None)} AS {quote_identifier(column.name)}"
            for column in contract.columns
            for has_plain in (column.name in matching.found and plain_sql(column, "") is not None,)
        ]
        second = f"SELECT {', '.join([*texts, *moved, *typed, *row])} FROM ({inner})"
        third = f"SELECT *, {self._valid()} AS __ok FROM ({second})"
        columns = [quote_identifier(column.name) for column in contract.columns]
        out = [*columns]
        if self.rescues:
            out.append(f"{self._rescued(matching, others)} AS {RESCUED}")
        out.append(f"CASE WHEN NOT __ok THEN {self._reasons()} END AS {BAD}")
        out.append(f"CASE WHEN NOT __ok THEN {self._record(matching, others)} END AS {RECORD}")
        out += [f"({rule.valid_sql}) IS FALSE AS {quote_identifier(f'__w{number}')}" for number, rule in enumerate(self.warnings)]
        return f"SELECT {', '.join([*out, *row])} FROM ({third})"

    def _valid(self) -> str:
        """Whether a row breaks no rule; a row that has every required value is spared the questions about their texts."""
        required = {column.name for column in self.contract.columns if column.required}
        others = [rule for rule in self.rules if not (rule.holds_if_filled and required.issuperset(rule.columns))]
        if len(others) == len(self.rules):
            return _all_of(self.rules)
        filled = " AND ".join(f"{quote_identifier(name)} IS NOT NULL" for name in sorted(required))
        return f"CASE WHEN {filled} THEN {_all_of(others)} ELSE {_all_of(self.rules)} END"

    @property
    def rescues(self) -> bool:
        """Whether raw keeps what the contract does not know."""
        return self.contract.schema_changes.new_columns == "rescue"

    def _reasons(self) -> str:
        broken = ", ".join(
            f"CASE WHEN ({rule.valid_sql}) IS FALSE THEN {{'rule': {quote_literal(rule.id)}, 'level': {quote_literal(str(rule.level))}, "
            f"'reason': coalesce({rule.describe_sql}, {quote_literal(rule.description)})}} END"
            for rule in self.rules
        )
        reasons = f"list_filter([{broken}], lambda __one: __one IS NOT NULL)" if broken else "NULL"
        return f"CAST({reasons} AS {_REASONS})"

    def _record(self, matching: Matching, others: Sequence[str]) -> str:
        """The row as it arrived, protected columns protected: JSON by the file's own names."""
        parts: list[str] = []
        for column in self.contract.columns:
            if column.name in matching.found:
                text = self._text(column)
                shown = protect_sql(text, column.protection, self.key) if column.protected and self.key else text
                parts.append(f"{quote_literal(matching.found[column.name])}, {shown}")
        parts += [f"{quote_literal(name)}, {other}" for name, other in zip(matching.unknown, others, strict=True)]
        return f"json_object({', '.join(parts)})::VARCHAR"

    @staticmethod
    def _rescued(matching: Matching, others: Sequence[str]) -> str:
        if not others:
            return "NULL::VARCHAR"
        filled = " OR ".join(f"{other} IS NOT NULL" for other in others)
        parts = ", ".join(f"{quote_literal(name)}, {other}" for name, other in zip(matching.unknown, others, strict=True))
        return f"CASE WHEN {filled} THEN json_object({parts})::VARCHAR END"

    @property
    def seals_for_subjects(self) -> bool:
        """Whether a value is encrypted under the key of whom it is about."""
        return any(column.protection == "encrypt" and column.subject for column in self.contract.columns)

    def as_stored(self) -> list[tuple[Column, str]]:
        """Each column, and its value as raw has it, from the typed columns."""
        return [
            (
                column,
                protect_sql(
                    quote_identifier(column.name),
                    column.protection,
                    self.key,
                    subject_sql=subject_sql(column.subject) if column.subject else None,
                    sql_type=column.sql_type,
                )
                if column.protected and self.key is not None
                else quote_identifier(column.name),
            )
            for column in self.contract.columns
        ]

    def stored(self) -> list[str]:
        """The SELECT list of raw: typed columns, protected ones as they are stored."""
        listed = [f"{sql} AS {quote_identifier(column.name)}" for column, sql in self.as_stored()]
        return [*listed, RESCUED] if self.rescues else listed


def _all_of(rules: Sequence[Rule]) -> str:
    return " AND ".join(f"({rule.valid_sql}) IS NOT FALSE" for rule in rules) or "true"


@dataclass
class ContractSelect:
    """A reader's Select that remembers how the columns of the newest piece of the file matched."""

    judge: RowJudge
    file: str
    by_path: bool
    matching: Matching | None = None
    names: tuple[str, ...] = ()

    def __call__(self, names: Sequence[str], relation: str, has_row: bool, /) -> str:
        """The judging SELECT.

        Raises:
            FileRefused: the contract does not allow the file's columns.
        """
        if self.matching is None or self.names != tuple(names):
            self.matching, self.names = match_columns(self.judge.contract, names), tuple(names)
            check_columns(self.file, self.judge.contract, self.matching, by_path=self.by_path)
        return self.judge.sql(self.matching, names, relation, has_row=has_row)


def worst_level_sql(levels: str) -> str:
    """SQL of the first level among a list of levels: a row that is no row breaks no business rule."""
    cases = " ".join(f"WHEN list_contains({levels}, {quote_literal(str(level))}) THEN {quote_literal(str(level))}" for level in _LEVELS)
    return f"CASE {cases} ELSE {quote_literal(str(Level.BUSINESS))} END"
