"""A contract's YAML: read without YAML 1.1's surprises, checked against a JSON schema, and blamed by file, place and line."""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import yaml

from lakehouse.errors import ContractError

if TYPE_CHECKING:
    import jsonschema_rs

PathParts = tuple[str | int, ...]
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _ContractLoader(_Loader):  # type: ignore[misc,valid-type]
    """YAML 1.2 scalars: `no` is a word, 12:30 is not a number, 2024-01-01 is text; a key may be given once."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"the key {key.value} is given twice", key.start_mark)
            seen.add(key.value)
        return cast("dict[Any, Any]", super().construct_mapping(node, deep=deep))


_ContractLoader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^[-+]?[0-9]+$", list("-+0123456789")),
    ("float", r"^[-+]?(?:\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))(?:[eE][-+]?[0-9]+)?$", list("-+.0123456789")),
):
    _ContractLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)
_ContractLoader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value))
_ContractLoader.add_constructor("tag:yaml.org,2002:float", lambda loader, node: float(node.value))


def parse(text: str, *, path: Path) -> dict[str, Any]:
    """The document as plain values.

    Raises:
        ContractError: it is not YAML (with line and column), or not a mapping.
    """
    try:
        document = yaml.load(text, Loader=_ContractLoader)  # noqa: S506 - a safe loader with fewer implicit types.
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{path}, line {mark.line + 1}, column {mark.column + 1}" if mark else str(path)
        problem = str(error.problem or error.context)
        fix = None if "given twice" in problem else "Check the indentation and the quotes above this place"
        raise ContractError(place, f"is not valid YAML: {problem}", fix=fix) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ContractError(str(path), f"is not valid YAML: {error}") from error
    if not isinstance(document, dict):
        raise ContractError(str(path), "is not a contract", expected="a YAML mapping", found=_shown(document))
    return cast("dict[str, Any]", document)


def read(path: Path) -> str:
    """The text of a contract file.

    Raises:
        ContractError: it can't be read, or is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ContractError(str(path), "is not UTF-8 text", found=f"byte 0x{error.object[error.start]:02x} at {error.start}") from error
    except OSError as error:
        raise ContractError(str(path), f"can't be read: {error.strerror}") from error


def digest(document: Mapping[str, Any]) -> str:
    """sha256 of what the document says: comments, layout and the order of keys don't change it."""
    canonical = json.dumps(document, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode("utf-8", "surrogatepass")).hexdigest()


def custom_properties(entry: Mapping[str, Any]) -> dict[str, Any]:
    """What an entry says that the standard has no field for, by name without the project's prefix."""
    return {str(one["property"]).removeprefix("lakehouse."): one["value"] for one in entry.get("customProperties") or ()}


def blame(path: Path, text: str, parts: Sequence[str | int], document: Any) -> str:
    """Where in the file the trouble is: file, line and the place in words."""
    words = in_words(parts, document)
    line = _line_of(text, parts)
    place = f"{path}, line {line}" if line else str(path)
    return f"{place}: {words}" if words else place


def in_words(parts: Sequence[str | int], document: Any) -> str:
    """The JSON path with every list element called by its name: schema.household_survey.properties.age."""
    words: list[str] = []
    here = document
    for part in parts:
        here = _step(here, part)
        if isinstance(part, int):
            name = next(
                (here[key] for key in ("name", "property", "server", "value", "id") if isinstance(here, dict) and key in here), None
            )
            words.append(str(name) if isinstance(name, str | int | float) else f"[{part}]")
        else:
            words.append(part)
    return ".".join(words).replace(".[", "[")


def _step(here: Any, part: str | int) -> Any:
    try:
        return here[part]
    except (KeyError, IndexError, TypeError):
        return None


def _line_of(text: str, parts: Sequence[str | int]) -> int | None:
    node: Any = yaml.compose(text, Loader=_ContractLoader)
    line = None
    for part in parts:
        if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        elif isinstance(node, yaml.MappingNode):
            found = next(((key, value) for key, value in node.value if key.value == part), None)
            if found is None:
                return line
            line, node = found[0].start_mark.line + 1, found[1]
        else:
            return line
    return line


