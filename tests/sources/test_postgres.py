"""Rows of a real PostgreSQL table become pages: each change once, every type as it was, every fault by name."""

from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from lakehouse.contracts import DatasetContract
from lakehouse.errors import ContractError
from lakehouse.ingest.sources import TableReport
from lakehouse.settings import Settings
from tests.servers.fixtures import PostgresDatabase
from tests.sources.orders import BY_TIME, GONE, GONE_COLUMN, TYPES, insert, rows, told

pytestmark = pytest.mark.servers


def test_a_watermark_brings_each_change_once(
    database: PostgresDatabase, contract_of: Callable[..., DatasetContract], look: Callable[..., TableReport]
) -> None:
    contract = contract_of(BY_TIME)
    assert look(contract).page is None
    database.run(insert(1, 2))
    assert rows(look(contract)) == [(1, "n"), (2, "n")]
    assert look(contract).page is None
    # A transaction that took its time: older than what was seen, within the overlap.
    database.run(insert(3, at="now() - interval '50 min'"), "UPDATE orders SET note = 'changed', updated_at = now() WHERE id = 1")
    report = look(contract)
    assert rows(report) == [(3, "n"), (1, "changed")]
    assert (report.rows_read, report.rows, report.gone) == (3, 2, 0)
    database.run(insert(4, at="now() - interval '2 hours'"), insert(5, at="NULL"))
    assert rows(look(contract)) == [(5, "n")]
    assert look(contract).page is None


def test_a_row_from_the_future_hides_nothing(
    database: PostgresDatabase, contract_of: Callable[..., DatasetContract], look: Callable[..., TableReport]
) -> None:
    contract = contract_of(BY_TIME)
    database.run(insert(1, at="'2999-01-01'"), insert(2, at="'infinity'"), insert(3, at="'-infinity'"))
    report = look(contract)
    assert sorted(rows(report, "id, updated_at")) == [(1, "2999-01-01 00:00:00+00"), (2, "infinity"), (3, "-infinity")]
    assert report.watermark is not None
    assert report.watermark < "2999"
    database.run(insert(4))
    assert rows(look(contract)) == [(4, "n")]
    assert look(contract).page is None


def test_a_number_is_a_watermark_too(
    database: PostgresDatabase, contract_of: Callable[..., DatasetContract], look: Callable[..., TableReport]
) -> None:
    contract = contract_of("{property: lakehouse.watermark, value: id}, {property: lakehouse.overlap, value: 10}")
    database.run(insert(*range(100, 200)))
    assert look(contract).rows == 100
    database.run(insert(195 + 10), insert(50), "DELETE FROM orders WHERE id = 195", insert(195, note="again"))
    report = look(contract)
    assert rows(report) == [(195, "again"), (205, "n")]
    assert report.rows_read < 20


def test_a_snapshot_brings_what_differs_and_says_what_is_gone(
    database: PostgresDatabase, contract_of: Callable[..., DatasetContract], look: Callable[..., TableReport]
) -> None:
    contract = contract_of(GONE, GONE_COLUMN)
    database.run(insert(1, 2, 3))
    assert rows(look(contract), "id, is_gone") == [(1, False), (2, False), (3, False)]
    assert look(contract).page is None
    database.run("DELETE FROM orders WHERE id = 2", "UPDATE orders SET note = NULL WHERE id = 3")
    report = look(contract)
    assert sorted(rows(report, "id, note, is_gone")) == [(2, None, True), (3, None, False)]
    assert (report.rows, report.gone) == (1, 1)
    assert look(contract).page is None
    # What comes back is new, and what changes back is not what was there before.
    database.run(insert(2), "UPDATE orders SET note = 'n' WHERE id = 3")
    again = look(contract)
    assert sorted(rows(again, "id, note, is_gone")) == [(2, "n", False), (3, "n", False)]
    assert again.page is not None
    database.run("UPDATE orders SET note = 'x' WHERE id = 3")
    look(contract)
    database.run("UPDATE orders SET note = 'n' WHERE id = 3")
    last = look(contract)
    assert last.page is not None
    assert rows(last) == [(3, "n")]


def test_a_page_that_repeats_an_earlier_one_is_another_content(
    database: PostgresDatabase, contract_of: Callable[..., DatasetContract], look: Callable[..., TableReport]
) -> None:
    contract = contract_of()
    pages = []
    for note in ("a", "b", "a"):
        database.run("DELETE FROM orders", insert(1, at="'2026-01-01'", note=note))
        pages.append(look(contract))
    assert rows(pages[0]) == rows(pages[2])
    assert pages[0].page.read_bytes() != pages[2].page.read_bytes()  # pyright: ignore[reportOptionalMemberAccess]


def test_rows_that_are_equal_are_counted(
    postgres_database: PostgresDatabase, contract_of: Callable[..., DatasetContract], look: Callable[..., TableReport], reader: Settings
) -> None:
    postgres_database.run("ALTER TABLE orders DROP CONSTRAINT orders_pkey", insert(1, 1, 1, at="'2026-01-01'"))
    contract = contract_of()
    assert len(rows(look(contract))) == 3
    postgres_database.run(insert(1, at="'2026-01-01'"))
    assert len(rows(look(contract))) == 1
    assert look(contract).page is None


