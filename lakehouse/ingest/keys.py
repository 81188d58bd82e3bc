"""Rows of one file that repeat a key: the first good row of a key stays, later ones are bad.

Across files nothing is compared: a later file's row with a known key is a correction, and staging keeps the newest.
"""

from typing import Any

import duckdb

from lakehouse.contracts import DatasetContract, Rule, unique_rules
from lakehouse.ingest.readers.chunks import FILE_SHIFT, new_name
from lakehouse.ingest.validation import BAD
from lakehouse.sql import quote_identifier, quote_literal


class KeyWatch:
    """The keys of the good rows of one file, or of several that have all their rows in one piece, as 128-bit hashes.

    Args:
        con: the connection that holds the file's pieces.
        contract: says which columns are keys.
        is_one_piece: the file has no further piece, so nothing need be remembered.
    """

    def __init__(self, con: duckdb.DuckDBPyConnection, contract: DatasetContract, *, is_one_piece: bool) -> None:
        self._con = con
        self._rules = unique_rules(contract, order=["_row"])
        self._is_one_piece = is_one_piece
        self._seen: dict[str, str] = {}
        self._ranges: dict[str, list[tuple[Any, Any]]] = {}
        self._tables: list[str] = []

    def repeated(self, rows_sql: str) -> str | None:
        """Rows of the next piece that repeat a key, as a table (_row, rule, level, reason); None if there are none."""
        table: str | None = None
        for rule in self._rules:
            if self._may_repeat(rule, rows_sql):
                table = table or self._new_table()
                self._collect(rule, rows_sql, table)
        if not self._is_one_piece:
            for rule in self._rules:
                self._remember(rule, rows_sql, table)
        if table is None or not self._count(f"SELECT count(*) FROM {quote_identifier(table)}"):
            return None
        return table

    def know(self, rows_sql: str) -> None:
        """Rows that are accepted already: whichever of the next pieces has one of their keys repeats it."""
        for rule in self._rules:
            first = quote_identifier(rule.columns[0])
            found = self._con.execute(f"SELECT min({first}), max({first}) FROM {rows_sql} WHERE {_filled(rule)}").fetchone()
            if found is not None and found[0] is not None:
                self._ranges.setdefault(rule.id, []).append((found[0], found[1]))
                self._remember(rule, rows_sql, None)

    def close(self) -> None:
        """Drop what was made."""
        for name in (*self._tables, *self._seen.values()):
            self._con.execute(f"DROP TABLE IF EXISTS {quote_identifier(name)}")

    def _new_table(self) -> str:
        name = new_name("repeated")
        self._tables.append(name)
        self._con.execute(f"CREATE TEMP TABLE {quote_identifier(name)} (_row BIGINT, rule VARCHAR, level VARCHAR, reason VARCHAR)")
        return name

    def _may_repeat(self, rule: Rule, rows_sql: str) -> bool:
        """Equal keys have equal hashes: as many hashes as rows means that nothing repeats."""
        filled, first = _filled(rule), quote_identifier(rule.columns[0])
        found = self._con.execute(
            f"SELECT count(*), count(DISTINCT hash({_columns(rule)})), min({first}), max({first}) FROM {rows_sql} WHERE {filled}"
        ).fetchone()
        if found is None or not found[0]:
            return False
        seen, low, high = self._seen.get(rule.id), found[2], found[3]
        # Keys mostly grow along a file: pieces whose ranges lie apart have no key in common.
        ranges = self._ranges.setdefault(rule.id, [])
        is_apart = all(high < lowest or low > highest for lowest, highest in ranges)
        ranges.append((low, high))
        if found[0] != found[1]:
            return True
        if seen is None or is_apart:
            return False
        return bool(
            self._count(
                f"SELECT count(*) FROM {rows_sql} WHERE {filled} AND hash({_columns(rule)}) IN (SELECT h FROM {quote_identifier(seen)})"
            )
        )

    def _collect(self, rule: Rule, rows_sql: str, table: str) -> None:
        columns, filled, name = _columns(rule), _filled(rule), quote_identifier(table)
        seen = self._seen.get(rule.id)
        earlier = f"(hash({columns}), hash({columns}, 1)) IN (SELECT (h, g) FROM {quote_identifier(seen)})" if seen else "false"
        doubtful = f"SELECT hash({columns}) FROM {rows_sql} WHERE {filled} GROUP BY 1 HAVING count(*) > 1"
        in_doubt = f"hash({columns}) IN ({doubtful})" + (f" OR {earlier}" if seen else "")
        good = f"{BAD} IS NULL AND _row NOT IN (SELECT _row FROM {name})"
        self._con.execute(
            f"INSERT INTO {name} SELECT _row, {quote_literal(rule.id)}, {quote_literal(str(rule.level))}, reason FROM ("
            f"SELECT _row, {rule.describe_sql} AS reason, {earlier} AS earlier, "
            f"min(CASE WHEN {good} THEN _row END) OVER (PARTITION BY {columns}) AS first_good "
            f"FROM {rows_sql} WHERE {filled} AND ({in_doubt})) WHERE earlier OR _row > first_good"
        )

    def _remember(self, rule: Rule, rows_sql: str, repeated: str | None) -> None:
        columns = _columns(rule)
        others = f" AND _row NOT IN (SELECT _row FROM {quote_identifier(repeated)})" if repeated else ""
        keys = f"SELECT hash({columns}) AS h, hash({columns}, 1) AS g FROM {rows_sql} WHERE {BAD} IS NULL AND {_filled(rule)}{others}"
        if rule.id not in self._seen:
            self._seen[rule.id] = new_name("keys")
            self._con.execute(f"CREATE TEMP TABLE {quote_identifier(self._seen[rule.id])} AS {keys}")
        else:
            self._con.execute(f"INSERT INTO {quote_identifier(self._seen[rule.id])} {keys}")

    def _count(self, sql: str) -> int:
        found = self._con.execute(sql).fetchone()
        return int(found[0]) if found else 0


def _columns(rule: Rule) -> str:
    """What a key consists of: the file it is in, too."""
    return ", ".join([*(quote_identifier(name) for name in rule.columns), f"_row >> {FILE_SHIFT}"])


def _filled(rule: Rule) -> str:
    return " AND ".join(f"{quote_identifier(name)} IS NOT NULL" for name in rule.columns)
