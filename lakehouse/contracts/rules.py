"""The rules of a contract as SQL: each says what is valid, and for a bad row what was found and what was expected."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from lakehouse.contracts.document import custom_properties
from lakehouse.contracts.objects import Column, DatasetContract, Level, Must, Operator, Rule, Severity, StatisticalRule
from lakehouse.contracts.types import cast_sql, text_sql
from lakehouse.errors import ContractError
from lakehouse.sql import quote_identifier, quote_literal

_OPERATORS: dict[str, Operator] = {
    "mustBe": "equal",
    "mustNotBe": "not_equal",
    "mustBeGreaterThan": "greater",
    "mustBeGreaterOrEqualTo": "at_least",
    "mustBeLessThan": "less",
    "mustBeLessOrEqualTo": "at_most",
    "mustBeBetween": "between",
    "mustNotBeBetween": "not_between",
}
_ERRORS = {"error", "critical", "blocker", "fatal", "high", "major"}
_STRING_FORMATS = {
    "email": (r"^[^@\s]+@[^@\s]+\.[^@\s]+$", "an e-mail address"),
    "uuid": (r"^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$", "a UUID"),
    "uri": (r"^[A-Za-z][A-Za-z0-9+.-]*:\S+$", "a URI"),
    "hostname": (r"^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*$", "a host name"),
    "ipv4": (r"^((25[0-5]|2[0-4]\d|1?\d?\d)(\.|$)){4}$", "an IPv4 address"),
    "ipv6": (r"^[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*$", "an IPv6 address"),
}


def found_sql(column: Column) -> str:
    """SQL of the value as a reason may show it: shortened, `nothing` for NULL, never a protected one."""
    if column.protected or column.classification in {"restricted", "confidential", "secret"}:
        return "'(protected)'"
    return f"coalesce(left(CAST({quote_identifier(column.name)} AS VARCHAR), 80), 'nothing')"


def column_rules(column: Column, severity: Severity = Severity.ERROR) -> tuple[Rule, ...]:
    """`required` and the semantic rules that the column's own options declare."""
    name = quote_identifier(column.name)
    rules: list[Rule] = []
    if column.required:
        rules.append(_required(column, f"{name} IS NOT NULL"))

    def semantic(what: str, valid: str, expected: str) -> None:
        describe = f"{quote_literal(column.name + ' is ')} || {found_sql(column)} || {quote_literal(': expected ' + expected)}"
        rules.append(
            Rule(f"{column.name}.{what}", Level.SEMANTIC, severity, (column.name,), valid, describe, f"{column.name} is {expected}")
        )

    bounds = _range_words(column)
    for option, operator in (("minimum", ">="), ("exclusiveMinimum", ">"), ("maximum", "<="), ("exclusiveMaximum", "<")):
        if option in column.options:
            semantic(option, f"{name} {operator} {_bound(column, column.options[option])}", bounds)
    if "multipleOf" in column.options:
        step = column.options["multipleOf"]
        exact = f"CAST({name} AS DECIMAL(38,10)) % CAST({quote_literal(str(step))} AS DECIMAL(38,10)) = 0"
        semantic("multipleOf", exact, f"a multiple of {step}")
    for option, operator, word in (("minLength", ">=", "at least"), ("maxLength", "<=", "at most")):
        if option in column.options:
            size = column.options[option]
            semantic(option, f"length({name}) {operator} {int(size)}", f"{word} {size} characters")
    if "pattern" in column.options:
        pattern = str(column.options["pattern"])
        semantic("pattern", f"regexp_matches({name}, {quote_literal(pattern)})", f"to match {pattern}")
    text_format = _STRING_FORMATS.get(str(column.options.get("format", ""))) if column.logical_type == "string" else None
    if text_format:
        semantic("format", f"regexp_matches({name}, {quote_literal(text_format[0])})", text_format[1])
    if column.allowed:
        values = ", ".join(_allowed(column, value) for value in column.allowed)
        semantic("enum", f"{name} IN ({values})", _one_of(column.allowed))
    for option, operator, word in (("minItems", ">=", "at least"), ("maxItems", "<=", "at most")):
        if option in column.options:
            semantic(
                option, f"json_array_length({name}) {operator} {int(column.options[option])}", f"{word} {column.options[option]} items"
            )
    return tuple(rules)


