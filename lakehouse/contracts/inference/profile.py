"""What the values of a file's columns look like: detectors on a sample, then every value held against the type they suggest."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from lakehouse.contracts.inference import naming
from lakehouse.contracts.objects import Column
from lakehouse.contracts.types import cast_sql, trimmed_sql
from lakehouse.sql import quote_identifier, quote_literal

if TYPE_CHECKING:
    import duckdb

SAMPLE_ROWS = 20_000
_SAMPLE_CELLS = 1_000_000
_CHUNK = 8
MOST_CATEGORIES = 50
# Texts that mean "no value" wherever they stand.
CLEAR_TOKENS = ("NULL", "null", "\\N", "#N/A", "<NA>", "(null)", "N/A", "n/a", "#NULL!", "[null]")
# Texts that mean it where every other value is a number, a date or a truth value.
LOOSE_TOKENS = ("NA", "NaN", "nan", "None", "none", "nil", "-", "--", ".", "?", "N", "missing", "Missing", "unknown", "#DIV/0!", "#VALUE!")
_TOKENS = CLEAR_TOKENS + LOOSE_TOKENS

_DAYS = (
    *("%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%d.%m.%Y", "%d/%m/%y", "%m/%d/%y", "%d-%b-%Y", "%d-%b-%y", "%d %b %Y", "%d %B %Y"),
    *("%b %d, %Y", "%B %d, %Y", "%d/%b/%Y", "%Y.%m.%d", "%b %d %Y"),
)
_CLOCKS = (" %H:%M", " %H:%M:%S", " %H:%M:%S.%f", " %I:%M %p", " %I:%M:%S %p", ":%H:%M:%S %z")
_FORMATS = (*_DAYS, *(day + clock for day in _DAYS for clock in _CLOCKS))
_TYPES = {
    "integer": "BIGINT",
    "number": "DOUBLE",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "timestamp": "TIMESTAMP",
    "timestamptz": "TIMESTAMPTZ",
    "string": "VARCHAR",
}
_DETECTORS = {
    "numbers": r"TRY_CAST({v} AS DOUBLE) IS NOT NULL AND NOT contains({v}, '_')",
    "comma_numbers": r"regexp_full_match({v}, '[+-]?([0-9]{{1,3}}(\.[0-9]{{3}})+|[0-9]+)(,[0-9]+)?')",
    "comma_decimals": r"regexp_matches({v}, ',([0-9]{{1,2}}|[0-9]{{4,}})$')",
    "booleans": r"lower({v}) IN ('true', 'false', 't', 'f')",
    "iso": r"regexp_matches({v}, '^[0-9]{{4}}[-/][0-9]{{1,2}}[-/][0-9]{{1,2}}') AND TRY_CAST({v} AS TIMESTAMPTZ) IS NOT NULL",
    "clocks": r"regexp_matches({v}, '[0-9]:[0-9]{{2}}')",
    "zones": r"regexp_matches({v}, '([Zz]|[0-9][+-][0-9]{{2}}(:?[0-9]{{2}})?)$') AND regexp_matches({v}, ':[0-9]{{2}}')",
    "dateish": r"regexp_matches({v}, '^([0-9]{{1,4}}[-/. ]([0-9]{{1,2}}|[A-Za-z]{{3,9}})[-/. ]|"
    r"[A-Za-z]{{3,9}} [0-9]{{1,2}},? [0-9]{{4}})')",
    "zeros": r"regexp_full_match({v}, '0[0-9]+(\.0)?')",
    "pluses": r"regexp_full_match({v}, '\+[0-9]{{5,}}')",
    "wholes": r"regexp_full_match({v}, '[+-]?[0-9]+')",
    "whole_floats": r"regexp_full_match({v}, '[+-]?[0-9]+\.0+')",
    "emails": r"regexp_full_match({v}, '[^@\s]+@[^@\s]+\.[A-Za-z]{{2,}}')",
    "ips": r"regexp_full_match({v}, '((25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])\.){{3}}(25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])') "
    r"OR regexp_full_match({v}, '([0-9A-Fa-f]{{1,4}}:){{4,7}}[0-9A-Fa-f]{{1,4}}')",
    "phones": r"regexp_full_match({v}, '\+?[0-9(][0-9 ()./-]{{5,18}}[0-9]') "
    r"AND length(regexp_replace({v}, '[^0-9]', '', 'g')) BETWEEN 7 AND 15",
    "ibans": r"regexp_full_match({v}, '[A-Z]{{2}}[0-9]{{2}} ?([A-Z0-9]{{4}} ?){{2,7}}[A-Z0-9]{{1,4}}')",
    "uuids": r"regexp_matches({v}, '[0-9a-fA-F]{{8}}-([0-9a-fA-F]{{4}}-){{3}}[0-9a-fA-F]{{12}}$')",
    "hashes": r"regexp_full_match({v}, '[0-9a-fA-F]{{16,64}}') AND regexp_matches({v}, '[a-fA-F]') AND regexp_matches({v}, '[0-9]')",
    "coded": r"regexp_full_match({v}, '[A-Za-z0-9][A-Za-z0-9:_./-]*') AND regexp_matches({v}, '[0-9]')",
    "spaced": r"contains({v}, ' ')",
    "jsons": r"regexp_matches({v}, '^[\[{{]') AND json_valid({v})",
}


@dataclass(frozen=True, slots=True)
class Shape:
    """What a sample's values of one column look like; every count is of values that are no null token."""

    filled: int
    values: int
    distinct: int
    mean_length: float
    tokens: Mapping[str, int]
    counts: Mapping[str, int]

    def share(self, detector: str) -> float:
        """Share of the values that the detector knows."""
        return self.counts[detector] / self.values if self.values else 0.0


