"""A dataset contract: from an ODCS document to the typed object, with every mistake named before any data is touched."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from lakehouse.contracts import document as documents
from lakehouse.contracts.databases import cron_of, source_tables
from lakehouse.contracts.document import custom_properties
from lakehouse.contracts.objects import PROTECTIONS, Archiving, Column, DatasetContract, Landing, Pin, Protection, Rule, SchemaChanges
from lakehouse.contracts.references import references
from lakehouse.contracts.rules import column_rules, quality_rules, severity_of
from lakehouse.contracts.topics import source_topics
from lakehouse.contracts.types import logical_type_of, sql_type_of
from lakehouse.contracts.usual import pins
from lakehouse.errors import ContractError
from lakehouse.sql import quote_identifier

if TYPE_CHECKING:
    import duckdb

NAME = re.compile(r"^[a-z][a-z0-9_]*$")
RESERVED_COLUMNS = frozenset({"_batch", "_file", "_sha256", "_row", "_ingested_at", "_arrival", "row_id"})
_SUPPORTED = ("v3.0", "v3.1", "v3.2")
# What a classification alone asks for; `lakehouse.protection` or `lakehouse.pii` says otherwise.
_BY_CLASSIFICATION: dict[str, Protection] = {"restricted": "pseudonym", "confidential": "mask", "secret": "encrypt"}
# JDK letters of the standard's `format` option, longest first, as strptime.
_JDK = (
    ("yyyy", "%Y"),
    ("uuuu", "%Y"),
    ("MMMM", "%B"),
    ("MMM", "%b"),
    ("EEEE", "%A"),
    ("EEE", "%a"),
    ("SSSSSS", "%f"),
    ("SSS", "%g"),
    ("XXX", "%z"),
    ("yy", "%y"),
    ("MM", "%m"),
    ("dd", "%d"),
    ("HH", "%H"),
    ("hh", "%I"),
    ("mm", "%M"),
    ("ss", "%S"),
    ("M", "%-m"),
    ("d", "%-d"),
    ("H", "%-H"),
    ("a", "%p"),
    ("X", "%z"),
    ("Z", "%z"),
)


def load_dataset(path: Path, *, con: "duckdb.DuckDBPyConnection | None" = None) -> DatasetContract:
    """The dataset contract in a file, with every rule proven to be SQL over its columns.

    Args:
        path: the YAML file.
        con: a scratch connection to prove the rules on; one is opened when none is given.

    Raises:
        ContractError: the file is not a valid contract; the message names file, line, place, expected, found and fix.
    """
    return parse_dataset(documents.read(path), path=path, con=con)


def parse_dataset(text: str, *, path: Path, con: "duckdb.DuckDBPyConnection | None" = None) -> DatasetContract:
    """The dataset contract in a text; `path` is only named in errors.

    Raises:
        ContractError: as `load_dataset`.
    """
    parsed = documents.parse(text, path=path)
    version = str(parsed.get("apiVersion", ""))
    if version.startswith("v3.") and version.startswith(_SUPPORTED):
        # A patch release of the standard says nothing new to a reader; its schema lists the exact names.
        checked = {**parsed, "apiVersion": "v3.2.0"}
    else:
        raise ContractError(
            documents.blame(path, text, ("apiVersion",), parsed),
            "is not a version of the Open Data Contract Standard this lakehouse reads",
            expected="v3.1.0 or v3.2.0",
            found=version or "nothing",
        )
    documents.check_schema(documents.odcs_validator(), checked, path=path, text=text, what="the Open Data Contract Standard")
    contract = _Reader(parsed, text, path).contract()
    _prove(contract, path, con)
    return contract


class _Reader:
    """One document on its way to a contract; knows how to blame a place in it."""

    def __init__(self, parsed: dict[str, Any], text: str, path: Path) -> None:
        self.parsed = parsed
        self.text = text
        self.path = path

    def error(self, parts: Iterable[str | int], problem: str, **details: str | None) -> ContractError:
        place = documents.blame(self.path, self.text, tuple(parts), self.parsed)
        return ContractError(place, problem, **details)

    def contract(self) -> DatasetContract:
        schema = self._schema()
        name = str(schema["name"])
        if not NAME.match(name):
            raise self.error(
                ("schema", 0, "name"), "can't be a table's name", expected="lower-case letters, digits and _", found=name, fix="Rename it"
            )
        custom = custom_properties(self.parsed) | custom_properties(schema)
        null_values = self._texts(custom, "nullValues")
        landing = self._landing()
        columns = self._columns(schema, null_values, landing)
        by_name = {column.name: column for column in columns}
        rules, statistical = self._rules(schema, columns, by_name)
        event = custom.get("eventTimestamp")
        entity = _listed(custom.get("entity"))
        cluster_by = _listed(custom.get("clusterBy"))
        subjects = tuple(dict.fromkeys(column.subject for column in columns if column.subject))
        for label, names in (("subject", subjects), ("entity", entity), ("eventTimestamp", _listed(event)), ("clusterBy", cluster_by)):
            for missing in (one for one in names if one not in by_name):
                raise self.error(("customProperties",), f"{label} names no column", expected=f"one of {', '.join(by_name)}", found=missing)
        quarantine = custom.get("quarantine")
        limit = custom.get("quarantineLimit", quarantine.get("maxBadPercent") if isinstance(quarantine, dict) else None)
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int | float) or not 0 <= limit <= 100):
            raise self.error(("customProperties",), "quarantineLimit is not a percentage", expected="0 to 100", found=str(limit))
        redelivery = custom.get("redelivery", "adds")
        if redelivery not in {"adds", "replaces"}:
            raise self.error(("customProperties",), "redelivery is not known", expected="adds or replaces", found=str(redelivery))
        return DatasetContract(
            name=name,
            version=str(self.parsed["version"]),
            columns=columns,
            status=str(self.parsed.get("status", "active")),
            domain=str(self.parsed.get("domain", "default")),
            description=_description(self.parsed, schema),
            owner=_owner(self.parsed.get("team")),
            primary_key=self._primary_key(schema, columns),
            rules=rules,
            statistical_rules=statistical,
            references=references(self.parsed, schema, by_name, blame=self.error),
            entity=entity,
            event_timestamp=str(event) if event is not None else None,
            quarantine_limit_percent=float(limit) if limit is not None else None,
            source_priority=_listed(custom.get("sourcePriority")),
            redelivery=redelivery,
            landing=landing,
            databases=source_tables(self.parsed, schema, by_name, blame=self.error),
            topics=source_topics(self.parsed, schema, blame=self.error),
            schema_changes=self._schema_changes(custom),
            null_values=null_values,
            cluster_by=cluster_by,
            archiving=self._archiving(custom, by_name, event),
            usual=self._pins(
                custom, ("customProperties",) if "usual" in custom_properties(self.parsed) else ("schema", 0, "customProperties")
            ),
            tags=_listed(self.parsed.get("tags")),
            digest=documents.digest(self.parsed),
            path=self.path,
            document=self.parsed,
        )

    def _schema(self) -> dict[str, Any]:
        schemas = self.parsed.get("schema") or []
        if len(schemas) != 1:
            raise self.error(
                ("schema",), "must describe one dataset", expected="one entry", found=str(len(schemas)), fix="One file per dataset"
            )
        if not schemas[0].get("properties"):
            raise self.error(("schema", 0), "has no columns", expected="a list under properties", fix="Add the columns")
        return cast("dict[str, Any]", schemas[0])

    def _columns(self, schema: dict[str, Any], null_values: tuple[str, ...], landing: Landing) -> tuple[Column, ...]:
        columns: list[Column] = []
        seen: dict[str, str] = {}
        for position, entry in enumerate(schema["properties"]):
            parts = ("schema", 0, "properties", position)
            name = str(entry["name"])
            if not name.isidentifier() or name.lower() in RESERVED_COLUMNS or name.startswith("_"):
                raise self.error(
                    (*parts, "name"),
                    "can't be a column's name",
                    expected="letters, digits and _, not starting with a digit or _, and none of " + ", ".join(sorted(RESERVED_COLUMNS)),
                    found=name,
                    fix=f"Give it another name and write physicalName: {documents.quoted(name)}",
                )
            if name.lower() in seen:
                raise self.error((*parts, "name"), "is given to two columns", found=f"{seen[name.lower()]} and {name}", fix="Rename one")
            seen[name.lower()] = name
            columns.append(self._column(entry, parts, null_values, landing))
        return tuple(columns)

    def _column(self, entry: dict[str, Any], parts: tuple[str | int, ...], null_values: tuple[str, ...], landing: Landing) -> Column:
        custom = custom_properties(entry)
        physical = entry.get("physicalType")
        logical = entry.get("logicalType") or (logical_type_of(str(physical)) if physical else None) or "string"
        options = dict(entry.get("logicalTypeOptions") or {})
        try:
            sql_type = sql_type_of(logical, str(physical) if physical else None, options)
        except ContractError as error:
            raise self.error((*parts, "physicalType"), error.problem, expected=error.expected, found=error.found, fix=error.fix) from error
        own_nulls = self._texts(custom, "nullValues") if "nullValues" in custom else null_values
        decimal = str(custom.get("decimal", landing.decimal))
        if decimal not in {".", ","}:
            raise self.error((*parts, "customProperties"), "decimal is not a decimal separator", expected="'.' or ','", found=decimal)
        formats = self._texts(custom, "format")
        if logical in {"date", "timestamp", "time"} and options.get("format"):
            formats = (*formats, self._strptime(str(options["format"]), (*parts, "logicalTypeOptions", "format")))
        column = Column(
            name=str(entry["name"]),
            source=str(entry.get("physicalName") or entry["name"]),
            logical_type=logical,
            sql_type=sql_type,
            required=bool(entry.get("required")) or bool(entry.get("primaryKey")),
            unique=bool(entry.get("unique")),
            primary_key=bool(entry.get("primaryKey")),
            classification=entry.get("classification"),
            protection=self._protection(entry, custom, parts),
            description=str(entry.get("description") or entry.get("businessName") or ""),
            options=options,
            allowed=tuple(item["value"] for item in entry.get("enum", ())),
            formats=tuple(dict.fromkeys(formats)),
            null_values=own_nulls,
            decimal=decimal,
            timezone=str(options.get("defaultTimezone", "UTC")),
            trim=bool(custom.get("trim", True)),
            pii=_pii_kind(custom.get("pii")),
            subject=_subject(custom),
            tags=_listed(entry.get("tags")),
            also_called=self._texts(custom, "alsoCalled"),
            may_be_missing=bool(custom.get("mayBeMissing", False)),
        )
        return replace(column, usual=self._pins(custom, (*parts, "customProperties"), column))

    def _pins(self, custom: dict[str, Any], parts: tuple[str | int, ...], column: Column | None = None) -> dict[str, Pin]:
        try:
            return pins(custom.get("usual"), column=column)
        except ContractError as error:
            problem = f"{error.subject} {error.problem}"
            raise self.error(parts, problem, expected=error.expected, found=error.found, fix=error.fix) from error

    def _protection(self, entry: dict[str, Any], custom: dict[str, Any], parts: tuple[str | int, ...]) -> Protection:
        word = custom.get("protection")
        pii = custom.get("pii")
        if word is None and isinstance(pii, dict) and pii.get("protect"):
            word = {"aes-gcm": "encrypt", "encrypt": "encrypt", "hmac": "pseudonym"}.get(str(pii["protect"]), pii["protect"])
        if word is None and entry.get("encryptedName"):
            word = "encrypt"
        if word is None:
            word = _BY_CLASSIFICATION.get(str(entry.get("classification", "")).lower(), "none")
        if word not in PROTECTIONS:
            raise self.error(
                (*parts, "customProperties"), "is not a protection", expected=f"one of {', '.join(PROTECTIONS)}", found=str(word)
            )
        return word

    def _strptime(self, jdk: str, parts: tuple[str | int, ...]) -> str:
        if "%" in jdk:
            return jdk
        result, rest = "", jdk
        while rest:
            if rest[0] == "'":
                literal, _, rest = rest[1:].partition("'")
                result += literal or "'"
                continue
            known = next(((letters, directive) for letters, directive in _JDK if rest.startswith(letters)), None)
            if known is None and rest[0].isalpha() and rest[0] not in "TZ":
                raise self.error(parts, "is not a date format", expected="letters such as yyyy-MM-dd HH:mm:ss", found=jdk)
            letters, directive = known or (rest[0], rest[0])
            result, rest = result + directive, rest[len(letters) :]
        return result

    def _rules(
        self, schema: dict[str, Any], columns: tuple[Column, ...], by_name: Mapping[str, Column]
    ) -> tuple[tuple[Rule, ...], tuple[Any, ...]]:
        rules: list[Rule] = []
        statistical: list[Any] = []
        for position, (entry, column) in enumerate(zip(schema["properties"], columns, strict=True)):
            rules += column_rules(column, severity_of(custom_properties(entry).get("severity")))
            statistical += self._quality(entry, ("schema", 0, "properties", position), column, by_name, rules)
        statistical += self._quality(schema, ("schema", 0), None, by_name, rules)
        for kind, ids in (("rule", [rule.id for rule in rules]), ("batch check", [rule.id for rule in statistical])):
            twice = next((one for one in ids if ids.count(one) > 1), None)
            if twice:
                raise self.error(("schema", 0), f"has two quality entries of one name ({kind})", found=twice, fix="Rename one")
        return tuple(rules), tuple(statistical)

    def _quality(
        self, entry: dict[str, Any], parts: tuple[str | int, ...], column: Column | None, by_name: Mapping[str, Column], rules: list[Rule]
    ) -> list[Any]:
        batches: list[Any] = []
        for position, check in enumerate(entry.get("quality") or ()):
            try:
                rows, batch = quality_rules([check], dataset=str(self.parsed["schema"][0]["name"]), column=column, columns=by_name)
            except ContractError as error:
                raise self.error(
                    (*parts, "quality", position), error.problem, expected=error.expected, found=error.found, fix=error.fix
                ) from error
            rules += rows
            batches += batch
        return batches

    def _primary_key(self, schema: dict[str, Any], columns: tuple[Column, ...]) -> tuple[str, ...]:
        keys = [
            (entry.get("primaryKeyPosition") if entry.get("primaryKeyPosition", -1) > 0 else len(columns) + position, column.name)
            for position, (entry, column) in enumerate(zip(schema["properties"], columns, strict=True))
            if column.primary_key
        ]
        return tuple(name for _, name in sorted(keys))

    def _landing(self) -> Landing:
        servers = self.parsed.get("servers") or []
        server = next((one for one in servers if one.get("server") == "landing"), None)
        server = server or next((one for one in servers if one.get("type") in {"local", "s3"}), None)
        if server is None:
            return Landing()
        custom = custom_properties(server)
        header = custom.pop("header", None)
        known = {name: custom.pop(name, None) for name in ("delimiter", "quote", "escape", "sheet", "records", "decimal")}
        paths = _listed(custom.pop("paths", None)) or _listed(server.get("path") or server.get("location"))
        encodings = _listed(custom.pop("encoding", None)) or _listed(server.get("encoding"))
        schedule = cron_of(custom.pop("schedule", None), ("servers", servers.index(server)), self.error)
        return Landing(
            paths=paths,
            format=server.get("format"),
            encodings=encodings,
            delimiter=known["delimiter"] or server.get("delimiter"),
            quote=known["quote"],
            escape=known["escape"],
            header=bool(header) if header is not None else None,
            sheet=str(known["sheet"]) if known["sheet"] is not None else None,
            skip_rows=int(custom.pop("skipRows", 0)),
            decimal=str(known["decimal"] or "."),
            records=known["records"],
            options=custom,
            schedule=schedule,
        )

    def _schema_changes(self, custom: dict[str, Any]) -> SchemaChanges:
        declared = custom.get("schemaChanges") or custom.get("drift") or {}
        choices = {
            "newColumns": ("warn", "rescue", "reject", "ignore"),
            "missingColumns": ("null", "reject"),
            "typeChange": ("quarantine", "reject"),
            "breakingChange": ("warn", "reject"),
        }
        chosen = {key: values[0] for key, values in choices.items()}
        for key, value in declared.items():
            # YAML reads an unquoted null as nothing.
            word = "null" if value is None else {"fail": "reject"}.get(str(value), str(value))
            if key not in choices or word not in choices[key]:
                wanted = "; ".join(f"{one}: {' | '.join(values)}" for one, values in choices.items())
                raise self.error(("customProperties",), "is not a schema change policy", expected=wanted, found=f"{key}: {value}")
            chosen[key] = word
        return SchemaChanges(
            new_columns=cast("Any", chosen["newColumns"]),
            missing_columns=cast("Any", chosen["missingColumns"]),
            type_change=cast("Any", chosen["typeChange"]),
            breaking_change=cast("Any", chosen["breakingChange"]),
        )

    def _archiving(self, custom: dict[str, Any], columns: Mapping[str, Column], event: Any) -> Archiving | None:
        """Rows are archived only where the contract asks for it: what reads the table does not see them any more."""
        given = custom.get("archive")
        if given is None:
            return None
        expected = "{warmAfterDays: 90, coldAfterDays: 365, by: event_time}"
        if not isinstance(given, dict) or not set(given) <= {"warmAfterDays", "coldAfterDays", "by"}:
            raise self.error(("customProperties",), "archive is not written so", expected=expected, found=str(given))
        warm, cold, by = given.get("warmAfterDays"), given.get("coldAfterDays"), str(given.get("by") or event or "_ingested_at")
        days = [one for one in (warm, cold) if one is not None]
        is_ordered = cold is None or (isinstance(warm, int) and isinstance(cold, int) and warm < cold)
        if warm is None or not is_ordered or any(isinstance(one, bool) or not isinstance(one, int) or one < 1 for one in days):
            raise self.error(("customProperties",), "archive has no whole days that grow", expected=expected, found=str(given))
        kind = "TIMESTAMP WITH TIME ZONE" if by == "_ingested_at" else columns[by].stored_type if by in columns else None
        if kind is None or not kind.startswith(("DATE", "TIMESTAMP")):
            raise self.error(
                ("customProperties",), "archive is by no column of time", expected=expected, found=f"{by}: {kind or 'no such column'}"
            )
        return Archiving(by, int(warm), None if cold is None else int(cold))

    def _texts(self, custom: dict[str, Any], name: str) -> tuple[str, ...]:
        return tuple(str(value) for value in _listed(custom.get(name)))


def _listed(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    return tuple(str(one) for one in value) if isinstance(value, list | tuple) else (str(value),)


def _subject(custom: Mapping[str, Any]) -> str | None:
    pii = custom.get("pii")
    name = custom.get("subject") or (pii.get("subject") if isinstance(pii, dict) else None)
    return str(name) if name else None


def _pii_kind(value: Any) -> str | None:
    if isinstance(value, dict):
        return str(value.get("kind", "personal"))
    return str(value) if value else None


def _description(parsed: Mapping[str, Any], schema: Mapping[str, Any]) -> str:
    purpose = parsed.get("description")
    words = purpose.get("purpose") if isinstance(purpose, dict) else purpose
    return str(schema.get("description") or words or parsed.get("name") or "")


def _owner(team: Any) -> str | None:
    if isinstance(team, dict):
        members = team.get("members") or []
        if team.get("name"):
            return f"team:{team['name']}"
    else:
        members = team or []
    owner = next((one for one in members if one.get("role") == "owner"), members[0] if members else None)
    return str(owner["username"]) if owner else None


def _prove(contract: DatasetContract, path: Path, con: "duckdb.DuckDBPyConnection | None") -> None:
    """Plans every rule over an empty table of the contract's columns: what does not bind is not SQL over this dataset."""
    if not (contract.rules or contract.statistical_rules):
        return
    import duckdb

    own = con is None
    scratch = duckdb.connect(config={"enable_external_access": "false"}) if con is None else con
    try:
        columns = ", ".join(f"CAST(NULL AS {column.sql_type}) AS {quote_identifier(column.name)}" for column in contract.columns)
        table = f"(SELECT {columns} WHERE false)"
        checks = [(rule.id, f"SELECT ({rule.valid_sql}) = true, {rule.describe_sql} FROM {table}") for rule in contract.rules]
        measured = [rule for rule in contract.statistical_rules if rule.measure_sql and rule.metric != "sql"]
        checks += [(rule.id, f"SELECT {rule.measure_sql} FROM {table}") for rule in measured]
        together = (
            [f"SELECT {', '.join(f'({r.valid_sql}) = true, {r.describe_sql}' for r in contract.rules)} FROM {table}"]
            if contract.rules
            else []
        )
        together += [f"SELECT {', '.join(str(rule.measure_sql) for rule in measured)} FROM {table}"] if measured else []
        name = quote_identifier(contract.name)
        queries = [(rule.id, f"WITH {name} AS {table} {rule.measure_sql}") for rule in contract.statistical_rules if rule.metric == "sql"]
        try:
            for query in (*together, *(sql for _, sql in queries)):
                scratch.execute(f"EXPLAIN {query}")
        except duckdb.Error:
            _find_culprit(scratch, [*checks, *queries], contract, path)
            raise
    finally:
        if own:
            scratch.close()


def _find_culprit(scratch: "duckdb.DuckDBPyConnection", checks: list[tuple[str, str]], contract: DatasetContract, path: Path) -> None:
    import duckdb

    described = {rule.id: rule.description for rule in contract.rules} | {rule.id: rule.description for rule in contract.statistical_rules}
    for rule_id, query in checks:
        try:
            scratch.execute(f"EXPLAIN {query}")
        except duckdb.Error as error:
            reason = str(error).splitlines()[0]
            what = (
                "has a pattern that is not a regular expression"
                if rule_id.endswith(".pattern")
                else "is not SQL over this dataset's columns"
            )
            raise ContractError(
                f"{path}: rule {rule_id}",
                what,
                expected=f"SQL over {', '.join(column.name for column in contract.columns[:20])}",
                found=f"{described[rule_id]} ({reason})",
                fix="Correct the rule",
            ) from error