def _required(column: Column, present: str) -> Rule:
    reason = f"{column.name} is missing: a value is required"
    return Rule(
        f"{column.name}.required",
        Level.STRUCTURAL,
        Severity.ERROR,
        (column.name,),
        present,
        quote_literal(reason),
        f"{column.name} has a value",
        holds_if_filled=True,
    )


def row_rules(contract: DatasetContract, *, text: Callable[[Column], str]) -> tuple[Rule, ...]:
    """Every rule that judges one row where both its text and its typed columns are at hand: types first, then the contract's.

    A value that is not of its type breaks `<column>.type` alone, not `<column>.required` as well.

    Args:
        contract: whose rules.
        text: gives the SQL expression of a column's text beside the typed columns.
    """
    structural: list[Rule] = []
    for column in contract.columns:
        words = text(column)
        name = quote_identifier(column.name)
        shown = "'(protected)'" if found_sql(column) == "'(protected)'" else f"left({words}, 80)"
        kind = _type_words(column)
        always_valid = column.logical_type == "string"
        if not always_valid:
            structural.append(
                Rule(
                    f"{column.name}.type",
                    Level.STRUCTURAL,
                    Severity.ERROR,
                    (column.name,),
                    f"CASE WHEN {name} IS NOT NULL THEN true ELSE {text_sql(column, words)} IS NULL END",
                    f"{quote_literal(column.name + ' is ')} || {shown} || {quote_literal(': expected ' + kind)}",
                    f"{column.name} is {kind}",
                    holds_if_filled=True,
                )
            )
        if column.required:
            missing = f"CASE WHEN {name} IS NOT NULL THEN true ELSE {text_sql(column, words)} IS NOT NULL END"
            structural.append(_required(column, missing))
    return (*structural, *(rule for rule in contract.rules if not rule.id.endswith(".required")))


def unique_rules(contract: DatasetContract, *, order: Sequence[str]) -> tuple[Rule, ...]:
    """Rules that keep the first row of every key and of every unique column; they are window expressions, for a SELECT list.

    Args:
        contract: whose keys.
        order: columns that say which row is first.
    """
    keys: dict[tuple[str, ...], str] = {(column.name,): f"{column.name}.unique" for column in contract.columns if column.unique}
    if contract.primary_key:
        keys[contract.primary_key] = "primary_key.unique" if len(contract.primary_key) > 1 else f"{''.join(contract.primary_key)}.unique"
    by = ", ".join(quote_identifier(name) for name in order)
    rules: list[Rule] = []
    for names, rule_id in keys.items():
        columns = [contract.column(name) for name in names]
        quoted = [quote_identifier(name) for name in names]
        anything_missing = " OR ".join(f"{name} IS NULL" for name in quoted)
        valid = f"{anything_missing} OR row_number() OVER (PARTITION BY {', '.join(quoted)} ORDER BY {by}) = 1"
        shown = " || ', ' || ".join(found_sql(column) for column in columns)
        label = ", ".join(names)
        describe = f"{quote_literal(label + ' is ')} || {shown} || ': this key was already in an earlier row'"
        rules.append(Rule(rule_id, Level.STRUCTURAL, Severity.ERROR, names, valid, describe, f"{label} is unique"))
    return tuple(rules)


def _type_words(column: Column) -> str:
    words = {
        "integer": "a whole number",
        "number": "a number",
        "boolean": "true or false",
        "date": "a date",
        "timestamp": "a timestamp",
        "time": "a time of day",
    }
    kind = words.get(column.logical_type, f"valid JSON ({column.logical_type})")
    if column.formats:
        kind += f" (ISO or {' or '.join(column.formats)})"
    elif column.logical_type in {"date", "timestamp"}:
        kind += " (ISO)"
    if column.sql_type.startswith(("TINYINT", "SMALLINT", "INTEGER", "DECIMAL")):
        kind += f" that fits {column.sql_type}"
    return kind


def _range_words(column: Column) -> str:
    options = column.options
    low = next((f"{word}{options[key]}" for key, word in (("minimum", ""), ("exclusiveMinimum", "more than ")) if key in options), None)
    high = next((f"{word}{options[key]}" for key, word in (("maximum", ""), ("exclusiveMaximum", "less than ")) if key in options), None)
    if low is not None and high is not None:
        return f"{low} to {high}" if "exclusiveMinimum" not in options and "exclusiveMaximum" not in options else f"{low} and {high}"
    if low is not None:
        return f"at least {low}" if "minimum" in options else low
    return f"at most {high}" if "maximum" in options else str(high)