def test_only_what_the_contract_knows_leaves_the_database(
    database: PostgresDatabase, contract_of: Callable[..., DatasetContract], look: Callable[..., TableReport]
) -> None:
    database.run(insert(1))
    report = look(contract_of())
    assert report.page is not None
    with duckdb.connect() as con:
        described = con.execute(f"DESCRIBE SELECT * FROM read_parquet('{report.page}')").fetchall()
    assert [(row[0], row[1]) for row in described] == [
        ("id", "BIGINT"),
        ("amount", "DECIMAL(12,2)"),
        ("note", "VARCHAR"),
        ("updated_at", "TIMESTAMP WITH TIME ZONE"),
    ]
    assert report.page.stat().st_mode & 0o077 == 0
    assert all(path.stat().st_mode & 0o077 == 0 for path in report.page.parent.glob(".orders*.tmp"))


HOSTILE = "line\nbreak, \"quote\"\r\n\\N \\. \t 'single' ; é 漢字 😀 \\"


def test_text_arrives_as_it_is(
    database: PostgresDatabase, contract_of: Callable[..., DatasetContract], look: Callable[..., TableReport]
) -> None:
    import psycopg

    texts = [HOSTILE, "", None, "NULL", "\\.", '"', '""', ",", "\n", "\r", "x" * 3_000_000, " padded "]
    with psycopg.connect(database.url, autocommit=True) as connection:
        for number, text in enumerate(texts):
            connection.execute("INSERT INTO orders (id, note) VALUES (%s, %s)", (number, text))
    assert [row[1] for row in sorted(rows(look(contract_of())))] == texts


def test_a_column_alone_loses_no_row(
    postgres_database: PostgresDatabase, contract_of: Callable[..., DatasetContract], look: Callable[..., TableReport], reader: Settings
) -> None:
    postgres_database.run("INSERT INTO orders (id) VALUES (1), (2)")
    alone = contract_of(columns=["{name: note, logicalType: string}"])
    assert rows(look(alone), "note") == [(None,), (None,)]


def test_every_type_is_kept(
    database: PostgresDatabase, contract_of: Callable[..., DatasetContract], look: Callable[..., TableReport]
) -> None:
    database.run("CREATE TYPE mood AS ENUM ('fine')", "CREATE DOMAIN whole AS integer", "CREATE DOMAIN positive AS whole CHECK (VALUE > 0)")
    columns = [f"c{number} {kind}" for number, kind in enumerate(TYPES)]
    database.run(f"CREATE TABLE wide ({', '.join(columns)})")
    database.run(f"INSERT INTO wide SELECT {', '.join(f'{value}' for value, _, _ in TYPES.values())}", "INSERT INTO wide DEFAULT VALUES")
    listed = [f"{{name: c{number}, logicalType: string}}" for number in range(len(TYPES))]
    report = look(contract_of("{property: lakehouse.table, value: wide}", columns=listed))
    names = [f"c{number}" for number in range(len(TYPES))]
    described = rows(report, ", ".join(f"typeof({name})" for name in names))[0]
    assert dict(zip(TYPES, described, strict=True)) == {kind: kept for kind, (_, kept, _) in TYPES.items()}
    values = sorted(rows(report, ", ".join(f"{name}::VARCHAR" for name in names)), key=lambda row: row[0] is None)
    assert dict(zip(TYPES, values[0], strict=True)) == {kind: text for kind, (_, _, text) in TYPES.items()}
    assert set(values[1]) == {None}


def test_what_is_wrong_is_told_by_name(
    database: PostgresDatabase, contract_of: Callable[..., DatasetContract], look: Callable[..., TableReport], reader: Settings
) -> None:
    from pydantic import SecretStr

    database.run("CREATE TABLE orders_old (id int)", "CREATE TABLE odd (id bigint, amount money, note tsvector, updated_at timestamptz)")
    database.run("CREATE USER nobody_much LOGIN PASSWORD 'p'") if not _user_exists(database) else None
    other = reader.model_copy(update={"postgres_user": "nobody_much", "postgres_password": SecretStr("p")})
    wrong = reader.model_copy(update={"postgres_password": SecretStr("wrong-secret")})
    missing = contract_of("{property: lakehouse.table, value: order}")
    assert "Is it orders or orders_old" in told(lambda: look(missing))
    assert "has no column colour" in told(lambda: look(contract_of("", "{name: colour, logicalType: string}")))
    strange = told(lambda: look(contract_of("{property: lakehouse.table, value: odd}")))
    assert "amount money, note tsvector" in strange
    assert "view" in strange
    refused = told(lambda: look(contract_of(), wrong))
    assert "refuses this user" in refused
    assert "wrong-secret" not in refused
    assert "may not be read by this user" in told(lambda: look(contract_of(), other))
    database.run("GRANT SELECT (id, amount, note) ON orders TO nobody_much")
    forbidden = told(lambda: look(contract_of(), other))
    assert "may not read: updated_at" in forbidden
    assert "can't be reached" in told(lambda: look(contract_of(port=1)))
    assert "does not know the database" in told(lambda: look(contract_of(database="nowhere")))
    assert "has no order" in told(lambda: look(contract_of("{property: lakehouse.watermark, value: note}")))


