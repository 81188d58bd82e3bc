"""Protecting columns in SQL: rows never pass through Python, and the key is in no query.

A DuckDB session that protects is given what is derived from the key once, by `install`, as session variables whose names carry the
key's id; these SET statements are the only SQL text that holds secret bytes, so don't turn on DuckDB's own logging before them.
Expressions refer to the variables, so compiled SQL, logs, views and commit metadata hold the id alone. A session without
the key fails loudly instead of writing NULL. Don't run EXPLAIN in such a session: DuckDB prints variables as constants.
"""

import hashlib
import hmac

import duckdb

from lakehouse.errors import PrivacyError
from lakehouse.privacy.keys import PRODUCTION, Key
from lakehouse.privacy.redaction import redact_sql
from lakehouse.privacy.sealing import seal
from lakehouse.privacy.subject_keys import SubjectKeys
from lakehouse.sql import quote_identifier, quote_literal

PROTECTIONS = ("none", "pseudonym", "redact", "encrypt", "mask", "drop")
MASK = "***"
_BLOCK_BYTES = 64
_DIGITS = 32
_PURPOSE = "pseudonym"


def install(con: duckdb.DuckDBPyConnection, key: Key, *, sealing: bool = True) -> None:
    """Give this connection what `protect_sql` refers to; it lasts as long as the connection and is written nowhere.

    A cursor of the connection is a session of its own: install into the one that runs the SQL.

    Args:
        con: the session that will protect.
        key: the home's key.
        sealing: also make what the kind "encrypt" needs, a function in Python; the other kinds are SQL alone.
    """
    install_digest(con, key, _PURPOSE)
    name = _seal_function(key)
    known = f"SELECT 1 FROM duckdb_functions() WHERE function_name = {quote_literal(name)}"
    if sealing and not con.execute(known).fetchall():
        con.create_function(name, lambda text: seal(text, key), ["VARCHAR"], "VARCHAR")  # pyright: ignore[reportArgumentType]


def install_digest(con: duckdb.DuckDBPyConnection, key: Key, purpose: str) -> None:
    """Give this connection what `digest_sql` refers to for one purpose."""
    for side, pad in zip(("inner", "outer"), _padded(key.derive(purpose)), strict=True):
        # Not as a bound value: binding any value makes DuckDB import pandas, a second of every process that ingests.
        con.execute(f"SET VARIABLE {quote_identifier(_variable(key, purpose, side))} = unhex({quote_literal(pad.hex())})")


def digest_sql(text_sql: str, key: Key, purpose: str) -> str:
    """An expression for 32 hexadecimal digits of the text's HMAC-SHA256 (RFC 2104: H(outer || H(inner || text))); NULL stays NULL."""
    inside = f"unhex(sha256({_pad_sql(key, purpose, 'inner')} || encode({text_sql})))"
    return f"left(sha256({_pad_sql(key, purpose, 'outer')} || {inside}), {_DIGITS})"


def install_subject_seal(con: duckdb.DuckDBPyConnection, key: Key) -> None:
    """Make what "encrypt" needs where a row says whose it is: values of a vector are sealed together, each under its subject's key."""
    name = _subject_seal_function(key)
    if con.execute(f"SELECT 1 FROM duckdb_functions() WHERE function_name = {quote_literal(name)}").fetchall():
        return
    keys = SubjectKeys(key)
    con.create_function(  # pyright: ignore[reportCallIssue] - the stubs know no names of types.
        name,
        keys.seal_column,
        ["VARCHAR", "VARCHAR"],  # pyright: ignore[reportArgumentType]
        "VARCHAR",  # pyright: ignore[reportArgumentType]
        type="arrow",  # pyright: ignore[reportArgumentType]
        null_handling="special",  # pyright: ignore[reportArgumentType]
    )


def protect_sql(column_sql: str, kind: str, key: Key, *, subject_sql: str | None = None, sql_type: str = "VARCHAR") -> str:
    """An expression for the protected value of `column_sql`; NULL stays NULL.

    Args:
        column_sql: an SQL expression, already quoted; cast to text.
        kind: "pseudonym" gives `pn_` and 32 hexadecimal digits of HMAC-SHA256, the same for the same text under the same
            key; "redact" takes people out of free text; "encrypt" gives sealed text that `unseal` reads; "mask" gives
            the expression itself in production and `***` elsewhere (NULL for what is no text); "drop" gives NULL; "none" gives
            the expression itself.
        key: names the variables; the session must have been given it by `install`.
        subject_sql: whose the value is: it is encrypted under their own key, which `install_subject_seal` makes available.
        sql_type: of a value that may be masked.

    Raises:
        PrivacyError: there is no such kind.
    """
    text = f"CAST({column_sql} AS VARCHAR)"
    match kind:
        case "none":
            return column_sql
        case "pseudonym":
            return _pseudonym_sql(text, key)
        case "redact":
            return redact_sql(text)
        case "encrypt":
            return _sealed_sql(text, key, subject_sql)
        case "mask":
            return _masked_sql(column_sql, key, sql_type)
        case "drop":
            return "CAST(NULL AS VARCHAR)"
        case _:
            raise PrivacyError(f"protection {kind!r}", "is not known", expected=", ".join(PROTECTIONS), fix="Correct the contract")


def _sealed_sql(text: str, key: Key, subject_sql: str | None) -> str:
    own = f"{_seal_function(key)}({text})"
    if subject_sql is None:
        return own
    # What is nobody's is sealed under the home's key.
    return f"CASE WHEN {subject_sql} IS NULL THEN {own} ELSE {_subject_seal_function(key)}({text}, {subject_sql}) END"


def _masked_sql(column_sql: str, key: Key, sql_type: str) -> str:
    if key.environment == PRODUCTION:
        return column_sql
    return f"CASE WHEN {column_sql} IS NOT NULL THEN {quote_literal(MASK)} END" if sql_type == "VARCHAR" else f"CAST(NULL AS {sql_type})"


def pseudonym(value: str, key: Key) -> str:
    """What `protect_sql(..., "pseudonym", key)` makes of the text, for looking a known person up."""
    digest = hmac.new(key.derive(_PURPOSE), value.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()
    return f"pn_{digest[:_DIGITS]}"


def _pseudonym_sql(text: str, key: Key) -> str:
    return f"'pn_' || {digest_sql(text, key, _PURPOSE)}"


def _pad_sql(key: Key, purpose: str, side: str) -> str:
    missing = f"This session was not given key {key.id}: call lakehouse.privacy.install first"
    return f"coalesce(CAST(getvariable({quote_literal(_variable(key, purpose, side))}) AS BLOB), error({quote_literal(missing)}))"


def _padded(secret: bytes) -> tuple[bytes, bytes]:
    block = secret.ljust(_BLOCK_BYTES, b"\0")
    return bytes(byte ^ 0x36 for byte in block), bytes(byte ^ 0x5C for byte in block)


def _variable(key: Key, purpose: str, side: str) -> str:
    return f"lakehouse_{key.id}_{purpose.replace(' ', '_')}_{side}"


def _subject_seal_function(key: Key) -> str:
    return f"lakehouse_seal_for_subject_{key.id}"


def _seal_function(key: Key) -> str:
    return f"lakehouse_seal_{key.id}"
