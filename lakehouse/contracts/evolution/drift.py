"""What arrived against what the contract says: new, missing, retyped and renamed columns, each with the change that would accept it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from lakehouse.contracts.evolution.compatibility import widens
from lakehouse.contracts.evolution.edits import AddColumn, AddCustom, Edit, SetKey
from lakehouse.contracts.inference.profile import ColumnProfile, profile
from lakehouse.contracts.matching import Matching, match_columns
from lakehouse.contracts.objects import Column, DatasetContract
from lakehouse.contracts.types import cast_sql, text_sql
from lakehouse.sql import quote_identifier, quote_literal

if TYPE_CHECKING:
    import duckdb

# A few values that are not of the type are dirt, which quarantine is for; more are another column. A wider number is no dirt.
_DIRT_SHARE = 0.05
_WIDER_SHARE = 0.001
_NAMES_ALIKE = 0.6
_VALUES_SHARED = 0.5
_SAMPLED_VALUES = 2000
_BIGINT_DIGITS = 19
_MOST_PLACES = 9
_PROVENANCE = frozenset({"_row"})


class DriftKind(StrEnum):
    """What became of a column."""

    NEW = "new"
    MISSING = "missing"
    RETYPED = "retyped"
    RENAMED = "renamed"


@dataclass(frozen=True, slots=True)
class Drift:
    """One column that is not as the contract says.

    Attributes:
        column: its name in the contract; of a new one the name it would get.
        found: its name in the file; None for a missing one.
        detail: what is the matter, with the evidence.
        edits: the change of the contract that accepts it; empty where no change can.
        consequence: what has to be known or done once the contract is changed.
    """

    kind: DriftKind
    column: str
    found: str | None
    detail: str
    edits: tuple[Edit, ...] = ()
    consequence: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The drift as the CLI prints it under --json."""
        return {
            "kind": str(self.kind),
            "column": self.column,
            "found": self.found,
            "detail": self.detail,
            "accepted_by": [str(edit) for edit in self.edits],
            "consequence": self.consequence,
        }


@dataclass(frozen=True, slots=True)
class Arrived:
    """A file as rows of text.

    Attributes:
        relation: a table or view of VARCHAR columns.
        names: its columns in their order.
        by_path: they were found in nested records, in which what is absent is a matter of each record.
        known: SQL of known values per column of the contract: a SELECT of one column, to recognise a renamed one by.
    """

    relation: str
    names: tuple[str, ...]
    by_path: bool = False
    known: Mapping[str, str] = field(default_factory=dict[str, str])


def find_drift(con: "duckdb.DuckDBPyConnection", contract: DatasetContract, arrived: Arrived) -> tuple[Drift, ...]:
    """How the columns of a file differ from those of the contract, in the order of the file, then what is missing.

    Args:
        con: knows the relation; its session is in UTC.
        contract: the dataset's.
        arrived: the file.
    """
    names = tuple(name for name in arrived.names if name not in _PROVENANCE)
    matching = match_columns(contract, names)
    ignores = contract.schema_changes.new_columns == "ignore"
    missing = [column for column in matching.missing if not column.may_be_missing]
    unknown = list(matching.unknown)
    wanted = [*(matching.found[column.name] for column in contract.columns if column.name in matching.found), *unknown]
    profiles = {one.source: one for one in profile(con, arrived.relation, wanted)} if wanted else {}
    finder = _Finder(con, contract, arrived, matching, names, profiles)
    renamed = finder.renamed(missing, unknown)
    drifts = [finder.rename(column, renamed[column.name]) for column in missing if column.name in renamed]
    drifts += finder.retyped()
    if not ignores:
        drifts += finder.new([source for source in unknown if source not in renamed.values()])
    place = {name: number for number, name in enumerate(names)}
    drifts.sort(key=lambda drift: place.get(drift.found or "", len(place)))
    return (*drifts, *(finder.missing(column) for column in missing if column.name not in renamed))


