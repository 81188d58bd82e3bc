"""A sample of the rows, for what is too dear to ask of every row: typical values, how texts are written, what goes together."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lakehouse.contracts.inference.profile import CLEAR_TOKENS, Shape, shapes
from lakehouse.quality.profile.columns import Measured, parts
from lakehouse.quality.profile.facts import Count
from lakehouse.sql import quote_identifier, quote_literal

if TYPE_CHECKING:
    import duckdb

SAMPLE = quote_identifier("profile sample")
_CHOSEN = quote_identifier("profile rows")
_VALUES = quote_identifier("profile values")
SAMPLE_ROWS = 20_000
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
_LEAST_ROWS = 1_000
_SAMPLE_CELLS = 2_000_000
_SHAPED_ROWS = 2_500
_LOOKED_AT_ROWS = 6_000
_TEXT = 200
FEW = 50
_MOST_FREQUENT = 10
_PATTERNS = 5
_LABEL = 60
_MOST_GROUPED = 2_000
_SEMANTICS = {
    "emails": "e-mail addresses",
    "ips": "IP addresses",
    "ibans": "IBANs",
    "uuids": "UUIDs",
    "hashes": "hashes or tokens",
    "jsons": "JSON documents",
    "iso": "dates or times",
    "numbers": "numbers",
    "booleans": "truth values",
    "dateish": "dates or times",
    "phones": "phone numbers",
}


@dataclass(frozen=True, slots=True)
class Seen:
    """What the sample says of one column.

    Attributes:
        distinct: different values in the sample.
        frequent: hash and beginning of the most frequent values; all of them if they are few.
        patterns: how the texts are written, most frequent first, with rows of the sample.
        variants: share of texts that differ from a more frequent one only in case or blanks.
        null_words: share of texts that mean "no value".
    """

    values: int = 0
    distinct: int = 0
    frequent: Mapping[int, str | None] = field(default_factory=dict[int, str | None])
    shape: Shape | None = None
    patterns: tuple[Count, ...] = ()
    variants: float = 0.0
    variant_example: str | None = None
    null_words: float = 0.0
    null_word: str | None = None

    @property
    def repeats(self) -> bool:
        """Whether its values come again so often that all of them can be counted."""
        return self.distinct <= FEW or (self.distinct <= _MOST_GROUPED and self.values >= 10 * self.distinct)

    @property
    def looks_like(self) -> str | None:
        """What nearly all texts are."""
        if self.shape is None or self.shape.values < 5:
            return None
        found = next((detector for detector in _SEMANTICS if self.shape.share(detector) >= 0.95), None)
        if found == "numbers" and (self.shape.counts["zeros"] or self.shape.counts["pluses"]):
            return "codes of digits"
        return _SEMANTICS[found] if found else None


@dataclass(frozen=True, slots=True)
class Sample:
    """The sample: a temporary table with `h<n>` (hash), `t<n>` (beginning of the text) and `x<n>` (number) per column."""

    rows: int
    seen: Mapping[int, Seen]
    quantiles: Mapping[int, Sequence[float]]


def take_sample(con: "duckdb.DuckDBPyConnection", relation: str, columns: Sequence[Measured], *, rows: int, at_most: int) -> Sample:
    """Make the temporary table SAMPLE and look at its values.

    Args:
        con: the connection that knows the relation.
        relation: what may stand after FROM.
        columns: of it.
        rows: it has.
        at_most: rows of the sample; fewer of a wide table.
    """
    wanted = max(_LEAST_ROWS, min(at_most, _SAMPLE_CELLS // max(len(columns), 1)))
    chosen = f" USING SAMPLE {100 * wanted / rows:.9f}% (bernoulli, 7)" if rows > wanted * 1.2 else ""
    values = ", ".join(one.aliased() for one in columns) or "1 AS nothing"
    made = ", ".join(sql for one in columns for sql in _made(one)) or "nothing"
    # In two steps: in one, the expressions would be computed of every row, and most of them thrown away.
    con.execute(f"CREATE OR REPLACE TEMP TABLE {_CHOSEN} AS SELECT {values} FROM {relation}{chosen}")
    con.execute(f"CREATE OR REPLACE TEMP TABLE {SAMPLE} AS SELECT {made} FROM {_CHOSEN}")
    con.execute(f"DROP TABLE {_CHOSEN}")
    counted = con.execute(f"SELECT count(*) FROM {SAMPLE}").fetchone()
    seen: dict[int, Seen] = {}
    for part in parts(columns, 200):
        seen |= _look(con, part, often=3 if chosen else 2, limit=f" LIMIT {_LOOKED_AT_ROWS}" if chosen else "")
    return Sample(counted[0] if counted else 0, seen, _quantiles(con, columns))


def drop_sample(con: "duckdb.DuckDBPyConnection") -> None:
    """Remove what `take_sample` has made."""
    con.execute(f"DROP TABLE IF EXISTS {SAMPLE}")
    con.execute(f"DROP TABLE IF EXISTS {_VALUES}")


def _made(one: Measured) -> list[str]:
    text = "NULL::VARCHAR" if one.hidden else one.as_text(_TEXT)
    made = [f"CASE WHEN {one.value} IS NOT NULL THEN hash({one.value}) END AS h{one.number}", f"{text} AS t{one.number}"]
    return [*made, f"{one.as_number()} AS x{one.number}"] if one.is_ordered else made


def _quantiles(con: "duckdb.DuckDBPyConnection", columns: Sequence[Measured]) -> dict[int, Sequence[float]]:
    """The sample's quantiles of the columns that have an order, by their number."""
    found: dict[int, Sequence[float]] = {}
    at = ", ".join(str(one) for one in QUANTILES)
    for part in parts([one for one in columns if one.is_ordered], 100):
        row = con.execute(f"SELECT {', '.join(f'quantile_cont(x{one.number}, [{at}])' for one in part)} FROM {SAMPLE}").fetchone() or ()
        found |= {one.number: tuple(quantiles) for one, quantiles in zip(part, row, strict=True) if quantiles is not None}
    return found


