"""Changes to a contract's text that leave everything else in it as it is: comments, order, quotes and layout.

Every change is made twice, to the text and to what it says; where the two disagree (a layout nobody expected), the text is refused.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lakehouse.contracts import document as documents
from lakehouse.contracts.inference.yaml_text import scalar
from lakehouse.errors import ContractError

Place = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class ContractText:
    """A contract as text, and what it says; every method gives a changed one."""

    text: str
    path: Path

    @property
    def document(self) -> dict[str, Any]:
        """What the text says."""
        return documents.parse(self.text, path=self.path)

    def set(self, place: Place, key: str, value: Any) -> "ContractText":
        """The text in which a mapping has this value for a key.

        Raises:
            ContractError: the text is written in a way that can't be changed safely.
        """
        mapping = self._node(place)
        if not isinstance(mapping, yaml.MappingNode):
            raise self._refusal(place, key)
        found = next((node for name, node in mapping.value if name.value == key), None)
        written = flow(value)
        if found is not None:
            start, end = found.start_mark.index, _end(found)
            blank = " " if start == end else ""
            text = f"{self.text[:start]}{blank}{written}{self.text[end:]}"
        elif mapping.flow_style:
            text = _into_flow(self.text, mapping, f"{scalar(key)}: {written}")
        else:
            indent = " " * mapping.value[0][0].start_mark.column
            text = _line_after(self.text, _end(mapping.value[_anchor(mapping)][1]), f"{indent}{scalar(key)}: {written}")
        return self._checked(text, place, lambda here: here.__setitem__(key, value), key)

    def append(self, place: Place, value: Any) -> "ContractText":
        """The text in which a list has one more entry.

        Raises:
            ContractError: the text is written in a way that can't be changed safely.
        """
        node = self._node(place)
        if not isinstance(node, yaml.SequenceNode):
            raise self._refusal(place, str(place[-1]))
        if node.flow_style or not node.value:
            text = _into_flow(self.text, node, flow(value))
        else:
            indent = " " * node.start_mark.column
            text = _line_after(self.text, _end(node.value[-1]), f"{indent}- {flow(value)}")
        return self._checked(text, place, lambda here: here.append(value), str(place[-1]))

    def set_custom(self, place: Place, name: str, value: Any) -> "ContractText":
        """The text in which an object has this custom property; a list takes the values that it lacks.

        Raises:
            ContractError: the text is written in a way that can't be changed safely.
        """
        here = _at(self.document, place)
        listed: Sequence[Mapping[str, Any]] = here.get("customProperties") or ()
        entry = {"property": f"lakehouse.{name}", "value": value}
        found = next((number for number, one in enumerate(listed) if str(one["property"]).removeprefix("lakehouse.") == name), None)
        if found is not None:
            inside = (*place, "customProperties", found)
            present = listed[found].get("value")
            if isinstance(present, list) and isinstance(value, list | tuple):
                changed = self
                for one in (one for one in value if one not in present):
                    changed = changed.append((*inside, "value"), one)
                return changed
            if isinstance(value, list | tuple) and present is not None:
                value = [present, *(one for one in value if one != present)]
            return self if value == present else self.set(inside, "value", value)
        if not listed:
            return self.set(place, "customProperties", [entry])
        return self.append((*place, "customProperties"), entry)

    def _node(self, place: Place) -> yaml.Node | None:
        node: yaml.Node | None = yaml.compose(self.text, Loader=yaml.SafeLoader)
        for part in place:
            if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
                node = node.value[part]
            elif isinstance(node, yaml.MappingNode):
                node = next((value for key, value in node.value if key.value == part), None)
            else:
                return None
        return node

    def _checked(self, text: str, place: Place, change: Callable[[Any], object], key: str) -> "ContractText":
        wanted = _unshared(self.document)
        change(_at(wanted, place))
        changed = ContractText(text, self.path)
        try:
            is_right = changed.document == wanted
        except ContractError:
            is_right = False
        if not is_right:
            raise self._refusal(place, key)
        return changed

    def _refusal(self, place: Place, key: str) -> ContractError:
        where = documents.blame(self.path, self.text, place, self.document)
        return ContractError(where, f"is written in a way in which {key} can't be changed safely", fix="Make the change by hand")


def flow(value: Any) -> str:
    """A value on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{scalar(key)}: {flow(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(flow(one) for one in value) + "]"
    return scalar(value)


def _unshared(value: Any) -> Any:
    """A copy in which no part is another one's as well, as an anchor makes it: a change of one must not change both unseen."""
    if isinstance(value, dict):
        return {key: _unshared(one) for key, one in value.items()}
    return [_unshared(one) for one in value] if isinstance(value, list) else value


def _at(document: Any, place: Place) -> Any:
    for part in place:
        document = document[part]
    return document


def _end(node: yaml.Node) -> int:
    """Where a value ends: a block's own end mark lies beyond the comments that follow it."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    if isinstance(node, yaml.ScalarNode) and node.style in ("|", ">"):
        # It ends with its last line.
        return node.end_mark.index - 1 if node.end_mark.column == 0 else node.end_mark.index
    return node.end_mark.index


def _anchor(mapping: yaml.MappingNode) -> int:
    """The pair of a mapping after which a new one stands best: the last that is one line, so that lists stay last."""
    short = [
        number for number, (_, value) in enumerate(mapping.value) if isinstance(value, yaml.ScalarNode) and value.style not in ("|", ">")
    ]
    return short[-1] if short else len(mapping.value) - 1


def _line_after(text: str, index: int, line: str) -> str:
    """The text with one more line after the one that holds the index."""
    end = text.find("\n", index)
    if end < 0:
        return f"{text}\n{line}\n"
    newline = "\r\n" if end and text[end - 1] == "\r" else "\n"
    return f"{text[: end + 1]}{line}{newline}{text[end + 1 :]}"


def _into_flow(text: str, node: yaml.CollectionNode, entry: str) -> str:
    """The text with one more entry in a bracketed value, right after the last one: comments may follow that."""
    if not node.value:
        inside = node.start_mark.index + 1
        return f"{text[:inside]}{entry}{text[inside:]}"
    last = node.value[-1]
    end = (last[1] if isinstance(last, tuple) else last).end_mark.index
    return f"{text[:end]}, {entry}{text[end:]}"
