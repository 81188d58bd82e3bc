"""Types of a contract as DuckDB types, and the one SQL expression per column that turns a file's text into a value."""

import re

from lakehouse.contracts.objects import Column
from lakehouse.errors import ContractError
from lakehouse.sql import quote_literal

_DEFAULTS = {
    "string": "VARCHAR",
    "date": "DATE",
    "timestamp": "TIMESTAMP",
    # Delta has no time of day: kept as text HH:MM:SS, which sorts and compares as time does.
    "time": "VARCHAR",
    "number": "DOUBLE",
    "integer": "BIGINT",
    "boolean": "BOOLEAN",
    # Nested values are kept as their JSON text.
    "object": "VARCHAR",
    "array": "VARCHAR",
    "map": "VARCHAR",
    "vector": "VARCHAR",
}
# Delta has no unsigned or 128-bit integers.
_FORMATS = {
    "i8": "TINYINT",
    "i16": "SMALLINT",
    "i32": "INTEGER",
    "i64": "BIGINT",
    "i128": "DECIMAL(38,0)",
    "u8": "SMALLINT",
    "u16": "INTEGER",
    "u32": "BIGINT",
    "u64": "DECIMAL(20,0)",
    "u128": "DECIMAL(38,0)",
    "f32": "FLOAT",
    "f64": "DOUBLE",
}
_ALIASES = {
    "VARCHAR": "VARCHAR TEXT STRING CHAR CHARACTER NVARCHAR NCHAR BPCHAR CLOB CITEXT UUID ENUM NAME",
    "JSON": "JSON JSONB STRUCT ARRAY LIST MAP OBJECT VARIANT RECORD SUPER VECTOR",
    "TINYINT": "TINYINT INT1 BYTE",
    "SMALLINT": "SMALLINT INT2 SHORT UTINYINT SMALLSERIAL",
    "INTEGER": "INTEGER INT INT4 SIGNED MEDIUMINT USMALLINT SERIAL",
    "BIGINT": "BIGINT INT8 LONG UINTEGER INT64 BIGSERIAL",
    "DECIMAL": "DECIMAL NUMERIC NUMBER DEC BIGNUMERIC MONEY",
    "DOUBLE": "DOUBLE FLOAT8 FLOAT64",
    "FLOAT": "FLOAT FLOAT4 REAL",
    "BOOLEAN": "BOOLEAN BOOL LOGICAL BIT",
    "DATE": "DATE",
    "TIME": "TIME",
    "TIMESTAMP": "TIMESTAMP DATETIME TIMESTAMP_NTZ DATETIME2",
    "TIMESTAMPTZ": "TIMESTAMPTZ TIMESTAMP_TZ TIMESTAMP_LTZ DATETIMEOFFSET",
}
_BASES = {word: base for base, words in _ALIASES.items() for word in words.split()}
_LOGICAL = {
    "VARCHAR": "string",
    "JSON": "object",
    "TINYINT": "integer",
    "SMALLINT": "integer",
    "INTEGER": "integer",
    "BIGINT": "integer",
    "DECIMAL": "number",
    "DOUBLE": "number",
    "FLOAT": "number",
    "BOOLEAN": "boolean",
    "DATE": "date",
    "TIME": "time",
    "TIMESTAMP": "timestamp",
    "TIMESTAMPTZ": "timestamp",
}
_HOLDS = {
    "string": {"VARCHAR", "JSON"},
    "date": {"DATE"},
    "timestamp": {"TIMESTAMP", "TIMESTAMPTZ"},
    "time": {"TIME", "VARCHAR"},
    "number": {"DECIMAL", "DOUBLE", "FLOAT", "TINYINT", "SMALLINT", "INTEGER", "BIGINT"},
    "integer": {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "DECIMAL"},
    "boolean": {"BOOLEAN"},
    "object": {"JSON", "VARCHAR"},
    "array": {"JSON", "VARCHAR"},
    "map": {"JSON", "VARCHAR"},
    "vector": {"JSON", "VARCHAR"},
}
_PHYSICAL = re.compile(
    r"^\s*([A-Za-z][A-Za-z0-9_]*(?: PRECISION| VARYING)?)\s*(?:\(([^()]*)\)|<.*>|\[\d*\])?\s*(WITH(?:OUT)? TIME ZONE)?\s*$", re.IGNORECASE
)
# Who reads the document says where in it.
_SUBJECT = "physicalType"
BOOLEAN_WORDS = frozenset({"true", "false", "t", "f", "yes", "no", "y", "n", "1", "0"})