def _bound(column: Column, value: Any) -> str:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return quote_literal(value)
    literal = quote_literal(str(value))
    return literal if column.sql_type == "VARCHAR" else f"CAST({literal} AS {column.sql_type})"


def _allowed(column: Column, value: Any) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return quote_literal(text) if column.sql_type == "VARCHAR" else f"CAST({quote_literal(text)} AS {column.sql_type})"


def _one_of(values: Sequence[Any], limit: int = 12) -> str:
    shown = ", ".join(str(value) for value in values[:limit])
    return f"one of {shown}" + (f" and {len(values) - limit} more" if len(values) > limit else "")


def severity_of(word: object, default: Severity = Severity.ERROR) -> Severity:
    """ODCS leaves severity free: error, critical, blocker, high and major are errors, every other word is a warning."""
    if word is None:
        return default
    return Severity.ERROR if str(word).lower() in _ERRORS else Severity.WARNING


def quality_rules(
    checks: Iterable[Mapping[str, Any]], *, dataset: str, column: Column | None, columns: Mapping[str, Column]
) -> tuple[list[Rule], list[StatisticalRule]]:
    """The `quality` entries of a schema object or a property, split into those that judge rows and those that judge batches.

    Raises:
        ContractError: an entry's arguments make no sense for its column.
    """
    rows: list[Rule] = []
    batches: list[StatisticalRule] = []
    for position, check in enumerate(checks, start=1):
        custom = custom_properties(check)
        kind = check.get("type") or ("library" if "metric" in check else "text")
        metric = str(check.get("metric", kind))
        owner = column.name if column else dataset
        rule_id = str(check.get("name") or check.get("id") or f"{owner}.{metric}" + ("" if position == 1 else f"_{position}"))
        description = str(check.get("description") or rule_id.replace("_", " "))
        if "row" in custom:
            rows.append(_business(rule_id, str(custom["row"]), severity_of(check.get("severity")), columns, check.get("description")))
        elif kind == "library":
            batches.append(_library(rule_id, check, column=column, columns=columns, dataset=dataset))
        elif kind == "sql":
            query = str(check["query"])
            for placeholder in ("{object}", "{table}", "${object}", "${table}"):
                query = query.replace(placeholder, quote_identifier(dataset))
            batches.append(
                StatisticalRule(
                    rule_id,
                    column.name if column else None,
                    "sql",
                    _must(check, rule_id),
                    severity_of(check.get("severity")),
                    description,
                    query,
                )
            )
        elif kind == "custom":
            engine = str(check.get("engine", "")).lower()
            batches.append(_custom(rule_id, check, column) if engine == "lakehouse" else _foreign(rule_id, check, column, engine))
    return rows, batches


def _business(rule_id: str, predicate: str, severity: Severity, columns: Mapping[str, Column], description: object) -> Rule:
    used = tuple(name for name in columns if _mentions(predicate, name))
    shown = " || ', ' || ".join(f"{quote_literal(name + ' is ')} || {found_sql(columns[name])}" for name in used) or quote_literal(
        "the row"
    )
    expected = str(description) if description else predicate
    describe = f"{shown} || {quote_literal(': expected ' + expected)}"
    return Rule(rule_id, Level.BUSINESS, severity, used, f"({predicate})", describe, expected)


def _mentions(predicate: str, name: str) -> bool:
    import re

    outside_text = re.sub(r"'(?:[^']|'')*'", "''", predicate)
    return re.search(rf'(?<![\w"]){re.escape(name)}(?![\w"])|"{re.escape(name)}"', outside_text, re.IGNORECASE) is not None


def _must(check: Mapping[str, Any], subject: str) -> Must:
    for key, operator in _OPERATORS.items():
        if key in check:
            value = check[key]
            if isinstance(value, list):
                return Must(operator, (float(value[0]), float(value[1])))
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise ContractError(subject, f"{key} needs a number", found=repr(value), fix="Give a number")
            return Must(operator, float(value))
    raise ContractError(subject, "says nothing about what the number must be", expected=f"one of {', '.join(_OPERATORS)}")


