"""Sealed text: values that must be kept but not read, such as lines that could not be split into columns.

AES-SIV (RFC 5297): the same text sealed twice is the same, so that a batch which is written again after a crash is equal,
and no nonce can be used twice by mistake. The price is that equal values can be seen to be equal.
"""

import base64
import binascii
from functools import lru_cache
from typing import TYPE_CHECKING

from lakehouse.errors import PrivacyError
from lakehouse.privacy.keys import Key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

_PREFIX = "sealed1"
_MARK = b"t"  # The cipher takes no empty input.


def seal(text: str, key: Key) -> str:
    """The text as `sealed1:<key id>:<base64>`."""
    key = key.newest
    sealed = _cipher(key).encrypt(_MARK + text.encode("utf-8", "surrogatepass"), [_header(key)])
    return f"{_PREFIX}:{key.id}:{base64.b64encode(sealed).decode()}"


def unseal(sealed: str, key: Key) -> str:
    """The text that was sealed.

    Raises:
        PrivacyError: it is not sealed text, was changed, or was sealed with another key.
    """
    from cryptography.exceptions import InvalidTag

    prefix, _, rest = sealed.partition(":")
    key_id, _, body = rest.partition(":")
    if prefix != _PREFIX:
        raise PrivacyError("sealed text", "is not sealed", expected=f"{_PREFIX}:<key>:<base64>")
    sealer = key.named(key_id)
    if sealer is None:
        raise PrivacyError("sealed text", "was sealed with another key", expected=key.id, found=key_id)
    try:
        text = _cipher(sealer).decrypt(base64.b64decode(body, validate=True), [_header(sealer)])
    except (InvalidTag, binascii.Error, ValueError) as error:
        raise PrivacyError("sealed text", "was changed after it was sealed", fix="Read it from the archived original instead") from error
    return text.removeprefix(_MARK).decode("utf-8", "surrogatepass")


@lru_cache(maxsize=4)
def _cipher(key: Key) -> "AESSIV":
    """Made once: it costs more than sealing a line."""
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

    return AESSIV(key.derive("seal mac") + key.derive("seal stream"))


def _header(key: Key) -> bytes:
    return f"{_PREFIX}:{key.id}".encode()