@dataclass(frozen=True, slots=True)
class _Finder:
    """One comparison of a file with a contract."""

    con: "duckdb.DuckDBPyConnection"
    contract: DatasetContract
    arrived: Arrived
    matching: Matching
    names: tuple[str, ...]
    profiles: Mapping[str, ColumnProfile]

    def new(self, sources: Sequence[str]) -> Iterator[Drift]:
        taken = {column.name.lower() for column in self.contract.columns}
        for source in sources:
            seen = self.profiles[source]
            name = _free_name(seen.name, taken)
            taken.add(name.lower())
            entry: dict[str, Any] = {"name": name}
            if name != source:
                entry["physicalName"] = source
            entry |= {"logicalType": seen.logical_type, "physicalType": seen.sql_type}
            custom = [{"property": f"lakehouse.{key}", "value": value} for key, value in _reading(seen).items()]
            if custom:
                entry["customProperties"] = custom
            kept = "_rescued of the rows that are there keeps its values" if self.contract.schema_changes.new_columns == "rescue" else ""
            consequence = f"rows that are there have NULL in {name}" + (f"; {kept}" if kept else "")
            yield Drift(DriftKind.NEW, name, source, f"the contract does not know it; {_looks(seen)}", (AddColumn(entry),), consequence)

    def missing(self, column: Column) -> Drift:
        if column.primary_key:
            detail = "the file lacks it, and it is part of the key: rows can't be told apart without it"
            return Drift(DriftKind.MISSING, column.name, None, detail, (), "have the file delivered with it, or choose another key")
        edits: list[Edit] = [SetKey(column.name, "required", False)] if column.required else []
        edits.append(AddCustom(column.name, "mayBeMissing", True))
        what = "the file is refused: it is required" if column.required else "no row of the file has a value there"
        return Drift(
            DriftKind.MISSING,
            column.name,
            None,
            f"the file lacks {column.source}; {what}",
            tuple(edits),
            "rows of such files have NULL in it",
        )

    def rename(self, column: Column, source: str) -> Drift:
        edits: list[Edit] = [SetKey(column.name, "physicalName", source)]
        if column.source != column.name:
            edits.append(AddCustom(column.name, "alsoCalled", [column.source]))
        detail = f"{column.source} is called {source} now: {', '.join(self._signs(column, source))}"
        return Drift(DriftKind.RENAMED, column.name, source, detail, tuple(edits), "tables keep their column; files of both names are read")

    def renamed(self, missing: Sequence[Column], unknown: Sequence[str]) -> dict[str, str]:
        """Missing columns that came under another name: at least two of position, name and values speak for it, the type never against."""
        scored = [
            (len(signs), _likeness(column.source, source), column, source)
            for column in missing
            for source in unknown
            if len(signs := self._signs(column, source)) >= 2
        ]
        found: dict[str, str] = {}
        for _, _, column, source in sorted(scored, key=lambda one: (-one[0], -one[1])):
            if column.name not in found and source not in found.values():
                found[column.name] = source
        return found

    def _signs(self, column: Column, source: str) -> list[str]:
        if not self._is_of_type(column, source):
            return []
        signs: list[str] = []
        if self._is_in_its_place(column, source):
            signs.append("it stands in the same place")
        if _likeness(column.source, source) >= _NAMES_ALIKE or _likeness(column.name, source) >= _NAMES_ALIKE:
            signs.append("the names are alike")
        shared = self._shared(column, source)
        if shared is not None and shared >= _VALUES_SHARED:
            signs.append(f"{shared:.0%} of its values are known")
        elif shared is not None and self.profiles[source].categories:
            return []  # A handful of answers of which most were never given is another question.
        return signs

    def _is_of_type(self, column: Column, source: str) -> bool:
        filled, misfits = self._misfits(column, source)
        seen = self.profiles[source]
        if column.sql_type == "VARCHAR" and column.logical_type == "string" and seen.kind != "string":
            # Text holds anything: a number in its place is only the same if text can be all digits, as codes are.
            return filled > 0 and (self._shared(column, source) or 0.0) >= _VALUES_SHARED
        return filled > 0 and misfits <= _DIRT_SHARE * filled

    def _is_in_its_place(self, column: Column, source: str) -> bool:
        """Whether the columns before and after it in the file are those before and after it in the contract."""
        order = [one.name for one in self.contract.columns]
        called = {found: name for name, found in self.matching.found.items()}
        here, there = self.names.index(source), order.index(column.name)
        before = called.get(self.names[here - 1]) if here else ""
        after = called.get(self.names[here + 1]) if here + 1 < len(self.names) else ""
        was_before = order[there - 1] if there else ""
        was_after = order[there + 1] if there + 1 < len(order) else ""
        return (before, after) == (was_before, was_after) or (here == there and len(order) == len(self.names))

    def _shared(self, column: Column, source: str) -> float | None:
        """Share of the file's different values that are known of the column; None where nothing is known."""
        known = self.arrived.known.get(column.name)
        if known is None:
            return None
        typed = cast_sql(column, quote_identifier(source))
        sample = (
            f"SELECT DISTINCT CAST({typed} AS VARCHAR) AS v FROM {quote_identifier(self.arrived.relation)} "
            f"WHERE v IS NOT NULL ORDER BY hash(v) LIMIT {_SAMPLED_VALUES}"
        )
        row = self.con.execute(
            f"SELECT count(*), count_if(v IN (SELECT CAST(k AS VARCHAR) FROM ({known}) AS t(k) WHERE k IS NOT NULL)) FROM ({sample})"
        ).fetchone()
        return None if row is None or not row[0] else row[1] / row[0]

    def _misfits(self, column: Column, source: str) -> tuple[int, int]:
        """Texts that are values, and of them those that are not of the column's type."""
        text = quote_identifier(source)
        row = self.con.execute(
            f"SELECT count({text_sql(column, text)}), count_if({text_sql(column, text)} IS NOT NULL AND {cast_sql(column, text)} IS NULL "
            f"AND NOT {_is_null_token(column, text)}) FROM {quote_identifier(self.arrived.relation)}"
        ).fetchone()
        return (int(row[0]), int(row[1])) if row else (0, 0)

    def retyped(self) -> Iterator[Drift]:
        for column in self.contract.columns:
            source = self.matching.found.get(column.name)
            if source is None or (column.sql_type == "VARCHAR" and column.logical_type == "string"):
                continue
            filled, misfits = self._misfits(column, source)
            if not filled or misfits <= _WIDER_SHARE * filled:
                continue
            change = self._new_type(column, source, misfits, filled)
            if change is not None:
                yield change

    def _new_type(self, column: Column, source: str, misfits: int, filled: int) -> Drift | None:
        """The narrowest change that lets the values in; None where they are a few bad ones."""
        seen = self.profiles[source]
        for candidate in _candidates(column, seen, self._places(column, source)):
            is_wider = candidate.sql_type != "VARCHAR"
            if misfits <= (_WIDER_SHARE if is_wider else _DIRT_SHARE) * filled:
                continue
            left = self._misfits(candidate, source)[1]
            # It has to explain most of what does not fit: what it leaves is dirt.
            if left * 10 > misfits or left > _WIDER_SHARE * filled:
                continue
            share = misfits / filled
            detail = f"{misfits:,} of {filled:,} values ({share:.1%}) are no {column.sql_type}{self._example(column, source)}"
            return self._retype(column, candidate, source, detail)
        return None

    def _places(self, column: Column, source: str) -> int | None:
        """Digits after the point that every number needs; None where there is no such thing."""
        if column.sql_type != "BIGINT" or self.profiles[source].kind != "number" or self.profiles[source].decimal != ".":
            return None
        text = f"trim({quote_identifier(source)})"
        row = self.con.execute(
            f"SELECT max(length(split_part({text}, '.', 2))), bool_or(contains(lower({text}), 'e')) "
            f"FROM {quote_identifier(self.arrived.relation)} WHERE TRY_CAST({text} AS DOUBLE) IS NOT NULL"
        ).fetchone()
        return None if row is None or row[1] or not row[0] or row[0] > _MOST_PLACES else int(row[0])

    def _example(self, column: Column, source: str) -> str:
        if column.protected:
            return ""
        text = quote_identifier(source)
        row = self.con.execute(
            f"SELECT left({text}, 40) FROM {quote_identifier(self.arrived.relation)} WHERE {text_sql(column, text)} IS NOT NULL AND "
            f"{cast_sql(column, text)} IS NULL AND NOT {_is_null_token(column, text)} ORDER BY ALL LIMIT 1"
        ).fetchone()
        return f", such as {row[0]!r}" if row else ""

    def _retype(self, old: Column, new: Column, source: str, detail: str) -> Drift:
        edits: list[Edit] = []
        if new.sql_type != old.sql_type:
            edits += [SetKey(old.name, "logicalType", new.logical_type), SetKey(old.name, "physicalType", new.sql_type)]
            if new.logical_type != old.logical_type and not (old.logical_type == "integer" and new.logical_type == "number"):
                edits += [SetKey(old.name, "logicalTypeOptions", {})] if old.options else []
                edits += [SetKey(old.name, "enum", [])] if old.allowed else []
        added = [one for one in new.formats if one not in old.formats]
        edits += [AddCustom(old.name, "format", added)] if added else []
        edits += [AddCustom(old.name, "decimal", new.decimal)] if new.decimal != old.decimal else []
        tokens = [one for one in new.null_values if one not in old.null_values]
        edits += [AddCustom(old.name, "nullValues", list(new.null_values))] if tokens else []
        if new.sql_type == old.sql_type:
            consequence = "rows that are there stay as they were read"
        elif widens(old.stored_type, new.stored_type):
            consequence = f"raw widens {old.name} to {new.stored_type} by itself with the next batch"
        else:
            consequence = (
                f"raw.{self.contract.name} holds {old.stored_type}, which can't become {new.stored_type} in place: "
                "if it has rows, ingest the originals into a dataset of another name, or keep the type and add a column"
            )
        return Drift(DriftKind.RETYPED, old.name, source, detail, tuple(edits), consequence)