def _look(con: "duckdb.DuckDBPyConnection", columns: Sequence[Measured], *, often: int, limit: str) -> dict[int, Seen]:
    """The columns turned into one long column: the plan does not grow with the width."""
    if not columns:
        return {}
    hashes, texts = ", ".join(f"h{one.number}" for one in columns), ", ".join(f"t{one.number}" for one in columns)
    numbers = ", ".join(str(one.number) for one in columns)
    some = f"(SELECT * FROM {SAMPLE}{limit})"
    long = f"(SELECT unnest([{numbers}]) AS c, unnest([{hashes}]) AS h, unnest([{texts}]) AS t FROM {some})"
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE {_VALUES} AS SELECT c, h, any_value(t) AS t, count(*) AS n FROM {long} WHERE h IS NOT NULL GROUP BY c, h"
    )
    totals = {
        int(c): (int(values), int(distinct))
        for c, values, distinct in con.execute(f"SELECT c, sum(n), count(*) FROM {_VALUES} GROUP BY c").fetchall()
    }
    frequent: dict[int, dict[int, str | None]] = {}
    order = "row_number() OVER (PARTITION BY c ORDER BY n DESC, t, h)"
    ranked = f"SELECT c, h, t, n, count(*) OVER (PARTITION BY c) AS d, {order} AS place FROM {_VALUES}"
    for c, h, t in con.execute(
        f"SELECT c, h, t FROM ({ranked}) WHERE (place <= {_MOST_FREQUENT} AND n >= {often}) OR d <= {FEW} ORDER BY c, place"
    ).fetchall():
        frequent.setdefault(int(c), {})[int(h)] = None if t is None else shown(t)
    written = _Written.of(con, [one for one in columns if one.kind == "text" and not one.hidden])
    return {
        one.number: Seen(
            values=totals.get(one.number, (0, 0))[0],
            distinct=totals.get(one.number, (0, 0))[1],
            frequent=frequent.get(one.number, {}),
            shape=written.shapes.get(one.number),
            patterns=written.patterns.get(one.number, ()),
            variants=written.variants.get(one.number, (0.0, None))[0],
            variant_example=written.variants.get(one.number, (0.0, None))[1],
            null_words=written.words.get(one.number, (0.0, None))[0],
            null_word=written.words.get(one.number, (0.0, None))[1],
        )
        for one in columns
    }


def shown(text: str) -> str:
    """A value as it may stand in a table: one line, not too long, nothing that a terminal obeys."""
    line = re.sub(r"\s+", " ", re.sub(r"[\x00-\x1f\x7f-\x9f]", " ", text)) if not text.isprintable() else text
    return line if len(line) <= _LABEL else line[: _LABEL - 1] + "…"


