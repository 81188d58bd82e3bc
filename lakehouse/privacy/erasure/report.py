"""What an erasure says it did: signed, and without a value by which anybody could be known.

The signature is Ed25519 (RFC 8032) over the report's canonical JSON, under a key that is derived from the home's: whoever has the
public key, which is in the report, can tell that nothing was changed; that it is the home's own, the home can tell.
"""

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakehouse.durable import write_whole
from lakehouse.errors import PrivacyError
from lakehouse.privacy.keys import Key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_FORMAT = "lakehouse-erasure-1"
_PURPOSE = "erasure reports"


def signed_report(content: Mapping[str, Any], key: Key) -> dict[str, Any]:
    """The report with its signature."""
    document = {"format": _FORMAT, **content}
    private = _private(key)
    public = private.public_key().public_bytes_raw()
    signature = {
        "algorithm": "ed25519",
        "key": key.id,
        "public_key": base64.b64encode(public).decode(),
        "value": base64.b64encode(private.sign(_canonical(document))).decode(),
    }
    return {**document, "signature": signature}


def write_report(document: Mapping[str, Any], path: Path) -> None:
    """Write a report, whole or not at all."""
    write_whole(path, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def read_report(path: Path, keys: Mapping[str, Key]) -> dict[str, Any]:
    """A report whose signature is right and the home's own.

    Args:
        path: of the report.
        keys: the home's, by id.

    Raises:
        PrivacyError: it can't be read, was changed, or was signed by another home.
    """
    from cryptography.exceptions import InvalidSignature

    try:
        document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        signature = document.pop("signature")
        value = base64.b64decode(signature["value"], validate=True)
        signer = keys.get(str(signature["key"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise PrivacyError(f"report {path}", "can't be read as a signed report", found=type(error).__name__) from error
    if signer is None:
        raise PrivacyError(f"report {path}", "was signed by another home", expected=", ".join(keys), found=str(signature["key"]))
    try:
        _private(signer).public_key().verify(value, _canonical(document))
    except InvalidSignature as error:
        raise PrivacyError(f"report {path}", "was changed after it was signed", fix="Use the original") from error
    if document.get("format") != _FORMAT:
        raise PrivacyError(f"report {path}", "is of another format", expected=_FORMAT, found=str(document.get("format")))
    return document


def _private(key: Key) -> "Ed25519PrivateKey":
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(key.derive(_PURPOSE))


def _canonical(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str).encode()
