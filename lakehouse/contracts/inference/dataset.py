"""A dataset contract inferred from a file: what every row agrees with is declared, with the evidence as comments."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakehouse.contracts.dataset import NAME, parse_dataset
from lakehouse.contracts.inference import naming
from lakehouse.contracts.inference.keys import Key, exact_copies, find_key
from lakehouse.contracts.inference.personal import Personal, personal
from lakehouse.contracts.inference.profile import CLEAR_TOKENS, MOST_CATEGORIES, ColumnProfile, profile
from lakehouse.contracts.inference.yaml_text import Commented, render
from lakehouse.contracts.objects import DatasetContract, Landing
from lakehouse.errors import ContractError
from lakehouse.sql import quote_identifier

if TYPE_CHECKING:
    import duckdb

_TOLERATED_PERCENT = 5
# Above this a file is not a dirty file of the dataset but another one, such as one with a retyped column.
_QUARANTINE_LIMIT_PERCENT = 30
_LONGEST_CATEGORY = 80


@dataclass(frozen=True, slots=True)
class Inferred:
    """A contract that was inferred: the text to keep, and what it says."""

    text: str
    contract: DatasetContract


def infer_dataset(
    con: "duckdb.DuckDBPyConnection",
    relation: str,
    *,
    name: str,
    landing: Landing | None = None,
    target: str | None = None,
    source: str | None = None,
    domain: str = "added",
    primary_key: tuple[str, ...] = (),
    entity: tuple[str, ...] = (),
    event_timestamp: str | None = None,
    bad_share: float = 0.0,
    reserved: tuple[str, ...] = ("_row",),
) -> Inferred:
    """The contract that a file's rows suggest.

    Types and the key are errors: they hold for every row that was seen (a type also where at most one value in a thousand
    does not fit). Ranges and categories are warnings about a whole batch: they never quarantine a row.

    Args:
        con: the connection that knows the relation.
        relation: name of a table or view with the file's columns as VARCHAR.
        name: the dataset's name.
        landing: what the reader found out about the file.
        target: a column that is to be predicted: it is never the key and never protected.
        source: the file's name, for the first comment.
        domain: the contract's domain.
        primary_key: the key, where the user knows it; columns by their name in the file or in the contract.
        entity: the entity, where the user knows it.
        event_timestamp: the event time, where the user knows it.
        bad_share: of the records of the worst file, those that are none and so are not in the relation.
        reserved: columns of the relation that are not the file's.

    Raises:
        ContractError: the name can't be a table's name, the relation has no columns, or a column the user named is not there.
    """
    if not NAME.match(name):
        raise ContractError(
            f"dataset {name}",
            "can't be a table's name",
            expected="lower-case letters, digits and _",
            fix=f"Use {naming.safe_dataset_name(name)}",
        )
    described = con.execute(f"DESCRIBE {quote_identifier(relation)}").fetchall()
    sources = [str(row[0]) for row in described if row[0] not in reserved]
    if not sources:
        raise ContractError(f"dataset {name}", "has no columns to infer a contract from", fix="Check the file and its delimiter")
    profiles = profile(con, relation, sources)
    candidates = [one for one in profiles if target is None or target not in {one.source, one.name}]
    told = _Told(
        primary_key=_told(profiles, primary_key, name),
        entity=_told(profiles, entity, name),
        event=_told(profiles, (event_timestamp or "",), name),
    )
    timeless = next((one for one in told.event if one.rows and one.kind not in {"date", "timestamp", "timestamptz"}), None)
    if timeless:
        raise ContractError(
            f"event time {timeless.source}",
            "is no time",
            expected="a date or a timestamp",
            found=timeless.sql_type,
            fix="Name another column",
        )
    if told.primary_key:
        key = Key(tuple(one.source for one in told.primary_key), "given by the user")
    else:
        key = find_key(con, relation, candidates, name) if candidates else Key((), "there is no column")
    copies = 0 if key.columns else exact_copies(con, relation, sources)
    about = _About(name, source, domain, landing or Landing(), target, bad_share)
    writer = _Writer(profiles, key, copies, about, told)
    text = writer.text()
    return Inferred(text, parse_dataset(text, path=Path(f"{name}.odcs.yaml")))


@dataclass(frozen=True, slots=True)
class _About:
    """What the document says about the dataset as a whole."""

    name: str
    source: str | None
    domain: str
    landing: Landing
    target: str | None
    bad_share: float


@dataclass(frozen=True, slots=True)
class _Told:
    """What the user knows better than the evidence."""

    primary_key: tuple[ColumnProfile, ...] = ()
    entity: tuple[ColumnProfile, ...] = ()
    event: tuple[ColumnProfile, ...] = ()


def _told(profiles: list[ColumnProfile], names: tuple[str, ...], dataset: str) -> tuple[ColumnProfile, ...]:
    known = {one.name.lower(): one for one in profiles} | {one.source.lower(): one for one in profiles}
    unknown = next((name for name in names if name and name.lower() not in known), None)
    if unknown:
        raise ContractError(
            f"dataset {dataset}",
            f"has no column {unknown}",
            expected=f"one of {', '.join(one.source for one in profiles[:40])}",
            fix="Correct the name",
        )
    return tuple(known[name.lower()] for name in names if name)


class _Writer:
    """Turns profiles into the document: what is declared, and why, beside it."""

    def __init__(self, profiles: list[ColumnProfile], key: Key, copies: int, about: _About, told: _Told) -> None:
        self.profiles = profiles
        self.key = key
        self.copies = copies
        self.name = about.name
        self.landing = about.landing
        self.target = about.target
        self.source = about.source
        self.domain = about.domain
        self.bad_share = about.bad_share
        self.told = told
        self.names = {one.source: one.name for one in profiles}
        self.null_values = _shared_tokens(profiles)

    def text(self) -> str:
        rows = self.profiles[0].rows
        event, event_reason = self._event()
        entity, entity_reason = self._entity()
        custom: list[Any] = []
        if self.null_values:
            counts = {token: sum(one.tokens.get(token, 0) for one in self.profiles) for token in self.null_values}
            seen = ", ".join(f"{token!r} {count:,} times" for token, count in counts.items())
            custom.append(Commented(_property("nullValues", list(self.null_values)), f'texts that stand for "no value": {seen}'))
        if entity:
            custom.append(Commented(_property("entity", entity), entity_reason))
        if event:
            custom.append(Commented(_property("eventTimestamp", self.names[event]), event_reason))
        custom += self._limits()
        document: dict[str, Any] = {
            "apiVersion": "v3.2.0",
            "kind": "DataContract",
            "id": self.name.replace("_", "-"),
            "name": self.name,
            "version": "1.0.0",
            "status": "active",
            "domain": self.domain,
            "description": {"purpose": f"Rows of {self.source or self.name}."},
            "servers": [self._server()],
            "schema": [
                Commented(
                    {"name": self.name, "physicalType": "table", "properties": [self._property(one) for one in self.profiles]},
                    [
                        f"key: {self.key.evidence}",
                        *([f"{self.copies:,} rows repeat another row in every column; they are kept"] * bool(self.copies)),
                    ],
                )
            ],
            "customProperties": custom,
        }
        head = [
            f"Inferred from {self.source or 'a file'}: {rows:,} rows, {len(self.profiles)} columns.",
            "Types and the key are errors: a row that breaks them goes to quarantine. Ranges and categories are warnings about",
            "a whole batch. Comments are the evidence. Edit what you know better: nothing writes to this file again.",
        ]
        if not event:
            head.append(f"event time: {event_reason}")
        return render(document, head=head)

    def _limits(self) -> Iterator[Commented]:
        """What a file may differ from these: a dirty file is judged row by row, another kind of file is refused."""
        misfits = sum(one.misfits for one in self.profiles) / max(self.profiles[0].rows, 1)
        percent = 100 * min(self.bad_share + misfits, 1.0)
        limit = min(max(_QUARANTINE_LIMIT_PERCENT, ceil(2 * percent)), 100)
        seen = f"here {percent:.1f} % are" if percent else "here none is"
        yield Commented(_property("quarantineLimit", limit), f"percent of bad rows above which a file is refused as a whole; {seen}")
        yield Commented(
            _property("schemaChanges", {"newColumns": "rescue"}),
            "columns that later files add are reported, and kept as JSON in _rescued until they are declared here",
        )

    def _server(self) -> dict[str, Any]:
        landing = self.landing
        server: dict[str, Any] = {
            "server": "landing",
            "type": "local",
            "path": landing.paths[0] if landing.paths else f"./landing/{self.name}/*",
            "format": landing.format or "csv",
        }
        custom = {
            "encoding": list(landing.encodings),
            "delimiter": landing.delimiter,
            "quote": landing.quote,
            "escape": landing.escape,
            "header": landing.header,
            "sheet": landing.sheet,
            "skipRows": landing.skip_rows or None,
            "records": landing.records,
        }
        properties = [_property(name, value) for name, value in custom.items() if value not in (None, [])]
        return server | ({"customProperties": properties} if properties else {})

    def _property(self, one: ColumnProfile) -> Commented:
        comments = list(_evidence(one))
        entry: dict[str, Any] = {"name": one.name}
        if one.source != one.name:
            entry["physicalName"] = one.source
        entry |= {"logicalType": one.logical_type, "physicalType": one.sql_type}
        in_key = one.source in self.key.columns
        if in_key:
            entry |= {"required": True, "primaryKey": True, "primaryKeyPosition": self.key.columns.index(one.source) + 1}
        elif (
            one.complete
            and one.rows >= 100
            and one.distinct > MOST_CATEGORIES
            and naming.is_identifier(one.source)
            and not self._is_target(one)
        ):
            comments.append("an identifier that is never missing: required")
            entry["required"] = True
        suspicion = None if self._is_target(one) else personal(one)
        if suspicion and not suspicion.sure and (one.categories or one.kind == "boolean"):
            suspicion = None  # A name alone is no evidence against a handful of answers.
        custom: list[Any] = []
        if suspicion:
            comments.append(_suspicion(suspicion))
            if suspicion.sure:
                entry["classification"] = "restricted"
                custom += [_property("protection", "pseudonym"), _property("pii", {"kind": suspicion.kind})]
        if set(one.tokens) != set(self.null_values) and self._needs_own_tokens(one):
            custom.append(_property("nullValues", sorted(one.tokens)))
        if one.formats:
            custom.append(_property("format", list(one.formats)))
        if one.decimal != ".":
            custom.append(_property("decimal", one.decimal))
        if custom:
            entry["customProperties"] = custom
        quality = list(self._quality(one, protected=bool(suspicion and suspicion.sure), in_key=in_key))
        if quality:
            entry["quality"] = quality
        return Commented(entry, comments)

    def _is_target(self, one: ColumnProfile) -> bool:
        return self.target is not None and self.target in {one.source, one.name}

    def _needs_own_tokens(self, one: ColumnProfile) -> bool:
        """Whether the contract's null tokens would take an answer away from a column, or lack one of its own."""
        extra = set(one.tokens) - set(self.null_values)
        loose = {token for token in self.null_values if token not in CLEAR_TOKENS}
        answers = one.kind == "string" and bool(loose & set(one.shape.tokens))
        return bool(extra) or answers or (one.kind == "boolean" and bool({token.lower() for token in loose} & {"n"}))

    def _quality(self, one: ColumnProfile, *, protected: bool, in_key: bool) -> Iterator[dict[str, Any]]:
        if protected or in_key:
            return
        arguments: dict[str, Any] | None = None
        what = ""
        if one.categories and all(len(value) <= _LONGEST_CATEGORY for value, _ in one.categories):
            arguments = {"validValues": [value for value, _ in one.categories]}
            what = "categories"
        elif one.kind in {"integer", "number"} and one.values >= 20 and not naming.is_identifier(one.source):
            arguments = {"minimum": one.minimum, "maximum": one.maximum}
            what = "range"
        if arguments is None:
            return
        yield {
            "name": f"{one.name}_{what}",
            "type": "library",
            "metric": "invalidValues",
            "arguments": arguments,
            "unit": "percent",
            "mustBeLessOrEqualTo": _TOLERATED_PERCENT,
            "dimension": "conformity",
            "severity": "warning",
        }

    def _event(self) -> tuple[str | None, str]:
        if self.told.event:
            return self.told.event[0].source, "given by the user"
        moments = [one for one in self.profiles if one.kind in {"date", "timestamp", "timestamptz"} and not self._is_target(one)]
        known = [one for one in moments if one.rows and one.values >= one.rows * 0.95]
        ranked = sorted(
            ((naming.moment_score(one.source) + (0 if one.kind == "date" else 1), -position, one) for position, one in enumerate(known)),
            key=lambda item: (-item[0], -item[1]),
        )
        if not ranked or ranked[0][0] < 0:
            return None, "no column says when a row happened" if not moments else "no filled date or time sounds like when a row happened"
        best = ranked[0][2]
        others = [one.source for _, _, one in ranked[1:4]]
        filled = f"{best.values / best.rows:.0%} filled, {best.minimum} to {best.maximum}"
        return best.source, f"event time: {best.source} is {filled}" + (f"; chosen before {', '.join(others)}" if others else "")

    def _entity(self) -> tuple[list[str], str]:
        if self.told.entity:
            return [one.name for one in self.told.entity], "given by the user"
        named = [
            one
            for one in self.profiles
            if naming.names_somebody(one.source) and one.complete and not self._is_target(one) and one.kind in {"string", "integer"}
        ]
        repeated = [one for one in named if 1 < one.distinct < one.rows * 0.95 and one.source not in self.key.columns[:1]]
        if repeated and len(self.key.columns) < 2:
            best = repeated[0]
            return [best.name], f"{best.source} comes again: about {best.distinct:,} of them in {best.rows:,} rows"
        if self.key.columns:
            return [self.names[source] for source in self.key.columns], "the primary key: every row is about something else"
        return [], ""