def logical_type_of(physical_type: str) -> str | None:
    """The logical type a physical type stands for, when the contract names only the physical one."""
    base = _base(physical_type)
    return _LOGICAL[base] if base else None


def sql_type_of(logical_type: str, physical_type: str | None, options: dict[str, object]) -> str:
    """DuckDB's type for a contract's logical and physical type, among those Delta can store.

    Raises:
        ContractError: the physical type is unknown or does not hold the logical type.
    """
    if physical_type is None:
        named = _FORMATS.get(str(options.get("format", "")))
        if logical_type in {"integer", "number"} and named:
            return named
        if logical_type == "timestamp" and options.get("timezone") is True:
            return "TIMESTAMPTZ"
        return _DEFAULTS[logical_type]
    base = _base(physical_type)
    if base is None:
        raise ContractError(
            _SUBJECT, "is not a known physical type", expected=f"a DuckDB type such as {_DEFAULTS[logical_type]}", found=physical_type
        )
    if base not in _HOLDS[logical_type]:
        raise ContractError(
            _SUBJECT,
            f"does not hold logicalType {logical_type}",
            expected=" or ".join(sorted(_HOLDS[logical_type])),
            found=physical_type,
            fix="Correct physicalType or logicalType",
        )
    if base == "DECIMAL":
        return _decimal(physical_type, integer=logical_type == "integer")
    return _DEFAULTS[logical_type] if logical_type in {"time", "object", "array", "map", "vector"} else {"JSON": "VARCHAR"}.get(base, base)


def _base(physical_type: str) -> str | None:
    match = _PHYSICAL.match(physical_type)
    if not match:
        return None
    word = re.sub(r" (PRECISION|VARYING)$", "", match.group(1).upper())
    base = _BASES.get(word)
    if base == "TIMESTAMP" and (match.group(3) or "").upper() == "WITH TIME ZONE":
        return "TIMESTAMPTZ"
    if base and physical_type.rstrip().endswith("]"):
        return "JSON"
    return base


def _decimal(physical_type: str, *, integer: bool) -> str:
    match = _PHYSICAL.match(physical_type)
    numbers = (
        [part.strip() for part in (match.group(2) or "").split(",")]
        if match and match.group(2)
        else ["38", "0"]
        if integer
        else ["18", "3"]
    )
    digits = [int(part) for part in numbers if part.isdigit()]
    precision, scale = digits[0] if digits else 0, digits[1] if len(digits) > 1 else 0
    if len(digits) != len(numbers) or not 1 <= precision <= 38 or scale > precision:
        raise ContractError(_SUBJECT, "is not a decimal type", expected="DECIMAL(precision up to 38, scale)", found=physical_type)
    if integer and scale:
        raise ContractError(_SUBJECT, "does not hold logicalType integer", expected=f"DECIMAL({precision},0)", found=physical_type)
    return f"DECIMAL({precision},{scale})"


def text_sql(column: Column, text: str) -> str:
    """SQL of the trimmed text, NULL where the contract says that the text means "no value"."""
    tokens = ", ".join(quote_literal(token) for token in ("", *column.null_values))
    if not column.trim:
        return f"(CASE WHEN {text} IN ({tokens}) THEN NULL ELSE {text} END)"
    # The question whether there are blanks is asked once, and an empty text is answered with it.
    trimmed = _trim(text)
    known = f" WHEN {text} IN ({tokens}) THEN NULL" if column.null_values else ""
    return (
        f"(CASE WHEN {_has_blank_ends(text)} THEN (CASE WHEN {trimmed} IN ({tokens}) THEN NULL ELSE {trimmed} END){known} ELSE {text} END)"
    )


def plain_sql(column: Column, text: str) -> str | None:
    """SQL of DuckDB's own cast of the text, for `cast_sql` to look at more than once; None where it looks only once."""
    kind = column.sql_type.split("(")[0]
    repeats = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "DOUBLE", "FLOAT", "DATE", "TIMESTAMP", "TIMESTAMPTZ"}
    is_repeated = kind in repeats or (kind == "DECIMAL" and column.logical_type == "integer")
    return f"TRY_CAST({text} AS {column.sql_type})" if is_repeated and column.decimal == "." else None


