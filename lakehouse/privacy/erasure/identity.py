"""From a subject to all by which they are known, and to the tables where that means them."""

import json
import re
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb

from lakehouse.contracts import Contracts, DatasetContract
from lakehouse.durable import PRIVATE, write_whole
from lakehouse.errors import PrivacyError
from lakehouse.privacy.erasure.rows import Manner
from lakehouse.privacy.erasure.subject import Identifiers, Subject, is_distinctive
from lakehouse.privacy.keys import Key
from lakehouse.privacy.protection import pseudonym
from lakehouse.privacy.sealing import seal, unseal
from lakehouse.sql import quote_identifier, quote_literal
from lakehouse.tables import Lake
from lakehouse.tables.names import TableName
from lakehouse.tables.sql import glob_escape

_LINKABLE = ("none", "pseudonym", "encrypt")
_PSEUDONYM = "pn_"
_COMMITS = 500


def identify(
    tiers: Sequence[Lake], con: duckdb.DuckDBPyConnection, contract: DatasetContract, subject: Subject, keys: Sequence[Key]
) -> Identifiers:
    """Every value by which the subject is known: as given, as stored, and the keys of their rows that are theirs alone.

    Args:
        tiers: the tables, then the tiers that rows were archived to.
        con: reads them.
        contract: of the subject's dataset.
        subject: who.
        keys: of the home.

    Raises:
        ContractError: the dataset has no such column.
        PrivacyError: the column is not kept in a form that somebody can be found by.
    """
    column = contract.column(subject.column)
    others = [other.name for other in contract.columns if re.search(rf"[,;&|]\s*{re.escape(other.name)}\s*=", subject.value)]
    if others:
        raise PrivacyError(
            f"{contract.name}: a subject by several columns",
            "can't be erased: one column has to say whose a row is",
            expected=f"{contract.name}:COLUMN=value",
            found=", ".join([column.name, *others]),
            fix="Add a column to the contract whose values name one person (such as the parts in one text) and erase by that; "
            "or erase by one of these columns, if everybody who has the value is to go",
        )
    if column.protection not in _LINKABLE:
        raise PrivacyError(
            f"{contract.name}.{column.name}",
            "names nobody: its values are not kept",
            expected="a column that says whose a row is",
            fix="Name the subject by another column",
        )
    values = {subject.value}
    if not subject.value.startswith(_PSEUDONYM):
        values |= {pseudonym(subject.value, key) for key in keys if column.protection == "pseudonym"}
        values |= {
            seal(subject.value, one) for key in keys for one in (replace(key, rotated=()), *key.rotated) if column.protection == "encrypt"
        }
    columns: dict[str, set[str]] = {column.name: set(values), column.source: {subject.value}}
    for name, linked in _linked(tiers, con, contract, column.name, values).items():
        columns.setdefault(name, set()).update(linked)
    sealed = _sealed_records(tiers[0], con, contract, Identifiers.of(columns, values), keys)
    who = Identifiers.of(columns, [*values, *sealed], main=column.name)
    return replace(who, rows=frozenset([*_origins(tiers, con, contract, who), *_quarantined(tiers[0], con, contract, who)]))


def _linked(
    tiers: Sequence[Lake], con: duckdb.DuckDBPyConnection, contract: DatasetContract, main: str, values: Collection[str]
) -> dict[str, list[str]]:
    """Values of keys and of protected columns in the subject's rows, of all versions, that no other subject's rows have."""
    names = [column.name for column in contract.columns if column.primary_key or column.protected]
    for lake in tiers:
        lake.configure(con)
    files = [file for lake in tiers for file in _data_files(lake, contract.raw)]
    if not files:
        return {}
    listed = ", ".join(quote_literal(glob_escape(file)) for file in files)
    source = f"read_parquet([{listed}], union_by_name=true, hive_partitioning=false)"
    present = {str(row[0]) for row in con.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()}
    if main not in present:
        return {}
    is_theirs = f"CAST({quote_identifier(main)} AS VARCHAR) IN ({', '.join(map(quote_literal, sorted(values)))})"
    found: dict[str, list[str]] = {}
    for name in names:
        if name == main or name not in present:
            continue
        quoted = quote_identifier(name)
        theirs = f"SELECT DISTINCT CAST({quoted} AS VARCHAR) AS v FROM {source} WHERE {is_theirs} AND {quoted} IS NOT NULL"
        others = f"SELECT CAST({quoted} AS VARCHAR) FROM {source} WHERE NOT {is_theirs} AND {quoted} IS NOT NULL"
        rows = con.execute(f"SELECT v FROM ({theirs}) WHERE v NOT IN ({others}) ORDER BY v").fetchall()
        if linked := [str(row[0]) for row in rows if is_distinctive(str(row[0]))]:
            found[name] = linked
    return found


def _origins(tiers: Sequence[Lake], con: duckdb.DuckDBPyConnection, contract: DatasetContract, who: Identifiers) -> list[tuple[str, int]]:
    """Where the subject's accepted rows came from, those of all versions."""
    if not tiers[0].exists(contract.quarantine):
        return []
    files = [file for lake in tiers for file in _data_files(lake, contract.raw)]
    conditions = [f"CAST({quote_identifier(who.main)} AS VARCHAR) IN ({', '.join(map(quote_literal, sorted(who.columns[who.main])))})"]
    return _of_rows(con, files, conditions, needs={who.main})