@dataclass(frozen=True, slots=True)
class ColumnProfile:
    """One column of a file, as all its rows have it.

    Attributes:
        kind: integer, number, boolean, date, timestamp, timestamptz or string.
        misfits: values that are not of the kind and would be quarantined.
        tokens: texts that mean "no value", with their count.
        categories: the values, most frequent first, when there are few and they come again.
        reason: why the kind is what it is, where that is not obvious.
    """

    source: str
    name: str
    kind: str
    rows: int
    filled: int
    values: int
    distinct: int
    shape: Shape
    misfits: int = 0
    misfit_example: str | None = None
    tokens: Mapping[str, int] = field(default_factory=dict[str, int])
    formats: tuple[str, ...] = ()
    decimal: str = "."
    minimum: Any = None
    maximum: Any = None
    categories: tuple[tuple[str, int], ...] = ()
    reason: str = ""

    @property
    def nulls(self) -> int:
        """Rows without a value."""
        return self.rows - self.values

    @property
    def complete(self) -> bool:
        """Every row has a value."""
        return self.rows > 0 and self.values == self.rows

    @property
    def logical_type(self) -> str:
        """The standard's name of the kind."""
        return "timestamp" if self.kind == "timestamptz" else self.kind

    @property
    def sql_type(self) -> str:
        """DuckDB's type of the kind."""
        return _TYPES[self.kind]

    @property
    def value_tokens(self) -> tuple[str, ...]:
        """The texts that mean "no value"."""
        return tuple(self.tokens)

    def column(self) -> Column:
        """The column as a contract would have it."""
        return Column(
            self.name,
            self.source,
            self.logical_type,
            self.sql_type,
            formats=self.formats,
            null_values=self.value_tokens,
            decimal=self.decimal,
        )


def chunks(items: Sequence[Any], size: int = _CHUNK) -> Iterator[Sequence[Any]]:
    """The items in slices: hundreds of columns at once would plan for longer than they run."""
    return (items[start : start + size] for start in range(0, len(items), size))


def profile(con: "duckdb.DuckDBPyConnection", relation: str, sources: Sequence[str]) -> list[ColumnProfile]:
    """The profile of every column of a relation of text.

    Args:
        con: the connection that knows the relation.
        relation: name of a table or view whose columns are VARCHAR.
        sources: the columns, as they are called in it.
    """
    name = quote_identifier(relation)
    rows = int(_one(con, f"SELECT count(*) FROM {name}")[0])
    sample = _sample(con, name, sources, rows)
    try:
        found = shapes(con, sample, sources)
        guesses = [
            _guess(con, sample, source, safe, found[source]) for source, safe in zip(sources, naming.safe_names(sources), strict=True)
        ]
    finally:
        con.execute(f"DROP TABLE {sample}")
    verified = [one for part in chunks(guesses) for one in _verify(con, name, part, rows)]
    return _categories(con, name, verified)


