"""Files that are more wrong than their contract allows: what is wrong most often, an example, and which contract would accept it."""

from dataclasses import dataclass

import duckdb

from lakehouse.contracts import Column, DatasetContract, unique_rules
from lakehouse.ingest.readers.chunks import new_name
from lakehouse.ingest.readers.formats import refused
from lakehouse.ingest.validation import RowJudge
from lakehouse.ingest.waiting import pointer
from lakehouse.sql import quote_identifier, quote_literal

SHAPE_RULE = "record.shape"
_SHOWN_RULES = 3
_OPTIONS = frozenset(
    "minimum maximum exclusiveMinimum exclusiveMaximum multipleOf minLength maxLength minItems maxItems pattern format enum".split()
)


@dataclass(frozen=True, slots=True)
class JudgedFile:
    """A file whose rows have been judged.

    Attributes:
        name: as it is called in errors.
        bad_rows_sql: a SELECT of its quarantined rows.
    """

    name: str
    rows_read: int
    rows_bad: int
    bad_rows_sql: str


@dataclass(frozen=True, slots=True)
class _Broken:
    """A rule that rows of the file break: how many, and the first one's row and reason."""

    rule: str
    rows: int
    row: int
    reason: str


def rule_ids(contract: DatasetContract) -> list[str]:
    """Every rule that a row can go to quarantine for."""
    unique = [rule.id for rule in unique_rules(contract, order=["_row"])]
    return [SHAPE_RULE, *(rule.id for rule in RowJudge(contract, None).rules), *unique]


def check_limits(con: duckdb.DuckDBPyConnection, contract: DatasetContract, file: JudgedFile) -> None:
    """Refuse a file that breaks the contract's quarantine limit, or, where the contract says so, has a column of another type.

    Raises:
        FileRefused: with the rules broken most often, an example of each, and the change that would accept the first.
    """
    limit = contract.quarantine_limit_percent
    is_strict = contract.schema_changes.type_change == "reject"
    if not file.rows_bad or (limit is None and not is_strict):
        return
    share = 100.0 * file.rows_bad / file.rows_read
    is_over = limit is not None and share > limit
    if not is_over and not is_strict:
        return
    broken = _broken(con, file)
    if is_over:
        raise refused(
            file.name,
            f"{file.rows_bad:,} of {file.rows_read:,} rows break the contract of {contract.name}",
            expected=f"at most {limit:g} %",
            found=f"{share:.1f} %: " + "; ".join(_in_words(one) for one in broken[:_SHOWN_RULES]),
            fix=f"Correct the file, or {accepting_change(con, contract, broken[0].rule, file.bad_rows_sql)}, "
            f"or raise lakehouse.quarantineLimit, in {contract.path or 'the contract'}",
        )
    wrong = [one for one in broken if one.rule.endswith(".type") and one.rows == file.rows_read]
    if wrong:
        columns = ", ".join(one.rule.removesuffix(".type") for one in wrong)
        raise refused(
            file.name,
            f"no value of {columns} is of the contract's type",
            found="; ".join(_in_words(one) for one in wrong[:_SHOWN_RULES]),
            fix=f"Correct the file, or {accepting_change(con, contract, wrong[0].rule, file.bad_rows_sql)} "
            f"in {contract.path or 'the contract'}",
        )


def _in_words(one: _Broken) -> str:
    return f"{one.rule} in {one.rows:,} {'row' if one.rows == 1 else 'rows'}, such as row {one.row:,}: {one.reason}"


def _broken(con: duckdb.DuckDBPyConnection, file: JudgedFile) -> list[_Broken]:
    found = con.execute(
        "SELECT rule, count(*) AS rows, min(_row), arg_min(reason, _row) FROM "
        f"(SELECT _row, unnest(rules) AS rule, unnest(reasons) AS reason FROM ({file.bad_rows_sql})) GROUP BY rule ORDER BY rows DESC, rule"
    ).fetchall()
    return [_Broken(*row) for row in found]


def accepting_change(con: duckdb.DuckDBPyConnection, contract: DatasetContract, rule: str, bad_rows_sql: str) -> str:
    """What to change in the contract so that the rows that break this rule are accepted, as the end of "Correct the file, or ..."."""
    if rule == SHAPE_RULE:
        return "name its delimiter and quote under servers"
    subject, _, what = rule.rpartition(".")
    column = next((one for one in contract.columns if one.name == subject), None)
    if rule == "primary_key.unique" or (column is not None and what == "unique"):
        return f"name another primaryKey than {', '.join(contract.primary_key) or subject}"
    if column is not None and what == "type":
        return _type_that_fits(con, column, bad_rows_sql)
    if column is not None and what == "required":
        return f"take required from {column.name}"
    if column is not None and what in _OPTIONS:
        return f"change {what} of {column.name}"
    return f"change the rule {rule}"


def _type_that_fits(con: duckdb.DuckDBPyConnection, column: Column, bad_rows_sql: str) -> str:
    """The type of the values that are not of the column's type; text where they are of several or are protected."""
    from lakehouse.contracts.inference.profile import profile

    fitting = f"declare {column.name} as logicalType: string, physicalType: VARCHAR"
    if column.protected:
        return fitting
    names = ", ".join(quote_literal(pointer(name)) for name in dict.fromkeys((column.source, column.name)))
    values = new_name("misfits")
    con.execute(
        f"CREATE TEMP TABLE {quote_identifier(values)} AS SELECT list_extract(list_filter(json_extract_string(record, [{names}]), "
        f"lambda value: value IS NOT NULL), 1) AS {quote_identifier(column.name)} FROM ({bad_rows_sql}) "
        f"WHERE list_contains(rules, {quote_literal(column.name + '.type')}) AND json_valid(record)"
    )
    try:
        found = profile(con, values, [column.name])[0]
    finally:
        con.execute(f"DROP TABLE {quote_identifier(values)}")
    if not found.values or found.misfits:
        return fitting
    if found.kind == "number" and column.logical_type == "integer":
        return f"declare {column.name} as logicalType: number, physicalType: {found.sql_type}"
    moments = {"date": {"date"}, "timestamp": {"date", "timestamp"}}.get(column.logical_type, set())
    if found.kind in moments and found.formats:
        return f"add {found.formats[0]} to lakehouse.format of {column.name}"
    if found.kind == "timestamp" and column.logical_type == "date":
        return f"declare {column.name} as logicalType: timestamp, physicalType: TIMESTAMP"
    return fitting