def _user_exists(database: PostgresDatabase) -> bool:
    import psycopg

    with psycopg.connect(database.url) as connection:
        return connection.execute("SELECT 1 FROM pg_roles WHERE rolname = 'nobody_much'").fetchone() is not None


def test_a_fault_while_reading_leaves_nothing_behind(
    database: PostgresDatabase,
    contract_of: Callable[..., DatasetContract],
    look: Callable[..., TableReport],
    reader: Settings,
    tmp_path: Path,
) -> None:
    database.run(
        "CREATE VIEW broken AS SELECT i::bigint AS id, 1.0 AS amount, 'x' AS note, now() + (1 / (5000 - i)) * interval '1 s' AS updated_at "
        "FROM generate_series(1, 6000) i"
    )
    assert "division by zero" in told(lambda: look(contract_of("{property: lakehouse.table, value: broken}")))
    assert [path.name for path in (tmp_path / "landing").iterdir() if not path.name.endswith(".lock")] == []
    assert not list(reader.spill_dir.rglob("table-*"))


def test_a_row_that_is_too_long_is_told(
    database: PostgresDatabase, contract_of: Callable[..., DatasetContract], look: Callable[..., TableReport]
) -> None:
    database.run("INSERT INTO orders (id, note) VALUES (1, 'short'), (2, repeat('x', 20000000))")
    assert "has rows that can't be read" in told(lambda: look(contract_of()))


def test_it_can_change_nothing(
    database: PostgresDatabase, contract_of: Callable[..., DatasetContract], look: Callable[..., TableReport]
) -> None:
    database.run(
        "CREATE FUNCTION sneaky() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN DELETE FROM orders; RETURN 1; END $$",
        "CREATE VIEW trap AS SELECT sneaky() AS id, 1.0 AS amount, 'x' AS note, now() AS updated_at",
    )
    assert "read-only transaction" in told(lambda: look(contract_of("{property: lakehouse.table, value: trap}")))


def test_a_table_that_is_locked_is_not_waited_for_for_ever(
    database: PostgresDatabase,
    contract_of: Callable[..., DatasetContract],
    look: Callable[..., TableReport],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import psycopg

    from lakehouse.ingest.sources import postgres_reading

    monkeypatch.setitem(postgres_reading._SESSION, "lock_timeout", "200ms")
    with psycopg.connect(database.url) as connection:
        connection.execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")
        assert "is locked by somebody else" in told(lambda: look(contract_of()))


def test_two_processes_do_not_read_one_table(
    database: PostgresDatabase, contract_of: Callable[..., DatasetContract], look: Callable[..., TableReport], tmp_path: Path
) -> None:
    from lakehouse.ingest.sources.pages import only_reader

    contract = contract_of()
    look(contract)
    (state,) = (tmp_path / "landing").glob(".*.postgres.json")
    with only_reader(state, "x"):
        assert "is being read by another process" in told(lambda: look(contract))


@pytest.mark.parametrize(
    ("properties", "more", "found"),
    [
        ("{property: lakehouse.watermark, value: nothing}", (), "watermark names no column"),
        ("{property: lakehouse.overlap, value: -1}", (), "overlap is no number"),
        ("{property: lakehouse.password, value: x}", (), "LAKEHOUSE_POSTGRES_PASSWORD"),
        ("{property: lakehouse.deletedAs, value: note}", (), "names no boolean"),
        (f"{GONE}, {BY_TIME}", (GONE_COLUMN,), "can't tell by a watermark"),
        (GONE, (GONE_COLUMN, "{name: x, logicalType: string, required: true}"), "required columns of the key alone"),
    ],
)
def test_a_contract_that_can_not_be_followed(
    contract_of: Callable[..., DatasetContract], properties: str, more: tuple[str, ...], found: str
) -> None:
    with pytest.raises(ContractError, match=r"servers\.shop") as caught:
        contract_of(properties, *more)
    assert found in str(caught.value)


def test_a_table_like_any_other_name(
    postgres_database: PostgresDatabase, contract_of: Callable[..., DatasetContract], look: Callable[..., TableReport], reader: Settings
) -> None:
    name = 'o"r; DROP TABLE orders; --'
    quoted = name.replace('"', '""')
    postgres_database.run(f'CREATE TABLE "{quoted}" AS SELECT 1::bigint AS "ID", 2.5 AS amount, \'n\' AS note, now() AS updated_at')
    assert rows(look(contract_of(f"{{property: lakehouse.table, value: '{name}'}}"))) == [(1, "n")]
