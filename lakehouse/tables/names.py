"""The address of a table: its layer and its name."""

import re
from dataclasses import dataclass

from lakehouse.errors import TableError

_PART = re.compile(r"[a-z][a-z0-9_]*")


@dataclass(frozen=True, slots=True, order=True)
class TableName:
    """`layer.name`; both are lower case words, so that they are safe in a path, in SQL and in an URL.

    Raises:
        TableError: a part is not of the form `[a-z][a-z0-9_]*`.
    """

    layer: str
    name: str

    def __post_init__(self) -> None:
        for part in (self.layer, self.name):
            if not _PART.fullmatch(part):
                raise TableError(
                    f"table name {self.layer}.{self.name}",
                    "is not a name of a table",
                    expected="layer.name in lower case letters, digits and underscores, each starting with a letter",
                    found=repr(part),
                    fix="Rename it",
                )

    @classmethod
    def parse(cls, text: "str | TableName") -> "TableName":
        """The name written as `layer.name`.

        Raises:
            TableError: the text is anything else.
        """
        if isinstance(text, TableName):
            return text
        layer, dot, name = text.partition(".")
        if not dot:
            raise TableError(f"table name {text!r}", "has no layer", expected="layer.name, such as raw.customers", fix="Name the layer")
        return cls(layer, name)

    def __str__(self) -> str:
        return f"{self.layer}.{self.name}"