def _quarantined(lake: Lake, con: duckdb.DuckDBPyConnection, contract: DatasetContract, who: Identifiers) -> list[tuple[str, int]]:
    """Quarantined rows that mention the subject, or have their value in the column, as they came or as somebody edited them."""
    files = _data_files(lake, contract.quarantine)
    column = contract.column(who.main)
    conditions = [who.mentions_sql(name) for name in ("record", "history")] if who.words else []
    for name in dict.fromkeys((column.source, column.name)):
        values = ", ".join(map(quote_literal, sorted(who.columns.get(name, who.columns[who.main]))))
        pointer = quote_literal("/" + name.replace("~", "~0").replace("/", "~1"))
        conditions.append(f"json_extract_string(try_cast(record AS JSON), {pointer}) IN ({values})")
        if '"' not in name:
            conditions += [
                f"list_has_any(json_extract_string(try_cast(history AS JSON), {quote_literal(path)}), [{values}])"
                for path in (f'$[*].before."{name}"', f'$[*].after."{name}"')
            ]
    return _of_rows(con, files, conditions, needs={"record", "history"})


def _of_rows(
    con: duckdb.DuckDBPyConnection, files: Sequence[str], conditions: Sequence[str], *, needs: Collection[str]
) -> list[tuple[str, int]]:
    if not files:
        return []
    source = f"read_parquet([{', '.join(quote_literal(glob_escape(file)) for file in files)}], union_by_name=true, hive_partitioning=false)"
    present = {str(row[0]) for row in con.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()}
    if not {"_sha256", "_row", *needs} <= present:
        return []
    found = con.execute(f"SELECT DISTINCT _sha256, _row FROM {source} WHERE ({' OR '.join(conditions)}) IS TRUE").fetchall()
    return [(str(digest), int(number)) for digest, number in found]


def _sealed_records(
    lake: Lake, con: duckdb.DuckDBPyConnection, contract: DatasetContract, who: Identifiers, keys: Iterable[Key]
) -> list[str]:
    """Quarantined lines that were no records were sealed whole: those that mention the subject, as they are stored."""
    files = _data_files(lake, contract.quarantine)
    if not files:
        return []
    listed = ", ".join(quote_literal(glob_escape(file)) for file in files)
    source = f"read_parquet([{listed}], union_by_name=true, hive_partitioning=false)"
    rows = con.execute(f"SELECT DISTINCT record FROM {source} WHERE starts_with(record, 'sealed1:')").fetchall()
    by_id = {one.id: key for key in keys for one in (key, *key.rotated)}
    found: list[str] = []
    for (record,) in rows:
        key = by_id.get(str(record).split(":")[1])
        if key is not None and who.mentioned_in(unseal(str(record), key)):
            found.append(str(record))
    return found


def _data_files(lake: Lake, table: str) -> list[str]:
    folder = table.replace(".", "/")
    return [
        lake.storage.address(file.path)
        for file in lake.storage.walk(folder)
        if file.path.endswith(".parquet") and "/_delta_log/" not in file.path
    ]


def manners(lake: Lake, contracts: Contracts, subject: Subject) -> Mapping[TableName, Manner]:
    """How each table's rows are taken to be the subject's."""
    names = lake.tables()
    made_from = {name: _inputs(lake, name) for name in names}
    others = {
        other.name
        for other in contracts.datasets.values()
        if other.name != subject.dataset and any(column.name == subject.column for column in other.columns)
    }
    return {name: _manner(name, subject, _upstream(name, made_from), others) for name in names}


def _manner(name: TableName, subject: Subject, upstream: Collection[str], others: Collection[str]) -> Manner:
    if name.layer == "monitoring":
        return Manner(whole_cells=False)
    if name.layer == "quarantine":
        return Manner(shares_columns=False, any_mention=True, by_origin=name.name == subject.dataset)
    is_own = str(name) in (f"raw.{subject.dataset}", f"staging.{subject.dataset}")
    is_derived = f"raw.{subject.dataset}" in upstream
    is_clear = is_distinctive(subject.value) or not any(f"raw.{other}" in upstream for other in others)
    return Manner(shares_columns=is_own or (is_derived and is_clear))


def _inputs(lake: Lake, name: TableName) -> set[str]:
    return {source for commit in lake.history(name, limit=_COMMITS) if commit.stamp for source in commit.stamp.inputs}


def _upstream(name: TableName, made_from: Mapping[TableName, Collection[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [str(name)]
    while waiting:
        for source in made_from.get(TableName.parse(waiting.pop()), ()):
            if source not in found:
                found.add(source)
                waiting.append(source)
    return found


# ---- what an interrupted erasure knew


class Memory:
    """The identifiers of an erasure under way, sealed: the rows that told them may be gone when it is taken up again."""

    def __init__(self, folder: Path, fingerprint: str, key: Key) -> None:
        self._path = folder / f"{fingerprint}.sealed"
        self._key = key
        self.attempt = uuid.uuid4().hex
        """Names this erasure, through all its interruptions."""

    def complete(self, who: Identifiers) -> Identifiers:
        """These identifiers and those that were remembered; all are remembered."""
        if self._path.exists():
            stored: dict[str, Any] = json.loads(unseal(self._path.read_text(encoding="ascii"), self._key))
            columns = {name: {*stored["columns"].get(name, ()), *who.columns.get(name, ())} for name in {*stored["columns"], *who.columns}}
            self.attempt = stored["attempt"]
            rows = {*who.rows, *((digest, number) for digest, number in stored.get("rows", ()))}
            who = Identifiers.of(columns, [*stored["words"], *who.words], main=who.main, rows=rows)
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        known = {
            "attempt": self.attempt,
            "columns": {name: sorted(values) for name, values in who.columns.items()},
            "words": list(who.words),
            "rows": sorted(who.rows),
        }
        write_whole(self._path, seal(json.dumps(known), self._key), mode=PRIVATE)
        return who

    def forget(self) -> None:
        """The erasure is done."""
        self._path.unlink(missing_ok=True)
