"""YAML with comments, written the way a person would, and read back as the same values by any YAML reader."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_PLAIN = re.compile(r"^[A-Za-z_/][A-Za-z0-9_./@ +%()-]*$")
_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan", "inf", "none"})
_NOT_PRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class Commented:
    """A value with the comment that stands above it."""

    value: Any
    comment: str | Sequence[str] = ()


def render(document: Mapping[str, Any], *, head: Sequence[str] = ()) -> str:
    """The document as YAML text; keys in their order, comments above what they are about."""
    lines = [*_comments(head, ""), *_mapping(document, "")]
    return "\n".join(lines) + "\n"


def scalar(value: Any) -> str:
    """A scalar that reads back as the same value under YAML 1.1 and 1.2."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        text = repr(value)
        # YAML 1.1 reads 1e+16 as text: its floats have a point.
        return text if "." in text or "e" not in text else text.replace("e", ".0e")
    text = str(value)
    if _PLAIN.match(text) and not text.endswith(" ") and text.lower() not in _WORDS and " #" not in text:
        return text
    return _NOT_PRINTABLE.sub(lambda match: f"\\u{ord(match.group()):04x}", json.dumps(text, ensure_ascii=False))


def comment_text(text: str) -> str:
    """Text that can stand in a comment: one line, printable."""
    return _NOT_PRINTABLE.sub(" ", text)


def _comments(comment: str | Sequence[str], indent: str) -> list[str]:
    lines = [comment] if isinstance(comment, str) else comment
    return [f"{indent}# {comment_text(line)}".rstrip() for line in lines if line]


def _mapping(mapping: Mapping[str, Any], indent: str) -> list[str]:
    lines: list[str] = []
    for key, entry in mapping.items():
        value = entry
        if isinstance(entry, Commented):
            lines += _comments(entry.comment, indent)
            value = entry.value
        lines += _pair(scalar(key), value, indent)
    return lines


def _pair(key: str, value: Any, indent: str) -> list[str]:
    if isinstance(value, Mapping):
        return [f"{indent}{key}:", *_mapping(value, indent + "  ")] if value else [f"{indent}{key}: {{}}"]
    if isinstance(value, list | tuple):
        if not value:
            return [f"{indent}{key}: []"]
        if all(not isinstance(one, Mapping | list | tuple | Commented) for one in value):
            return [f"{indent}{key}: {_flow(value)}"]
        return [f"{indent}{key}:", *_items(value, indent + "  ")]
    return [f"{indent}{key}: {scalar(value)}"]


def _flow(values: Iterable[Any]) -> str:
    # Inside [ ] a plain scalar may hold no comma or bracket: those are quoted already.
    return f"[{', '.join(scalar(value) for value in values)}]"


def _items(values: Iterable[Any], indent: str) -> list[str]:
    lines: list[str] = []
    for entry in values:
        value = entry
        if isinstance(entry, Commented):
            lines += _comments(entry.comment, indent)
            value = entry.value
        if isinstance(value, Mapping) and value:
            inner = _mapping(value, indent + "  ")
            first = next(position for position, line in enumerate(inner) if not line.lstrip().startswith("#"))
            inner[first] = f"{indent}- {inner[first].lstrip()}"
            lines += inner
        elif isinstance(value, Mapping):
            lines.append(f"{indent}- {{}}")
        elif isinstance(value, list | tuple):
            lines.append(f"{indent}- {_flow(value)}")
        else:
            lines.append(f"{indent}- {scalar(value)}")
    return lines