def check_schema(validator: "jsonschema_rs.Validator", document: Mapping[str, Any], *, path: Path, text: str, what: str) -> None:
    """Checks a document against a JSON schema.

    Raises:
        ContractError: it does not conform; the message names the first offence by file, line and place, with what was expected.
    """
    if validator.is_valid(document):
        return
    # A wrong value also makes the combined schema call every key beside it "unexpected": the deepest offence is the cause.
    errors = sorted(validator.iter_errors(document), key=_relevance)
    error = errors[0]
    parts: PathParts = tuple(error.instance_path)
    raise _explained(error, parts, document, path=path, text=text, what=what)


def _relevance(error: Any) -> tuple[bool, int]:
    return (_kind(error) == "UnevaluatedProperties", -len(error.instance_path))


def _kind(error: Any) -> str:
    return type(error.kind).__name__.rsplit("_", 1)[-1]


def _explained(error: Any, parts: PathParts, document: Mapping[str, Any], *, path: Path, text: str, what: str) -> ContractError:
    found: Any = document
    for part in parts:
        found = _step(found, part)
    kind = _kind(error)
    values = {name: getattr(error.kind, name) for name in dir(error.kind) if not name.startswith("_")}
    if kind in {"AdditionalProperties", "UnevaluatedProperties"}:
        unknown = [str(name) for name in cast("Iterable[Any]", values.get("unexpected", ()))]
        place = blame(path, text, (*parts, unknown[0]) if unknown else parts, document)
        known = _known_keys(error)
        close = get_close_matches(unknown[0], known, n=1, cutoff=0.6) if unknown else []
        return ContractError(
            place,
            f"is not a key {what} knows here",
            expected=f"one of {', '.join(known)}" if known and not close else None,
            fix=f"Did you mean {close[0]}?" if close else "Correct it, or move it under customProperties",
        )
    if kind == "Required":
        return ContractError(
            blame(path, text, parts, document), "lacks a required key", expected=str(values.get("property", "")).strip('"'), fix="Add it"
        )
    expected = {
        "Type": lambda: f"{_types(values.get('types'))}",
        "Enum": lambda: f"one of {', '.join(map(str, cast('Iterable[Any]', values.get('options', ()))))}",
    }.get(kind, lambda: _plain(error.message))()
    fix = "Put it in quotes" if kind == "Type" and expected == "string" and isinstance(found, int | float) else "Correct it"
    return ContractError(blame(path, text, parts, document), "is not valid here", expected=expected, found=_shown(found), fix=fix)


def _types(types: Any) -> str:
    return " or ".join(str(name) for name in types) if isinstance(types, list | tuple) else str(types)


def _plain(message: str) -> str:
    return message if len(message) < 200 else message[:197] + "..."


def _shown(value: Any, limit: int = 80) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _known_keys(error: Any) -> list[str]:
    """Keys the standard's schema knows at the place of the error: found along the path the error names, through references."""
    schema = _odcs_schema()
    here: Any = schema
    for part in list(error.schema_path)[:-1]:
        here = _step(here, part)
        if isinstance(here, dict) and isinstance(here.get("$ref"), str):
            here = {**_resolved(schema, here), **{key: value for key, value in here.items() if key != "$ref"}}
    keys: set[str] = set()
    _collect(schema, here, keys, depth=0)
    return sorted(keys)


def _resolved(schema: Mapping[str, Any], node: Mapping[str, Any]) -> dict[str, Any]:
    here: Any = schema
    for part in str(node["$ref"]).removeprefix("#/").split("/"):
        here = _step(here, part)
    return here if isinstance(here, dict) else {}


def _collect(schema: Mapping[str, Any], node: Any, keys: set[str], *, depth: int) -> None:
    if not isinstance(node, dict) or depth > 4:
        return
    keys.update(node.get("properties", {}))
    if "$ref" in node:
        _collect(schema, _resolved(schema, node), keys, depth=depth + 1)
    for part in node.get("allOf", ()):
        _collect(schema, part, keys, depth=depth + 1)


def _odcs_schema() -> dict[str, Any]:
    return cast("dict[str, Any]", json.loads((files("open_data_contract_standard") / "schema.json").read_text(encoding="utf-8")))


@lru_cache(maxsize=1)
def odcs_validator() -> "jsonschema_rs.Validator":
    """The validator of the standard's own JSON schema."""
    import jsonschema_rs

    return jsonschema_rs.validator_for(_odcs_schema())


def quoted(text: str) -> str:
    """Text as a double-quoted YAML scalar."""
    return json.dumps(text, ensure_ascii=False)