def _library(
    rule_id: str, check: Mapping[str, Any], *, column: Column | None, columns: Mapping[str, Column], dataset: str
) -> StatisticalRule:
    metric = str(check["metric"])
    arguments: Mapping[str, Any] = check.get("arguments") or {}
    must = _must(check, rule_id)
    percent = str(check.get("unit", "rows")).lower().startswith(("percent", "%"))
    if metric == "rowCount":
        count = "count(*)"
        percent = False
    elif metric == "duplicateValues":
        names = [str(name) for name in arguments.get("properties", [column.name] if column else [])]
        unknown = [name for name in names if name not in columns]
        if unknown or not names:
            raise ContractError(rule_id, "duplicateValues names no column of this dataset", found=", ".join(unknown) or "nothing")
        row = ", ".join(quote_identifier(name) for name in names)
        key = f"({row})" if len(names) == 1 else f"row({row})"
        filled = " AND ".join(f"{quote_identifier(name)} IS NOT NULL" for name in names)
        count = f"count(*) FILTER ({filled}) - count(DISTINCT {key}) FILTER ({filled})"
    else:
        if column is None:
            raise ContractError(rule_id, f"{metric} judges a column", fix="Move it under a property")
        count = f"count(CASE WHEN {_bad_values(metric, column, arguments, rule_id)} THEN 1 END)"
    measure = f"100.0 * ({count}) / nullif(count(*), 0)" if percent else f"CAST({count} AS DOUBLE)"
    of = column.name if column else dataset
    description = f"{metric} of {of} must be {must}{' percent' if percent else ''}"
    return StatisticalRule(
        rule_id, column.name if column else None, metric, must, severity_of(check.get("severity")), description, measure, dict(arguments)
    )


def _bad_values(metric: str, column: Column, arguments: Mapping[str, Any], rule_id: str) -> str:
    name = quote_identifier(column.name)
    if metric == "nullValues":
        return f"{name} IS NULL"
    if metric == "missingValues":
        texts = [quote_literal(str(value)) for value in arguments.get("missingValues", ("",)) if value is not None]
        return f"{name} IS NULL" + (f" OR CAST({name} AS VARCHAR) IN ({', '.join(texts)})" if texts else "")
    conditions: list[str] = []
    if "validValues" in arguments:
        values = ", ".join(_allowed(column, value) for value in arguments["validValues"])
        conditions.append(f"{name} IN ({values})" if values else "false")
    if "pattern" in arguments:
        conditions.append(f"regexp_matches(CAST({name} AS VARCHAR), {quote_literal(str(arguments['pattern']))})")
    for option, operator in (("minimum", ">="), ("maximum", "<=")):
        if option in arguments:
            conditions.append(f"{name} {operator} {_bound(column, arguments[option])}")
    if not conditions:
        raise ContractError(rule_id, "invalidValues says nothing about what is valid", expected="validValues, pattern, minimum or maximum")
    return f"NOT ({' AND '.join(conditions)})"


def _custom(rule_id: str, check: Mapping[str, Any], column: Column | None) -> StatisticalRule:
    implementation: Any = check["implementation"]
    if isinstance(implementation, str):
        try:
            implementation = json.loads(implementation)
        except json.JSONDecodeError:
            implementation = {"check": implementation}
    options = {str(key): value for key, value in implementation.items()}
    name = str(options.pop("check", rule_id))
    options.pop("level", None)
    must = _must(check, rule_id) if any(key in check for key in _OPERATORS) else None
    words = ", ".join(f"{key} {value}" for key, value in options.items())
    description = f"{name} of {column.name if column else 'the batch'}" + (f" ({words})" if words else "")
    severity = severity_of(check.get("severity"), Severity.WARNING)
    return StatisticalRule(rule_id, column.name if column else None, name, must, severity, description, None, options)


def _foreign(rule_id: str, check: Mapping[str, Any], column: Column | None, engine: str) -> StatisticalRule:
    """A check that only another engine can make: kept, so that it is reported as not made."""
    description = str(check.get("description") or f"a check of the engine {engine}")
    return StatisticalRule(
        rule_id, column.name if column else None, "custom", None, Severity.WARNING, description, None, {"engine": engine}
    )


def typed_select(columns: Sequence[Column], *, text: Callable[[Column], str]) -> str:
    """The SELECT list that turns text into typed columns: `cast AS name, ...`."""
    return ", ".join(f"{cast_sql(column, text(column))} AS {quote_identifier(column.name)}" for column in columns)
