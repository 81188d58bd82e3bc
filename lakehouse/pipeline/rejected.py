"""Quarantined rows: how many by rule, and the rows themselves."""

import difflib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from lakehouse.contracts import DatasetContract
from lakehouse.errors import QueryError
from lakehouse.ingest.dead import counted_condition
from lakehouse.sql import quote_identifier, quote_literal
from lakehouse.tables import Lake, Session


@dataclass(frozen=True, slots=True)
class RuleCount:
    """Rows that broke one rule, and one reason as it was given."""

    rule: str
    rows: int
    example: str | None


@dataclass(frozen=True, slots=True)
class QuarantineCount:
    """Quarantined rows of one dataset. A row that broke several rules counts once here and under each rule."""

    rows: int
    rules: tuple[RuleCount, ...]


@dataclass(frozen=True, slots=True)
class QuarantinedRow:
    """One row as it arrived, and why it was not accepted."""

    file: str
    sha256: str
    row: int
    batch: int
    ingested_at: datetime
    level: str
    rules: tuple[str, ...]
    reasons: tuple[str, ...]
    status: str
    record: Any


def count_by_rule(lake: Lake) -> Mapping[str, QuarantineCount]:
    """Quarantined rows of every dataset that has any, by rule, most frequent first."""
    counts: dict[str, QuarantineCount] = {}
    for table in lake.tables():
        if table.layer != "quarantine":
            continue
        with _session(lake, table.name) as session:
            source = _valid_rows(lake, table.name)
            total = session.con.execute(f"SELECT count(*) FROM {source}").fetchone()
            if not total or not total[0]:
                continue
            rules = session.con.execute(
                "SELECT rule, count(*), arg_min(reason, (_batch, _file, _row)) FROM "
                f"(SELECT _batch, _file, _row, unnest(rules) AS rule, unnest(reasons) AS reason FROM {source}) "
                "GROUP BY rule ORDER BY 2 DESC, 1"
            ).fetchall()
        counts[table.name] = QuarantineCount(total[0], tuple(RuleCount(*row) for row in rules))
    return counts


def check_rule(lake: Lake, contract: DatasetContract, rule: str) -> None:
    """Refuse a rule that neither the contract has nor any quarantined row broke under an earlier contract.

    Raises:
        QueryError: with the rules there are.
    """
    from lakehouse.ingest.limits import rule_ids

    counted = count_by_rule(lake).get(contract.name)
    broken = [one.rule for one in counted.rules] if counted else []
    known = list(dict.fromkeys([*broken, *rule_ids(contract)]))
    if rule in known:
        return
    close = difflib.get_close_matches(rule, known, n=1)
    first = f"Did you mean {close[0]}? " if close else ""
    raise QueryError(
        f"rule {rule}",
        f"is no rule of {contract.name}",
        expected=f"one of {', '.join(known)}",
        fix=f"{first}Quarantined rows broke {', '.join(broken)}" if broken else f"{first}No row of {contract.name} is in quarantine",
    )


def quarantined_rows(lake: Lake, dataset: str, *, rule: str | None, file: str | None, limit: int) -> list[QuarantinedRow]:
    """Quarantined rows of a dataset, newest batch first, in file order."""
    if not lake.exists(f"quarantine.{dataset}"):
        return []
    conditions = ["true"]
    if rule is not None:
        conditions.append(f"list_contains(rules, {quote_literal(rule)})")
    if file is not None:
        conditions.append(f"_file = {quote_literal(file)}")
    with _session(lake, dataset) as session:
        rows = session.con.execute(
            "SELECT _file, _sha256, _row, _batch, _ingested_at, level, rules, reasons, status, record "
            f"FROM {_valid_rows(lake, dataset)} WHERE {' AND '.join(conditions)} ORDER BY _batch DESC, _file, _row LIMIT {int(limit)}"
        ).fetchall()
    return [
        QuarantinedRow(file, digest, row, batch, at, level, tuple(rules or ()), tuple(reasons or ()), status, _parsed(record))
        for file, digest, row, batch, at, level, rules, reasons, status, record in rows
    ]


def _session(lake: Lake, dataset: str) -> Session:
    return lake.connect([f"quarantine.{dataset}"])


def _valid_rows(lake: Lake, dataset: str) -> str:
    """The rows that count; a batch that died before its raw commit, or is under way, may lie between them."""
    raw, quarantine = f"raw.{dataset}", f"quarantine.{dataset}"
    counted = counted_condition(lake.history(raw) if lake.exists(raw) else (), lake.history(quarantine))
    return f"(SELECT * FROM quarantine.{quote_identifier(dataset)} WHERE {counted})"


def _parsed(record: str | None) -> Any:
    with suppress(ValueError, TypeError):
        return json.loads(record or "null")
    return record
