"""Pseudonyms, sealed text and redaction in SQL."""

import hashlib
import hmac
from collections.abc import Iterator

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakehouse.errors import PrivacyError
from lakehouse.privacy import Key, install, protect_sql, pseudonym, redact_sql, seal, unseal

KEY = Key.from_secret(bytes(range(32)))
OTHER = Key.from_secret(bytes(range(1, 33)))
# DuckDB's text is UTF-8: no lone surrogates.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        install(connection, KEY)
        yield connection


def protect(con: duckdb.DuckDBPyConnection, value: str | None, kind: str) -> str | None:
    return con.execute(f"SELECT {protect_sql('v', kind, KEY)} FROM (SELECT ?::VARCHAR AS v)", [value]).fetchall()[0][0]


@given(text=texts)
def test_pseudonym_is_the_hmac_of_the_text(con: duckdb.DuckDBPyConnection, text: str) -> None:
    expected = hmac.new(KEY.derive("pseudonym"), text.encode(), hashlib.sha256).hexdigest()[:32]
    assert protect(con, text, "pseudonym") == f"pn_{expected}" == pseudonym(text, KEY)


@pytest.mark.parametrize("kind", ["pseudonym", "redact", "encrypt", "drop", "none"])
def test_null_stays_null(con: duckdb.DuckDBPyConnection, kind: str) -> None:
    assert protect(con, None, kind) is None


def test_many_rows_at_once(con: duckdb.DuckDBPyConnection) -> None:
    sql = f"SELECT v, {protect_sql('v', 'pseudonym', KEY)} FROM (SELECT 'person ' || i AS v FROM range(5000) t(i))"
    rows = con.execute(sql).fetchall()
    assert all(found == pseudonym(text, KEY) for text, found in rows)
    assert len({found for _, found in rows}) == 5000


def test_numbers_are_protected_as_their_text(con: duckdb.DuckDBPyConnection) -> None:
    assert con.execute(f"SELECT {protect_sql('42', 'pseudonym', KEY)}").fetchall() == [(pseudonym("42", KEY),)]


def test_sql_text_does_not_hold_the_key(con: duckdb.DuckDBPyConnection) -> None:
    sql = protect_sql("v", "pseudonym", KEY) + protect_sql("v", "encrypt", KEY)
    con.execute(f"CREATE OR REPLACE VIEW shown AS SELECT {protect_sql('v', 'pseudonym', KEY)} AS p FROM (SELECT 'x' AS v)")
    stored = con.execute("SELECT sql FROM duckdb_views() WHERE view_name = 'shown'").fetchall()[0][0]
    for text in (sql, stored):
        for secret in (KEY.secret, KEY.derive("pseudonym")):
            assert secret.hex() not in text.lower()
            assert repr(secret)[2:-1] not in text
        assert KEY.id in text


def test_session_without_the_key_fails_instead_of_writing_null() -> None:
    with duckdb.connect() as con:
        install(con, OTHER)
        with pytest.raises(duckdb.InvalidInputException, match="was not given key"):
            con.execute(f"SELECT {protect_sql('v', 'pseudonym', KEY)} FROM (SELECT 'x' AS v)").fetchall()


def test_unknown_kind_is_an_error() -> None:
    with pytest.raises(PrivacyError, match="pseudonym, redact"):
        protect_sql("v", "rot13", KEY)


@given(text=texts)
def test_sealed_text_comes_back(con: duckdb.DuckDBPyConnection, text: str) -> None:
    sealed = protect(con, text, "encrypt")
    assert sealed is not None
    assert unseal(sealed, KEY) == text
    assert sealed == seal(text, KEY), "a batch that is written again must be equal"


@pytest.mark.parametrize("sealed", ["", "clear", "sealed1:", f"sealed1:{KEY.id}:", f"sealed1:{KEY.id}:####", seal("a", OTHER)])
def test_what_was_not_sealed_with_this_key_is_refused(sealed: str) -> None:
    with pytest.raises(PrivacyError):
        unseal(sealed, KEY)


