"""JSON as the Feature API sends it: as the command line prints it (docs/cli.md), in one pass."""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from lakehouse.cli.screen import json_value


def encoded(document: Any) -> bytes:
    """The bytes of a document: instants in ISO 8601 with Z, decimals as numbers, NaN and infinity as null."""
    try:
        return orjson.dumps(document, default=json_value, option=orjson.OPT_UTC_Z)
    except TypeError:
        # Whole numbers of more than 64 bits, which only nested values have, and keys that are no text.
        import json

        return json.dumps(json_value(document), ensure_ascii=False, separators=(",", ":")).encode()


def encoded_each(common: Mapping[str, Any], each: Iterable[Mapping[str, Any]]) -> list[bytes]:
    """The bytes of documents of which each has fields of its own in place of some of the common ones; those are encoded only once."""
    fragments = {name: orjson.Fragment(encoded(value)) for name, value in common.items()}
    documents: list[bytes] = []
    for own in each:
        try:
            documents.append(orjson.dumps({**fragments, **own}, default=json_value, option=orjson.OPT_UTC_Z))
        except TypeError:
            documents.append(encoded({**common, **own}))
    return documents
