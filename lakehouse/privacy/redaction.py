"""Taking people out of free text: addresses, trailers, mentions and profile links become tokens."""

from collections.abc import Sequence

from lakehouse.sql import quote_literal

# The order matters: a trailer goes whole before the address in it is looked at.
_TRAILERS = r"(?im)^([ \t]*(?:[a-z]+-)*(?:by|cc|author)[ \t]*:)[^\r\n]*"
_ADDRESSES = r"<[^<>@\s]*@[^<>\s]*>|[^\s<>@,;:\"'`()\[\]{}]+(?:\[bot\])?@[\pL\pN_-]+(?:\.[\pL\pN_-]+)*\.\pL{2,}"
_MERGES = r"(?im)^(Merge [^\r\n]*?(?:\bfrom|\bof) (?:https?://[^/\s]+/|[\w.@-]+:)?)[\w-]+(/)"
_PROFILES = r"(?i)(\bgithub\.com/(?:users/)?)[a-z0-9-]+(/?(?:[^/\w-]|$))"
_MENTIONS = r"(?i)(^|[^a-z0-9_])@[a-z0-9][a-z0-9@-]*(?:\[bot\])?"

_STEPS = (
    (_TRAILERS, r"\1 [person]"),
    (_MERGES, r"\1[login]\2"),
    (_ADDRESSES, "[email]"),
    (_PROFILES, r"\1[login]\2"),
    (_MENTIONS, r"\1@[login]"),
)
_SHORTEST_NAME = 3


def redact_sql(text_sql: str, also: Sequence[str] = ()) -> str:
    """An expression for the text without e-mail addresses, `...-by:` trailers, @mentions and profile links; NULL stays NULL.

    What is taken out leaves `[person]`, `[email]` or `[login]`, the same everywhere, so that models still see that
    somebody was named. Redacting twice changes nothing. A name in running text can't be recognised as one: give the
    row's own names as `also`.

    Args:
        text_sql: an SQL expression of type VARCHAR.
        also: SQL expressions whose values are taken out wherever they occur, if longer than two characters.
    """
    sql = text_sql
    for value in also:
        sql = f"CASE WHEN length({value}) >= {_SHORTEST_NAME} THEN replace({sql}, {value}, '[person]') ELSE {sql} END"
    for pattern, token in _STEPS:
        sql = f"regexp_replace({sql}, {quote_literal(pattern)}, {quote_literal(token)}, 'g')"
    return sql
