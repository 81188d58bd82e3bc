"""Which columns tell rows apart: unique in every row, and plausible as a key by name or by what the values are."""

from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from lakehouse.contracts.inference import naming
from lakehouse.contracts.inference.profile import ColumnProfile
from lakehouse.sql import quote_identifier, quote_literal

if TYPE_CHECKING:
    import duckdb

_LEAST_ROWS = 20
# A pair that is unique in a few hundred rows may be so by chance; the next file would then lose honest rows.
_LEAST_ROWS_OF_A_COMPOSITE = 500
_MOST_CANDIDATES = 9
_FEW_ROWS = 50_000


@dataclass(frozen=True, slots=True)
class Key:
    """A primary key and why it was chosen; no columns when there is none."""

    columns: tuple[str, ...]
    evidence: str


def find_key(con: "duckdb.DuckDBPyConnection", relation: str, profiles: list[ColumnProfile], dataset: str) -> Key:
    """The primary key of a relation, as column names of the file.

    Args:
        con: the connection that knows the relation.
        relation: its name.
        profiles: of every column.
        dataset: the dataset's name: `order_id` is the key of `orders` before it is that of anything else.
    """
    rows = profiles[0].rows if profiles else 0
    if rows < 2:
        return Key((), "too few rows to tell a key from chance")
    possible = [one for one in profiles if one.complete and one.kind in {"string", "integer"} and one.shape.mean_length <= 80]
    singles = sorted(
        ((score, position, one) for position, one in enumerate(possible) if (score := _score(one, position, profiles, dataset, rows)) > 0),
        key=lambda item: (-item[0], item[1]),
    )
    for _, _, one in singles[:_MOST_CANDIDATES]:
        if one.distinct >= rows * 0.85 and _is_unique(con, relation, [one], rows):
            return Key((one.source,), f"{one.source} is filled and different in all {rows:,} rows, {_why(one)}")
    composite = _composite(con, relation, possible, rows)
    if composite:
        return composite
    near = next((one for _, _, one in singles if naming.is_identifier(one.source) and one.distinct >= rows * 0.5), None)
    reason = f"; {near.source} comes nearest, but repeats" if near else ""
    return Key((), f"no column or group of identifiers is different in every row{reason}: rows are told apart by file and row number")


def _score(profile: ColumnProfile, position: int, profiles: list[ColumnProfile], dataset: str, rows: int) -> int:
    parts = naming.words(profile.source)
    named = naming.is_identifier(profile.source)
    strong_value = profile.shape.share("uuids") == 1 or profile.shape.share("hashes") == 1
    subject = {dataset, dataset.rstrip("s"), dataset.removeprefix("raw_"), dataset.removeprefix("raw_").rstrip("s")}
    score = 0
    if named:
        score += 5 if parts in {("id",), ("key",), ("uuid",), ("sha",), ("pk",)} else 3
        score += 3 if any(part in subject for part in parts) else 0
    if strong_value:
        score += 3
    first = profile is profiles[0]
    if first and (named or (profile.kind == "string" and profile.shape.share("coded") == 1)):
        score += 2
    if first and not named and profile.kind == "integer" and profile.minimum in {0, 1} and profile.maximum - profile.minimum == rows - 1:
        score += 2
    if rows < _LEAST_ROWS and score < 5:
        return 0
    return score


def _why(profile: ColumnProfile) -> str:
    if naming.is_identifier(profile.source):
        return "and its name is an identifier's"
    if profile.shape.share("uuids") == 1 or profile.shape.share("hashes") == 1:
        return "and its values are made to be unique"
    return "and it is the first column"


def _composite(con: "duckdb.DuckDBPyConnection", relation: str, possible: list[ColumnProfile], rows: int) -> Key | None:
    if rows < _LEAST_ROWS_OF_A_COMPOSITE:
        return None
    identifiers = [one for one in possible if naming.is_identifier(one.source) and one.distinct > 1]
    others = [one for one in possible if one not in identifiers and naming.is_key_part(one.source) and one.distinct > 1]
    candidates = (sorted(identifiers, key=lambda one: -one.distinct) + others)[:_MOST_CANDIDATES]
    for size in (2, 3):
        for group in combinations(candidates, size):
            if group[0] not in identifiers or _capacity(group) < rows * 0.85:
                continue
            if _is_unique(con, relation, group, min(rows, _FEW_ROWS)) and (rows <= _FEW_ROWS or _is_unique(con, relation, group, rows)):
                ordered = [one for one in possible if one in group and one in identifiers]
                ordered += [one for one in group if one not in identifiers]
                names = tuple(one.source for one in ordered)
                return Key(names, f"{' + '.join(names)} is filled and different in all {rows:,} rows; none of them is alone")
    return None


def _capacity(group: tuple[ColumnProfile, ...]) -> float:
    product = 1.0
    for one in group:
        product *= one.distinct * 1.1
    return product


def _is_unique(
    con: "duckdb.DuckDBPyConnection", relation: str, group: "list[ColumnProfile] | tuple[ColumnProfile, ...]", rows: int
) -> bool:
    columns = ", ".join(f"trim({quote_identifier(one.source)})" for one in group)
    limited = f"(SELECT * FROM {quote_identifier(relation)} LIMIT {rows})"
    row = con.execute(f"SELECT count(*) FROM (SELECT DISTINCT {columns} FROM {limited})").fetchone()
    return row is not None and int(row[0]) == rows


def exact_copies(con: "duckdb.DuckDBPyConnection", relation: str, sources: list[str]) -> int:
    """Rows that repeat an earlier row in every column."""
    if not sources:
        return 0
    parts = ", ".join(f"coalesce({quote_identifier(source)}, {quote_literal(chr(1))})" for source in sources)
    row = con.execute(f"SELECT count(*) - count(DISTINCT hash({parts})) FROM {quote_identifier(relation)}").fetchone()
    return int(row[0]) if row else 0