def test_changed_sealed_text_is_refused() -> None:
    sealed = seal("Amina Juma", KEY)
    for place in range(len(sealed) - 4, len(sealed) - 8, -1):
        changed = sealed[:place] + ("A" if sealed[place] != "A" else "B") + sealed[place + 1 :]
        with pytest.raises(PrivacyError):
            unseal(changed, KEY)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("fix: plain", "fix: plain"),
        ("x\n\nCo-authored-by: Ada Quill <ada@example.org>", "x\n\nCo-authored-by: [person]"),
        ("x\r\n\r\nSIGNED-OFF-BY: Ada <a@b.org>\r\nmore", "x\r\n\r\nSIGNED-OFF-BY: [person]\r\nmore"),
        ("x\n\n  Reviewed-by:Ada Quill", "x\n\n  Reviewed-by: [person]"),
        ("Signed-off-by: bot[bot] <1+bot[bot]@users.noreply.github.com>", "Signed-off-by: [person]"),
        ("Cc: Ada <a@b.org>", "Cc: [person]"),
        ("write to ada.quill+x@mail.example.org.", "write to [email]."),
        ("Ada <ada@localhost> said", "Ada [email] said"),
        ("mail josé@exämple.org, please", "mail [email], please"),
        ("thanks @ada-q, (@b) and @c[bot]!", "thanks @[login], (@[login]) and @[login]!"),
        ("by @a @b @c", "by @[login] @[login] @[login]"),
        ("Merge pull request #7 from ada-q/topic", "Merge pull request #7 from [login]/topic"),
        ("Merge branch 'main' of https://github.com/ada-q/repo", "Merge branch 'main' of https://github.com/[login]/repo"),
        ("Merge branch 'main' of git@github.com:ada-q/repo", "Merge branch 'main' of [email]:[login]/repo"),
        ("see https://github.com/ada-q and more", "see https://github.com/[login] and more"),
        ("see https://github.com/owner/repo/pull/3", "see https://github.com/owner/repo/pull/3"),
        ("bump actions/checkout@v4 to v5", "bump actions/checkout@v4 to v5"),
        ("pin pkg@1.2.3", "pin pkg@1.2.3"),
    ],
)
def test_people_are_taken_out_of_text(con: duckdb.DuckDBPyConnection, text: str, expected: str) -> None:
    assert protect(con, text, "redact") == expected


_PIECES = [
    "@",
    "a",
    "bob",
    " ",
    "\n",
    "Merge x from ",
    "of ",
    "/",
    "<",
    ">",
    "b@c.de",
    "Signed-off-by:",
    "cc:",
    "[",
    "]",
    "github.com/",
    "[bot]",
    "é",
]


@given(text=st.lists(st.sampled_from(_PIECES), max_size=9).map("".join))
def test_redacting_twice_changes_nothing(con: duckdb.DuckDBPyConnection, text: str) -> None:
    once = protect(con, text, "redact")
    assert protect(con, once, "redact") == once


@given(before=texts, local=st.from_regex(r"[a-z][a-z0-9.]{0,10}[a-z0-9]", fullmatch=True), after=texts)
def test_no_address_survives(con: duckdb.DuckDBPyConnection, before: str, local: str, after: str) -> None:
    found = protect(con, f"{before} {local}@mail.example.org {after}", "redact")
    assert found is not None
    assert f"{local}@mail.example.org" not in found


def test_the_rows_own_names_are_taken_out(con: duckdb.DuckDBPyConnection) -> None:
    sql = redact_sql("m", also=["n", "l"])
    found = con.execute(f"SELECT {sql} FROM (SELECT 'Ada Quill wrote it' AS m, 'Ada Quill' AS n, NULL::VARCHAR AS l)").fetchall()
    assert found == [("[person] wrote it",)]
