"""Which bytes are which letters: detection without a dictionary, and transcoding as a stream."""

import codecs
import re
from collections.abc import Sequence
from pathlib import Path

from lakehouse.ingest.readers.formats import refused

_BLOCK = 4 * 1024 * 1024
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Kana, CJK, Hangul and full-width signs: what the multi-byte encodings are for.
_EAST_ASIAN = re.compile("[\u3000-\u30ff\u4e00-\u9fff\uac00-\ud7a3\uff01-\uff60]")
_KANA = re.compile("[\u3040-\u30ff]")
_HANGUL = re.compile("[\uac00-\ud7a3]")
# Half-width katakana are not counted: Chinese bytes read as Japanese show as those.
_MULTI_BYTE = (
    ("shift_jis", _EAST_ASIAN),
    ("cp932", _EAST_ASIAN),
    ("euc_jp", _KANA),
    ("euc_kr", _HANGUL),
    ("big5", _EAST_ASIAN),
    ("gb18030", _EAST_ASIAN),
)
UTF8 = frozenset({"utf-8", "utf-8-sig", "ascii"})


def canonical(name: str) -> str:
    """Python's name of an encoding.

    Raises:
        LookupError: there is no such encoding.
    """
    return codecs.lookup(name).name


def detect_encoding(path: Path, start: bytes, declared: Sequence[str] = (), *, legacy: bool = True) -> str:
    """The first declared encoding that reads the sample, or what the bytes themselves say.

    Args:
        path: the file, for errors.
        start: its first bytes.
        declared: the contract's encodings.
        legacy: whether text that isn't UTF-8 may be in an old encoding; JSON may not.

    Raises:
        FileRefused: the contract names an encoding that doesn't exist.
    """
    for mark, name in _BOMS:
        if start.startswith(mark):
            return name
    for name in declared:
        try:
            if _decodes(start, canonical(name)):
                return canonical(name)
        except LookupError as error:
            raise refused(path, f"the contract names an unknown encoding {name!r}", fix="Correct lakehouse.encoding") from error
    if wide := _utf16_without_mark(start):
        return wide
    if _decodes(start, "utf-8"):
        return "utf-8"
    if declared:
        return canonical(declared[0])
    return _legacy(start) if legacy else "utf-8"


def _decodes(start: bytes, name: str) -> bool:
    decoder = codecs.getincrementaldecoder(name)("strict")
    try:
        decoder.decode(start, final=False)
    except UnicodeDecodeError:
        return False
    return True


def _utf16_without_mark(start: bytes) -> str | None:
    """UTF-16 shows as a zero in every other byte of Western text."""
    if len(start) < 8:
        return None
    even, odd = start[0::2].count(0), start[1::2].count(0)
    half = len(start) // 2
    if odd > 0.4 * half and even < 0.05 * half:
        return "utf-16-le"
    if even > 0.4 * half and odd < 0.05 * half:
        return "utf-16-be"
    return None


def _legacy(start: bytes) -> str:
    """The likeliest legacy encoding of bytes that are not UTF-8.

    A multi-byte encoding is believed when its decoding is mostly letters of its own script; then Western European.
    A few bad bytes in an otherwise valid UTF-8 text are damage, not another encoding.
    """
    lossy = start.decode("utf-8", "replace")
    wrong = lossy.count("\ufffd")
    right = sum(1 for letter in lossy if ord(letter) > 127) - wrong
    if right > 20 * wrong:
        return "utf-8"
    for name, script in _MULTI_BYTE:
        if not _decodes(start, name):
            continue
        text = codecs.getincrementaldecoder(name)("strict").decode(start)
        foreign = [letter for letter in text if ord(letter) > 127]
        own = len(_EAST_ASIAN.findall(text))
        if foreign and own / len(foreign) > 0.9 and script.search(text) and _pairs(text):
            return name
    return "cp1252" if _decodes(start, "cp1252") else "latin-1"


def _pairs(text: str) -> bool:
    """Whether East Asian letters stand beside each other, as in words; a lone one is an accented letter read wrongly."""
    return re.search("[\u3040-\u30ff\u4e00-\u9fff\uac00-\ud7a3]{2}", text) is not None


def transcode(path: Path, encoding: str, target: Path) -> int:
    """Write the file as UTF-8, streamed; what can't be decoded becomes U+FFFD. Returns the number of such places."""
    decoder = codecs.getincrementaldecoder(encoding)("replace")
    damaged = 0
    with path.open("rb") as source, target.open("w", encoding="utf-8", newline="", errors="replace") as out:
        while block := source.read(_BLOCK):
            text = decoder.decode(block)
            damaged += text.count("\ufffd")
            out.write(text)
        text = decoder.decode(b"", final=True)
        damaged += text.count("\ufffd")
        out.write(text)
    return damaged