def cast_sql(column: Column, text: str, plain: str | None = None) -> str:
    """SQL of the typed value of a text expression: NULL where it means "no value" and where it is not of the type.

    Integers may be written `3.0` or `1e5` but not `3.5`; numbers must be finite and fit; decimals are rounded to their scale;
    booleans are true/false, yes/no, t/f, y/n and 1/0 in any case; dates and timestamps are ISO or one of the column's formats,
    of four-digit years; a TIMESTAMP whose text has an offset is converted to UTC. Sessions must run with TimeZone UTC.

    Args:
        column: what the contract says about it.
        text: a SQL expression of type VARCHAR.
        plain: the name of a column that holds `plain_sql` of the same text; DuckDB would make the cast anew at every mention.
    """
    kind = column.sql_type.split("(")[0]
    plain = plain or plain_sql(column, text)
    if column.logical_type in {"object", "array", "map", "vector"}:
        body = f"CASE WHEN json_valid({text_sql(column, text)}) THEN {text_sql(column, text)} END"
    elif column.logical_type == "time":
        body = f"CAST(TRY_CAST({trimmed_sql(text)} AS TIME) AS VARCHAR)"
    elif kind == "VARCHAR":
        return text_sql(column, text)
    elif kind in {"TINYINT", "SMALLINT", "INTEGER", "BIGINT"}:
        body = _integer(_with_point(column, text), column.sql_type, plain)
    elif kind == "DECIMAL":
        body = _decimal_value(_with_point(column, text), column, plain)
    elif kind in {"DOUBLE", "FLOAT"}:
        value = plain or f"TRY_CAST({_with_point(column, text)} AS {kind})"
        # DuckDB reads 1_000 as a number; in a file it is an identifier.
        body = f"CASE WHEN isfinite({value}) AND NOT contains({text}, '_') THEN {value} END"
    elif kind == "BOOLEAN":
        body = f"COALESCE(TRY_CAST({text} AS BOOLEAN), TRY_CAST({trimmed_sql(text)} AS BOOLEAN))"
    elif kind == "DATE":
        body = _date(column, text, plain or f"TRY_CAST({text} AS DATE)")
    else:
        body = _timestamp(column, text, plain or f"TRY_CAST({text} AS {kind})")
    tokens = [token for token in column.null_values if _may_be_a_value(kind, token)]
    if tokens:
        listed = ", ".join(quote_literal(token) for token in tokens)
        return f"(CASE WHEN {trimmed_sql(text)} IN ({listed}) THEN NULL ELSE {body} END)"
    return f"({body})"


def trimmed_sql(text: str) -> str:
    """SQL of the text without blanks, tabs and line ends around it."""
    return f"(CASE WHEN {_has_blank_ends(text)} THEN {_trim(text)} ELSE {text} END)"


def _has_blank_ends(text: str) -> str:
    # A trim of every value costs more than reading it: the two comparisons are cheap, and blanks are rare.
    ends = " OR ".join(f"ends_with({text}, {end})" for end in ("' '", r"E'\t'", r"E'\r'", r"E'\n'"))
    return f"{text} < '!' OR {ends}"


def _trim(text: str) -> str:
    return rf"trim({text}, E' \t\r\n')"


def _with_point(column: Column, text: str) -> str:
    if column.decimal == ".":
        return text
    # 1.234,56: the point groups digits where the comma is the decimal separator.
    grouped = rf"regexp_full_match({text}, '\s*[+-]?[0-9]{{1,3}}(\.[0-9]{{3}})+(,[0-9]*)?\s*')"
    plain = f"replace({text}, ',', '.')"
    return f"(CASE WHEN NOT contains({text}, '.') THEN {plain} WHEN {grouped} THEN replace(replace({text}, '.', ''), ',', '.') END)"


def _integer(text: str, sql_type: str, plain: str | None) -> str:
    value = plain or f"TRY_CAST({text} AS {sql_type})"
    # A text with as many characters as its number has digits holds nothing but them: the cheapest proof that the cast neither
    # rounded nor read hex (from five digits on, 1.5e4 is as long). Then comes the way back to text, and for odd spellings the slow way.
    digits = f"CASE WHEN {value} < 0 THEN -1 WHEN {value} < 10 THEN 1 WHEN {value} < 100 THEN 2 WHEN {value} < 1000 THEN 3 ELSE -1 END"
    whole = rf"regexp_full_match({text}, '\s*[+-]?[0-9]+(\.0*)?([eE]\+?[0-9]+)?\s*')"
    return f"CASE WHEN strlen({text}) = {digits} THEN {value} WHEN CAST({value} AS VARCHAR) = {text} THEN {value} WHEN {whole} THEN {value} END"