def _candidates(column: Column, seen: ColumnProfile, places: int | None) -> Iterator[Column]:
    """What the column could be, the smallest change first; `places` are the most digits after a point."""
    same = replace(
        column,
        formats=tuple(dict.fromkeys((*column.formats, *seen.formats))),
        decimal=seen.decimal,
        null_values=tuple(dict.fromkeys((*column.null_values, *seen.value_tokens))),
    )
    kind = seen.logical_type
    if kind == column.logical_type or seen.kind == "string":
        yield replace(same, decimal=column.decimal)
        yield same
    if column.sql_type in {"TINYINT", "SMALLINT", "INTEGER"}:
        yield replace(same, sql_type="BIGINT", decimal=column.decimal)
    if kind == "number" and column.logical_type in {"integer", "number"}:
        if column.sql_type == "BIGINT" and places is not None:
            # No DOUBLE has room for every BIGINT: a table that is there can only become exact numbers.
            yield replace(same, logical_type="number", sql_type=f"DECIMAL({_BIGINT_DIGITS + places},{places})")
        yield replace(same, logical_type="number", sql_type="DOUBLE")
    if kind == "timestamp" and column.logical_type in {"date", "timestamp"}:
        yield replace(same, logical_type="timestamp", sql_type=seen.sql_type, options={})
    if kind not in {column.logical_type, "string"}:
        yield replace(same, logical_type=kind, sql_type=seen.sql_type, options={}, allowed=())
    yield replace(column, logical_type="string", sql_type="VARCHAR", formats=(), decimal=".", options={}, allowed=())


def _is_null_token(column: Column, text: str) -> str:
    tokens = ", ".join(quote_literal(token) for token in ("", *column.null_values))
    return f"coalesce(trim({text}) IN ({tokens}), true)"


def _reading(seen: ColumnProfile) -> dict[str, Any]:
    """How the texts of a new column are to be read."""
    found: dict[str, Any] = {}
    if seen.tokens:
        found["nullValues"] = sorted(seen.tokens)
    if seen.formats:
        found["format"] = list(seen.formats)
    if seen.decimal != ".":
        found["decimal"] = seen.decimal
    return found


def _looks(seen: ColumnProfile) -> str:
    filled = "always filled" if seen.complete else f"{seen.values:,} of {seen.rows:,} rows have a value"
    return f"{seen.kind}, {filled}"


def _free_name(name: str, taken: set[str]) -> str:
    number, free = 2, name
    while free.lower() in taken:
        free, number = f"{name}_{number}", number + 1
    return free


def _likeness(one: str, other: str) -> float:
    first, second = (
        "".join(sign for sign in name.casefold() if sign.isalnum()) for name in (one.rpartition(".")[2], other.rpartition(".")[2])
    )
    return SequenceMatcher(None, first, second).ratio()