def _shared_tokens(profiles: list[ColumnProfile]) -> tuple[str, ...]:
    """Null tokens that the file as a whole uses, so that they also hold where they come later."""
    shared = {token for one in profiles for token in one.tokens if one.kind != "string" or token in CLEAR_TOKENS}
    return tuple(sorted(shared))


def _property(name: str, value: Any) -> dict[str, Any]:
    return {"property": f"lakehouse.{name}", "value": value}


def _evidence(one: ColumnProfile) -> Iterator[str]:
    parts: list[str] = []
    if not one.rows:
        parts.append("no rows: text until one is seen")
    elif not one.values:
        parts.append("never filled")
    else:
        parts.append("always filled" if one.complete else f"{one.nulls / one.rows:.1%} missing ({one.nulls:,})")
        about = "" if one.categories or one.distinct <= 1 else "about "
        parts.append(f"{about}{one.distinct:,} different")
        if one.minimum is not None:
            parts.append(f"{one.minimum} to {one.maximum}")
    yield ", ".join(parts) + (f"; {one.reason}" if one.reason else "")
    if one.misfits:
        yield f"{one.misfits:,} values are no {one.kind} and will be quarantined, such as {one.misfit_example!r}"
    if one.tokens:
        yield "no value: " + ", ".join(f"{token!r} {count:,} times" for token, count in one.tokens.items())
    if one.categories:
        shown = ", ".join(f"{_short(value)} {count:,}" for value, count in one.categories[:6])
        yield shown + (f" and {len(one.categories) - 6} more" if len(one.categories) > 6 else "")


def _suspicion(suspicion: Personal) -> str:
    if suspicion.sure:
        return f"personal ({suspicion.kind}): {suspicion.evidence}; stored as a pseudonym"
    return f"may be personal ({suspicion.kind}): {suspicion.evidence}; not protected: decide"


def _short(value: str) -> str:
    return re.sub(r"\s+", " ", value if len(value) <= 24 else value[:21] + "...")