@dataclass(frozen=True, slots=True)
class _Written:
    """How the texts of the sample are written, by the column's number."""

    shapes: Mapping[int, Shape] = field(default_factory=dict[int, Shape])
    patterns: Mapping[int, tuple[Count, ...]] = field(default_factory=dict[int, tuple[Count, ...]])
    variants: Mapping[int, tuple[float, str | None]] = field(default_factory=dict[int, tuple[float, str | None]])
    words: Mapping[int, tuple[float, str | None]] = field(default_factory=dict[int, tuple[float, str | None]])

    @classmethod
    def of(cls, con: "duckdb.DuckDBPyConnection", columns: Sequence[Measured]) -> "_Written":
        if not columns:
            return cls()
        some = quote_identifier("profile texts")
        listed = ", ".join(f"t{one.number}" for one in columns)
        con.execute(f"CREATE OR REPLACE TEMP VIEW {some} AS SELECT {listed} FROM {SAMPLE} LIMIT {_SHAPED_ROWS}")
        found = shapes(con, some, [f"t{one.number}" for one in columns])
        con.execute(f"DROP VIEW {some}")
        wanted = f"c IN ({', '.join(str(one.number) for one in columns)})"
        return cls(
            shapes={one.number: found[f"t{one.number}"] for one in columns},
            patterns=_patterns(con, wanted),
            variants=_variants(con, wanted),
            words=_null_words(con, wanted),
        )


def _patterns(con: "duckdb.DuckDBPyConnection", wanted: str) -> dict[int, tuple[Count, ...]]:
    text = "left(t, 60)"
    for pattern, mark in (
        ("[0-9]", "9"),
        (r"\p{Lu}", "A"),
        (r"[\p{Ll}\p{Lo}]", "a"),
        (r"\s+", " "),
        ("9{2,}", "9+"),
        ("A{2,}", "A+"),
        ("a{2,}", "a+"),
    ):
        text = f"regexp_replace({text}, {quote_literal(pattern)}, {quote_literal(mark)}, 'g')"
    some = f"SELECT c, t, n FROM {_VALUES} WHERE {wanted} QUALIFY row_number() OVER (PARTITION BY c ORDER BY n DESC, h) <= 2000"
    grouped = f"SELECT c, {text} AS p, sum(n)::BIGINT AS n FROM ({some}) GROUP BY ALL"
    # Of many different texts only some were looked at: their shares stand for all of the sample.
    shared = f"SELECT g.c, p, (n * total / sum(n) OVER (PARTITION BY g.c))::BIGINT AS n FROM ({grouped}) g JOIN ({_totals()}) USING (c)"
    rows = con.execute(
        f"SELECT c, p, n FROM ({shared}) QUALIFY row_number() OVER (PARTITION BY c ORDER BY n DESC, p) <= {_PATTERNS} ORDER BY c, n DESC, p"
    ).fetchall()
    found: dict[int, list[Count]] = {}
    for c, pattern, n in rows:
        found.setdefault(int(c), []).append(Count(shown(pattern), int(n)))
    return {c: tuple(patterns) for c, patterns in found.items()}


def _totals() -> str:
    return f"SELECT c, sum(n) AS total FROM {_VALUES} GROUP BY c"


def _variants(con: "duckdb.DuckDBPyConnection", wanted: str) -> dict[int, tuple[float, str | None]]:
    """Texts written in another way than a more frequent one; only where texts come again, because codes may differ in case."""
    folded = r"lower(regexp_replace(trim(t), '\s+', ' ', 'g'))"
    repeated = (
        f"SELECT *, sum(n) OVER (PARTITION BY c) AS total, count(*) OVER (PARTITION BY c) AS d FROM {_VALUES} WHERE {wanted} AND t <> ''"
    )
    # Whatever is a hash or a token has no other way to be written.
    groups = (
        f"SELECT c, total, sum(n) - max(n) AS other, max(n) AS usual, arg_max(t, n) AS most, arg_min(t, n) AS least FROM ({repeated}) "
        f"WHERE d <= 0.5 * total GROUP BY c, total, {folded} HAVING count(*) > 1 AND count(DISTINCT t) > 1"
    )
    rows = con.execute(
        f"SELECT c, sum(other) / any_value(total), arg_max(most, other), arg_max(least, other) FROM ({groups}) GROUP BY c"
    ).fetchall()
    return {int(c): (float(share), f"{shown(least)!r} for {shown(most)!r}") for c, share, most, least in rows}


def _null_words(con: "duckdb.DuckDBPyConnection", wanted: str) -> dict[int, tuple[float, str | None]]:
    tokens = ", ".join(quote_literal(token) for token in CLEAR_TOKENS)
    rows = con.execute(
        f"SELECT c, sum(n) FILTER (trim(t) IN ({tokens})) / sum(n), arg_max(trim(t), n) FILTER (trim(t) IN ({tokens})) "
        f"FROM {_VALUES} WHERE {wanted} GROUP BY c HAVING count(*) FILTER (trim(t) IN ({tokens})) > 0"
    ).fetchall()
    return {int(c): (float(share), word) for c, share, word in rows}
