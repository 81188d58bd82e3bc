"""Who is to be erased, and by which values they are known: in columns, in texts, in bytes."""

import hashlib
import hmac
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from lakehouse.errors import PrivacyError
from lakehouse.privacy.keys import Key
from lakehouse.sql import quote_identifier, quote_literal

ERASED = "[erased]"
"""What stands in a text where the person was named."""
_INSTEAD = rf"\1{ERASED}\2"
ERASED_PURPOSE = "erased subjects"
_SHORTEST_WORD = 6
_SHORTEST_NUMBER = 9


@dataclass(frozen=True, slots=True)
class Subject:
    """One person (or household, customer, ...) as a dataset's column names them."""

    dataset: str
    column: str
    value: str = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> "Subject":
        """The subject written as `dataset:column=value`.

        Raises:
            PrivacyError: it is written otherwise.
        """
        dataset, colon, rest = text.partition(":")
        column, equals, value = rest.partition("=")
        if not (colon and equals and dataset and column and value.strip()):
            # What was given may be a name: it is not repeated.
            raise PrivacyError("subject", "can't be understood", expected="dataset:column=value, such as customers:customer_id=C-1042")
        if "\0" in value:
            raise PrivacyError("subject", "holds a NUL character", expected="text", fix="Leave it out")
        return cls(dataset.strip(), column.strip(), value.strip())

    def fingerprint(self, key: Key) -> str:
        """A name of this subject that tells nothing without the key."""
        return keyed_hash(f"{self.dataset}:{self.column}={self.value}", key)


def keyed_hash(text: str, key: Key) -> str:
    """32 hexadecimal digits of an HMAC that only holders of the key can make."""
    return hmac.new(key.derive(ERASED_PURPOSE), text.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:32]


def is_distinctive(value: str) -> bool:
    """Whether a value can be looked for anywhere: 42 or "yes" is in every table and means something else in each."""
    return len(value) >= (_SHORTEST_NUMBER if value.isdecimal() else _SHORTEST_WORD)


@dataclass(frozen=True)
class Identifiers:
    """Every value by which one subject is known.

    Attributes:
        columns: values by column (and by name in the files); a row of a table that shares the column with the subject's
            dataset is theirs if it has one of them.
        words: values that nothing else has: a cell that is one makes the row theirs, a text that has one is masked.
        main: the column that says whose a row is; where a table has it, no other cell makes a row theirs.
        rows: origins (digest of the file, number) of their rows in the subject's dataset, quarantined ones included.
    """

    columns: Mapping[str, frozenset[str]] = field(repr=False)
    words: tuple[str, ...] = field(repr=False)
    main: str = ""
    rows: frozenset[tuple[str, int]] = field(default=frozenset(), repr=False)

    @classmethod
    def of(
        cls, columns: Mapping[str, Iterable[str]], words: Iterable[str], *, main: str = "", rows: Iterable[tuple[str, int]] = ()
    ) -> "Identifiers":
        """Identifiers with only those words that are distinctive, the longest first."""
        by_column = {name: frozenset(values) for name, values in columns.items() if values}
        distinct = sorted({word for word in words if is_distinctive(word)}, key=lambda word: (-len(word), word))
        return cls(by_column, tuple(distinct), main, frozenset(rows))

    def everywhere(self) -> "Identifiers":
        """The same with every value of the columns as a word, for what is no table of somebody else's rows."""
        words = [*self.words, *(one for values in self.columns.values() for one in values)]
        return Identifiers.of(self.columns, words, main=self.main, rows=self.rows)

    @cached_property
    def pattern(self) -> str:
        """RE2 and Python: a word, with what stands before and after it as groups. Matches nothing where there are no words."""
        if not self.words:
            return r"([^\s\S])[^\s\S]([^\s\S])"
        return rf"(^|[^A-Za-z0-9])(?:{'|'.join(map(_escaped, self.words))})($|[^A-Za-z0-9])"

    @cached_property
    def forms(self) -> tuple[bytes, ...]:
        """The words in any of the encodings that files come in."""
        forms: set[bytes] = set()
        for word in self.words:
            for encoding in ("utf-8", "cp1252", "utf-16-le", "utf-16-be"):
                try:
                    forms.add(word.encode(encoding))
                except UnicodeEncodeError:
                    continue
            forms.add(json.dumps(word)[1:-1].encode())
        return tuple(sorted(forms, key=lambda form: (-len(form), form)))

    @cached_property
    def in_bytes(self) -> re.Pattern[bytes]:
        """A word that stands alone; the letters around it are not part of the match."""
        choice = b"|".join(re.escape(form) for form in self.forms) or rb"(?!)"
        return re.compile(rb"(?<![A-Za-z0-9])(?:" + choice + rb")(?![A-Za-z0-9])")

    def mentioned_in(self, text: str) -> bool:
        """Whether the text has one of the words."""
        return re.search(self.pattern, text) is not None

    def masked(self, text: str) -> str:
        """The text without the words."""
        for _ in range(2):  # Neighbours share the character between them.
            text = re.sub(self.pattern, _INSTEAD, text)
        return text

    def masked_bytes(self, data: bytes) -> bytes:
        """The bytes with every word overwritten, so that nothing moves."""
        return self.in_bytes.sub(lambda found: _blank(found[0]), data)

    # ---- SQL

    def is_word_sql(self, value_sql: str) -> str:
        """Whether a text is one of the words."""
        return f"{value_sql} IN ({', '.join(map(quote_literal, self.words))})" if self.words else "false"

    def mentions_sql(self, text_sql: str) -> str:
        """Whether a text has one of the words."""
        if not self.words:
            return "false"
        # The plain search of one word is several times as fast as the expression, and mostly says no.
        first = f"contains({text_sql}, {quote_literal(self.words[0])}) AND " if len(self.words) == 1 else ""
        return f"({first}regexp_matches({text_sql}, {quote_literal(self.pattern)}))"

    def masked_sql(self, text_sql: str) -> str:
        """The text without the words."""
        pattern, instead = quote_literal(self.pattern), quote_literal(_INSTEAD)
        once = f"regexp_replace({text_sql}, {pattern}, {instead}, 'g')"
        return f"regexp_replace({once}, {pattern}, {instead}, 'g')"

    def in_columns_sql(self, names: Iterable[str]) -> list[str]:
        """Conditions on those of the columns that name subjects."""
        by_key = {name.casefold(): values for name, values in self.columns.items()}
        return [
            f"CAST({quote_identifier(name)} AS VARCHAR) IN ({', '.join(map(quote_literal, sorted(by_key[name.casefold()])))})"
            for name in names
            if name.casefold() in by_key
        ]


def _escaped(word: str) -> str:
    """The word as a literal in RE2 as well as in Python: only what both take for an operator gets a backslash."""
    return re.sub(r"([\\.^$|?*+()\[\]{}])", r"\\\1", word)


def _blank(word: bytes) -> bytes:
    """As many bytes, with UTF-16's zero bytes where they were."""
    return bytes(byte if byte == 0 else ord("x") for byte in word)