def _one(con: "duckdb.DuckDBPyConnection", sql: str) -> tuple[Any, ...]:
    row = con.execute(sql).fetchone()
    return row if row is not None else ()


def _sample(con: "duckdb.DuckDBPyConnection", relation: str, sources: Sequence[str], rows: int) -> str:
    """A temporary table with evenly spread rows: the same ones every time."""
    wanted = max(1, min(SAMPLE_ROWS, _SAMPLE_CELLS // max(len(sources), 1)))
    sample = quote_identifier("inference sample")
    columns = ", ".join(quote_identifier(source) for source in sources)
    has_row = any(row[0] == "_row" for row in con.execute(f"DESCRIBE {relation}").fetchall())
    step = -(-rows // wanted) if rows else 1
    chosen = (
        f"WHERE CAST(_row AS BIGINT) % {step} = 0"
        if step > 1 and has_row
        else f"USING SAMPLE {100 / step}% (system, 7)"
        if step > 1
        else ""
    )
    con.execute(f"CREATE OR REPLACE TEMP TABLE {sample} AS SELECT {columns} FROM {relation} {chosen} LIMIT {2 * wanted}")
    return sample


def _text(source: str) -> str:
    return f"nullif({trimmed_sql(quote_identifier(source))}, '')"


def _values(sources: Sequence[str], relation: str) -> str:
    """A subquery with, for the n-th column, its text as t<n> and its text without null tokens as v<n>."""
    tokens = ", ".join(quote_literal(token) for token in _TOKENS)
    texts = ", ".join(f"{_text(source)} AS t{n}" for n, source in enumerate(sources))
    plain = ", ".join(f"t{n}, CASE WHEN t{n} IN ({tokens}) THEN NULL ELSE t{n} END AS v{n}" for n in range(len(sources)))
    return f"(SELECT {plain} FROM (SELECT {texts} FROM {relation}))"


def shapes(con: "duckdb.DuckDBPyConnection", sample: str, sources: Sequence[str]) -> dict[str, Shape]:
    """The shape of every column: the table is turned into one long column, so that the plan does not grow with the width."""
    tokens = ", ".join(quote_literal(token) for token in _TOKENS)
    texts = ", ".join(_text(source) for source in sources)
    tests = ", ".join(f"count(CASE WHEN {test.format(v='v')} THEN 1 END)" for test in _DETECTORS.values())
    rows = con.execute(
        f"SELECT c, count(t), count(v), count(DISTINCT v), coalesce(avg(length(v)), 0), histogram(CASE WHEN v IS NULL THEN t END), {tests} "
        f"FROM (SELECT c, t, CASE WHEN t IN ({tokens}) THEN NULL ELSE t END AS v "
        f"FROM (SELECT unnest(range({len(sources)})) AS c, unnest([{texts}]) AS t FROM {sample})) GROUP BY c"
    ).fetchall()
    nothing = Shape(0, 0, 0, 0.0, {}, dict.fromkeys(_DETECTORS, 0))
    found: dict[str, Shape] = dict.fromkeys(sources, nothing)
    for position, filled, values, distinct, length, seen, *counts in rows:
        counted = dict(zip(_DETECTORS, counts, strict=True))
        found[sources[int(position)]] = Shape(filled, values, distinct, float(length), dict(seen or {}), counted)
    return found


def _guess(  # noqa: PLR0911 - one line per kind, the surest first.
    con: "duckdb.DuckDBPyConnection", sample: str, source: str, name: str, shape: Shape
) -> ColumnProfile:
    """The kind the sample suggests, for all rows to confirm."""
    base = ColumnProfile(source, name, "string", 0, 0, 0, 0, shape)
    if not shape.values:
        return replace(base, reason="no value at all: text until one is seen" if not shape.tokens else "only null tokens: text")
    fits = 0.999
    if shape.share("booleans") >= fits:
        return replace(base, kind="boolean")
    if shape.counts["zeros"] and shape.share("wholes") >= 0.5:
        return replace(base, reason=f"digits with leading zeros ({shape.counts['zeros']} in the sample): a code, kept as text")
    if shape.counts["pluses"] and shape.share("numbers") >= 0.5:
        return replace(base, reason="digits after a plus sign: a number to call, kept as text")
    if shape.share("numbers") >= fits:
        if naming.is_code(source) and not shape.counts["whole_floats"]:
            return replace(base, reason="digits, but the name is a code's, which may begin with zeros")
        return _number(base, shape)
    if shape.share("iso") >= fits:
        return replace(base, kind=_moment(shape))
    if shape.share("comma_numbers") >= fits and shape.counts["comma_decimals"]:
        return replace(base, kind="number", decimal=",", reason="the comma is the decimal separator")
    if shape.share("dateish") >= fits and shape.mean_length < 40:
        return _formatted(con, sample, base)
    return base


def _number(base: ColumnProfile, shape: Shape) -> ColumnProfile:
    whole = shape.share("wholes") == 1
    whole_float = shape.counts["wholes"] + shape.counts["whole_floats"] == shape.values
    if whole_float and naming.is_identifier(base.source):
        return replace(base, kind="integer", reason="" if whole else "whole numbers written with .0")
    if not whole:
        return replace(base, kind="number")
    if naming.is_measure(base.source):
        return replace(base, kind="number", reason="whole so far, but the name is a measure's: decimals may come")
    return replace(base, kind="integer")


def _moment(shape: Shape) -> str:
    if not shape.counts["clocks"]:
        return "date"
    return "timestamptz" if shape.counts["zones"] == shape.values else "timestamp"


def _formatted(con: "duckdb.DuckDBPyConnection", sample: str, base: ColumnProfile) -> ColumnProfile:
    text = _text(base.source)
    tokens = ", ".join(quote_literal(token) for token in _TOKENS)
    clocks = bool(base.shape.counts["clocks"])
    formats = [name for name in _FORMATS if ("%M" in name) == clocks]
    parsed = ", ".join(f"count(try_strptime(v, {quote_literal(name)}))" for name in formats)
    years = ", ".join(f"min(year(try_strptime(v, {quote_literal(name)})))" for name in formats)
    source = f"(SELECT {text} AS v FROM {sample} WHERE {text} NOT IN ({tokens}) LIMIT 5000)"
    row = _one(con, f"SELECT count(*), {parsed}, {years} FROM {source}")
    total, counts, least = row[0], row[1 : 1 + len(formats)], row[1 + len(formats) :]
    whole = [name for name, count, year in zip(formats, counts, least, strict=True) if count == total and year is not None and year >= 1000]
    if not whole:
        return base
    chosen = whole[0]
    other = next((name for name in whole[1:] if name.replace("%", "") != chosen and sorted(name) == sorted(chosen)), None)
    reason = f"{chosen} fits every value" + (f"; so does {other}: check which one is meant" if other else "")
    return replace(base, kind="timestamp" if clocks else "date", formats=(chosen,), reason=reason)


def _verify(con: "duckdb.DuckDBPyConnection", relation: str, guesses: Sequence[ColumnProfile], rows: int) -> list[ColumnProfile]:
    """Holds every row against the guesses, and falls back to text where a guess does not hold."""
    width = 10
    measures: list[str] = []
    typed: list[str] = []
    for n, guess in enumerate(guesses):
        text, value, cast, wide = f"t{n}", f"v{n}", f"x{n}", f"w{n}"
        typed += [text, value]
        ordered, whole = guess.kind != "string", guess.kind == "integer"
        if ordered:
            typed.append(f"{cast_sql(replace(guess.column(), null_values=()), value)} AS {cast}")
        if whole:
            typed.append(f"{cast_sql(Column('x', 'x', 'number', 'DOUBLE'), value)} AS {wide}")
        measures += [
            f"count({text})",
            f"count({value})",
            f"approx_count_distinct({value})",
            f"histogram(CASE WHEN {value} IS NULL THEN {text} END)",
            f"min(CASE WHEN {cast} IS NULL THEN {value} END)" if ordered else "NULL",
            f"count({cast})" if ordered else "NULL",
            f"count({wide})" if whole else "NULL",
            f"count(CASE WHEN {value} < '1' AND {_DETECTORS['zeros'].format(v=value)} THEN 1 END)" if whole else "0",
            f"min({cast})" if ordered else "NULL",
            f"max({cast})" if ordered else "NULL",
        ]
    # One step per projection, so that a value is trimmed and cast once however often it is measured.
    values = _values([guess.source for guess in guesses], relation)
    row = _one(con, f"SELECT {', '.join(measures)} FROM (SELECT {', '.join(typed)} FROM {values})")
    return [_confirmed(guess, row[n * width : (n + 1) * width], rows) for n, guess in enumerate(guesses)]


def _confirmed(guess: ColumnProfile, row: tuple[Any, ...], rows: int) -> ColumnProfile:
    filled, values, distinct, seen, example, fitting, numbers, zeros, minimum, maximum = row
    misfits = 0 if fitting is None else values - fitting
    found = replace(guess, rows=rows, filled=filled, values=values, distinct=min(distinct, values), tokens=dict(seen or {}))
    text = replace(found, kind="string", formats=(), decimal=".")
    if guess.kind == "string" or not values:
        return _text_tokens(text)
    if zeros:
        return _text_tokens(replace(text, reason=f"digits with leading zeros ({zeros:,} values): a code, kept as text"))
    if misfits and guess.kind == "integer" and numbers == values:
        return replace(found, kind="number", minimum=minimum, maximum=maximum)
    # One corrupt line in a thousand does not make a number a text; one code in fifty does.
    if misfits and (misfits > values * 0.001 or naming.is_identifier(guess.source)):
        return _text_tokens(replace(text, reason=f"{misfits:,} of {values:,} values are no {guess.kind}, such as {str(example)[:40]!r}"))
    counts_something = naming.is_identifier(guess.source) or naming.is_key_part(guess.source)
    constant = guess.kind == "integer" and minimum == maximum and minimum not in {0, 1} and not counts_something
    if constant:
        found = replace(found, kind="number", reason="one whole number in every row: decimals may come")
    example_text = None if example is None else str(example)[:40]
    return replace(found, misfits=misfits, misfit_example=example_text, minimum=minimum, maximum=maximum)


def _text_tokens(profile: ColumnProfile) -> ColumnProfile:
    """For text only the clear tokens mean "no value": `none`, `N` and `-` may well be answers."""
    loose = {token: count for token, count in profile.tokens.items() if token not in CLEAR_TOKENS}
    clear = {token: count for token, count in profile.tokens.items() if token in CLEAR_TOKENS}
    return replace(profile, tokens=clear, values=profile.values + sum(loose.values()), distinct=profile.distinct + len(loose))


def _categories(con: "duckdb.DuckDBPyConnection", relation: str, profiles: list[ColumnProfile]) -> list[ColumnProfile]:
    few = [one for one in profiles if one.kind == "string" and 0 < one.distinct <= MOST_CATEGORIES * 1.2 and one.values >= 20]
    counted: dict[str, dict[str, int]] = {}
    for part in chunks(few, 4 * _CHUNK):
        row = _one(con, f"SELECT {', '.join(f'histogram({_text(one.source)})' for one in part)} FROM {relation}")
        counted |= {one.source: dict(counts or {}) for one, counts in zip(part, row, strict=True)}
    result: list[ColumnProfile] = []
    for one in profiles:
        counts = {value: count for value, count in counted.get(one.source, {}).items() if value not in one.tokens}
        if not counts:
            result.append(one)
            continue
        repeated = len(counts) <= MOST_CATEGORIES and one.values >= 5 * len(counts)
        ranked = tuple(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
        result.append(replace(one, distinct=len(counts), categories=ranked if repeated else ()))
    return result