def _decimal_value(text: str, column: Column, plain: str | None) -> str:
    value = f"TRY_CAST({text} AS {column.sql_type})"
    if column.logical_type == "integer":
        return _integer(text, column.sql_type, plain)
    return f"CASE WHEN NOT contains({text}, '_') THEN {value} END"


def _date(column: Column, text: str, value: str) -> str:
    trimmed = trimmed_sql(text)
    moment = _plain_timestamp(trimmed)
    # A date may be written with a time only when that time says nothing.
    dated = f"regexp_matches({text}, '^\\s*[0-9]{{4}}[-/]')"
    slow = f"CASE WHEN {dated} AND {moment} = date_trunc('day', {moment}) THEN CAST({moment} AS DATE) END"
    known = _known_formats(column, trimmed)
    tries = f"COALESCE({slow}, CAST({known} AS DATE))" if known else slow
    low, high = "DATE '0001-01-01'", "DATE '9999-12-31'"
    # Beside a year of four digits this shape has no room for a time.
    return (
        f"CASE WHEN {text} LIKE '____-__-__' AND {value} BETWEEN DATE '1000-01-01' AND {high} THEN {value} "
        f"WHEN CAST({value} AS VARCHAR) = {text} AND {value} BETWEEN {low} AND {high} THEN {value} "
        f"WHEN {tries} BETWEEN {low} AND {high} THEN {tries} END"
    )


def _timestamp(column: Column, text: str, plain: str) -> str:
    trimmed = trimmed_sql(text)
    zoned = column.sql_type == "TIMESTAMPTZ"
    if not zoned:
        value = _plain_timestamp(trimmed)
    elif column.timezone in {"UTC", "Etc/UTC"}:
        value = f"TRY_CAST({trimmed} AS TIMESTAMPTZ)"
    else:
        has_zone = rf"regexp_matches({trimmed}, '([Zz]|[+-]\d\d(:?\d\d)?|[A-Za-z]+(/[A-Za-z_]+)+)$')"
        # Of a year that the calendar can't hold, timezone() would raise an error instead of giving NULL.
        moment = f"TRY_CAST({trimmed} AS TIMESTAMP)"
        local = f"CASE WHEN year({moment}) BETWEEN 1 AND 9999 THEN timezone({quote_literal(column.timezone)}, {moment}) END"
        value = f"CASE WHEN {has_zone} THEN TRY_CAST({trimmed} AS TIMESTAMPTZ) ELSE {local} END"
    known = _known_formats(column, trimmed)
    if known:
        value = f"COALESCE({value}, {f'timezone({quote_literal(column.timezone)}, {known})' if zoned else known})"
    # 12-11-10 10:00 is not the year 12.
    low, high = f"{column.sql_type} '1000-01-01 00:00:00'", f"{column.sql_type} '9999-12-31 23:59:59.999999'"
    if not zoned:
        # In these shapes there is no room for an offset; they are nearly all there is.
        is_plain = f"({text} LIKE '____-__-__ __:__:__' OR {text} LIKE '____-__-__T__:__:__')"
    elif column.timezone in {"UTC", "Etc/UTC"}:
        is_plain = f"NOT ({_has_blank_ends(text)})"
    else:
        is_plain = "false"
    return f"CASE WHEN {plain} BETWEEN {low} AND {high} AND {is_plain} THEN {plain} WHEN {value} BETWEEN {low} AND {high} THEN {value} END"


def _plain_timestamp(text: str) -> str:
    # A cast to TIMESTAMP drops the offset in silence: text that has one goes through TIMESTAMPTZ, at several times the price.
    offset = f"contains({text}, '+') OR contains(substring({text}, 12), '-')"
    return f"CASE WHEN {offset} THEN CAST(TRY_CAST({text} AS TIMESTAMPTZ) AS TIMESTAMP) ELSE TRY_CAST({text} AS TIMESTAMP) END"


def _known_formats(column: Column, text: str) -> str | None:
    if not column.formats:
        return None
    formats = ", ".join(quote_literal(name) for name in column.formats)
    value = f"try_strptime({text}, [{formats}])"
    # %Y also reads two digits: 31/12/24 would be the year 24.
    return f"CASE WHEN {value} >= TIMESTAMP '1000-01-01' THEN {value} END"


def _may_be_a_value(kind: str, token: str) -> bool:
    if kind == "BOOLEAN":
        return token.lower() in BOOLEAN_WORDS
    if kind in {"DOUBLE", "FLOAT"}:
        return any(character.isdigit() for character in token) or token.lower().lstrip("+-") in {"nan", "inf", "infinity"}
    return any(character.isdigit() for character in token) or kind == "VARCHAR"
