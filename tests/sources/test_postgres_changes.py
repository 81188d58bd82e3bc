"""A real PostgreSQL table read by a replication slot: nothing between table and slot is lost or told twice, and every fault has its SQL."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest
from pydantic import SecretStr

from lakehouse.contracts import DatasetContract
from lakehouse.errors import ContractError
from lakehouse.ingest.sources import TableReport, postgres_changes, postgres_prepared
from lakehouse.ingest.sources.postgres_changes import ChangesLook
from lakehouse.settings import Settings
from tests.servers.fixtures import PostgresDatabase
from tests.sources.orders import GONE, GONE_COLUMN, TYPES, insert, told

pytestmark = pytest.mark.servers

FULL = "ALTER TABLE orders REPLICA IDENTITY FULL"
PUBLICATION = 'CREATE PUBLICATION "Orders" FOR TABLE orders'
Contracts = Callable[..., DatasetContract]
Look = Callable[..., TableReport]


@pytest.fixture
def slot(postgres_database: PostgresDatabase) -> str:
    """A name of its own: slots are the whole server's."""
    return f"s_{postgres_database.name}"


@pytest.fixture
def by_slot(slot: str) -> str:
    """Properties of a server that is read by it."""
    return f"{{property: lakehouse.slot, value: {slot}}}, {{property: lakehouse.publication, value: Orders}}"


@pytest.fixture
def making(slot: str) -> str:
    """What makes the slot."""
    return f"SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')"


@pytest.fixture
def ready(database: PostgresDatabase, making: str) -> PostgresDatabase:
    """All that an administrator prepares."""
    database.run(FULL, PUBLICATION, making)
    return database


def read(reports: "TableReport | list[TableReport]", columns: str = "id, note", order: str = "") -> list[tuple[Any, ...]]:
    """The rows of all pages, in their order."""
    found: list[tuple[Any, ...]] = []
    for report in reports if isinstance(reports, list) else [reports]:
        for page in report.pages:
            with duckdb.connect() as con:
                con.execute("SET TimeZone = 'UTC'")
                found += con.execute(f"SELECT {columns} FROM read_parquet('{page}') {order}").fetchall()
    return found


def test_first_the_table_then_every_change(ready: PostgresDatabase, contract_of: Contracts, look: Look, by_slot: str) -> None:
    contract = contract_of(f"{by_slot}, {GONE}", GONE_COLUMN)
    ready.run(insert(1, 2, 3), "UPDATE orders SET note = 'before' WHERE id = 2")
    first = look(contract)
    assert read(first, "id, note, is_gone", "ORDER BY 1") == [(1, "n", False), (2, "before", False), (3, "n", False)]
    assert look(contract).pages == ()
    ready.run(
        insert(4),
        "UPDATE orders SET note = 'a' WHERE id = 4",
        "UPDATE orders SET note = NULL, amount = 7 WHERE id = 1",
        "DELETE FROM orders WHERE id = 2",
        "UPDATE orders SET id = 30 WHERE id = 3",
    )
    report = look(contract)
    assert read(report, "id, note, amount::VARCHAR, is_gone") == [
        (4, "a", "1.50", False),
        (1, None, "7.00", False),
        (2, None, None, True),
        (3, None, None, True),
        (30, "n", "1.50", False),
    ]
    assert (report.rows, report.gone) == (3, 2)
    assert look(contract).pages == ()
    ready.run("DELETE FROM orders WHERE id = 30", insert(30), insert(5), "DELETE FROM orders WHERE id = 5")
    assert read(look(contract), "id, is_gone") == [(30, False), (5, True)]


def test_deletes_are_counted_where_the_contract_has_no_column_for_them(
    ready: PostgresDatabase, contract_of: Contracts, look: Look, by_slot: str
) -> None:
    contract = contract_of(by_slot)
    ready.run(insert(1, 2, 3))
    look(contract)
    ready.run("DELETE FROM orders WHERE id < 3")
    report = look(contract)
    assert (report.pages, report.rows, report.gone) == ((), 0, 2)
    ready.run(insert(1), "TRUNCATE orders", insert(9))
    again = look(contract)
    assert read(again) == [(1, "n"), (9, "n")]
    assert again.replicated is not None
    assert again.replicated.truncates == 1


def test_a_truncate_says_which_rows_are_gone(ready: PostgresDatabase, contract_of: Contracts, look: Look, by_slot: str) -> None:
    contract = contract_of(f"{by_slot}, {GONE}", GONE_COLUMN)
    ready.run(insert(1, 2, 3))
    look(contract)
    ready.run(
        insert(4), "DELETE FROM orders WHERE id = 1", "TRUNCATE orders", insert(3), "BEGIN; TRUNCATE orders; " + insert(2, 5) + "; COMMIT"
    )
    report = look(contract)
    assert read(report, "id, is_gone", "ORDER BY 1") == [(1, True), (2, False), (3, True), (4, True), (5, False)]
    ready.run("TRUNCATE orders")
    assert read(look(contract), "id, is_gone", "ORDER BY 1") == [(2, True), (5, True)]
    assert look(contract).pages == ()


POSITION = "{property: lakehouse.positionAs, value: position}"
BY_VERSION = (
    "{name: id, logicalType: integer, physicalType: BIGINT, required: true, primaryKey: true, primaryKeyPosition: 1}",
    "{name: note, logicalType: string, physicalType: VARCHAR}",
    "{name: position, logicalType: integer, physicalType: BIGINT, required: true, primaryKey: true, primaryKeyPosition: 2}",
)


def test_with_the_position_in_the_key_each_transactions_version_arrives(
    ready: PostgresDatabase, contract_of: Contracts, look: Look, by_slot: str
) -> None:
    contract = contract_of(f"{by_slot}, {POSITION}, {GONE}", GONE_COLUMN, columns=BY_VERSION)
    ready.run(insert(1, 2))
    reports = [look(contract)]
    ready.run(
        "UPDATE orders SET note = 'a' WHERE id = 1",
        "BEGIN; UPDATE orders SET note = 'nobody saw it' WHERE id = 1; UPDATE orders SET note = 'b' WHERE id = 1; COMMIT",
        "DELETE FROM orders WHERE id = 1",
        insert(1, note="c"),
    )
    reports.append(look(contract))
    assert read(reports, "id, note, is_gone")[2:] == [(1, "a", False), (1, "b", False), (1, None, True), (1, "c", False)]
    positions = [row[0] for row in read(reports, "position")]
    assert positions == sorted(positions)
    assert len(set(positions)) == 5


def test_nothing_is_lost_or_doubled_between_the_table_and_the_slot(
    ready: PostgresDatabase,
    contract_of: Contracts,
    look: Look,
    by_slot: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Transactions that end before, while and after the table is read, begun before or after it."""
    import psycopg

    contract = contract_of(f"{by_slot}, {POSITION}", columns=BY_VERSION)
    ready.run(insert(1))
    open_before = psycopg.connect(ready.url)
    open_before.execute(insert(2).encode())
    # It began later and ended sooner.
    ready.run(insert(5))
    real = ChangesLook._whole_table

    def read_slowly(self: ChangesLook, *arguments: Any) -> Any:
        from lakehouse.ingest.sources import postgres_reading

        copy = postgres_reading.Reading.copy

        def later(*given: Any, **more: Any) -> int:
            # The snapshot is taken; this is behind it.
            ready.run(insert(3))
            open_before.execute(insert(4).encode())
            open_before.commit()
            return copy(*given, **more)

        monkeypatch.setattr(postgres_reading.Reading, "copy", later)
        return real(self, *arguments)

    monkeypatch.setattr(ChangesLook, "_whole_table", read_slowly)
    try:
        first = look(contract)
    finally:
        open_before.close()
    assert [len(read(TableReport("", (page,), 0, 0, 0))) for page in first.pages] == [2, 3]
    assert sorted(row[0] for row in read(first, "id")) == [1, 2, 3, 4, 5]


def test_a_transaction_from_before_the_table_was_published_is_waited_for(
    database: PostgresDatabase, contract_of: Contracts, look: Look, by_slot: str, making: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it wrote before is not told, and the first look must not be before its end."""
    import psycopg

    from lakehouse.ingest.sources import postgres_slot

    contract = contract_of(by_slot)
    database.run(FULL, "CREATE TABLE other (id bigint PRIMARY KEY)", 'CREATE PUBLICATION "Orders" FOR TABLE other', making)
    with psycopg.connect(database.url) as connection:
        connection.execute(insert(1).encode())
        database.run('ALTER PUBLICATION "Orders" ADD TABLE orders')
        monkeypatch.setattr(postgres_slot, "_OPEN_S", 0.0)
        assert "transactions are open that may have begun before" in told(lambda: look(contract))
    database.run(insert(2))
    assert sorted(row[0] for row in read(look(contract), "id")) == [1, 2]


def test_a_database_that_is_not_in_unicode(reader: Settings, postgres_server: dict[str, str], contract_of: Contracts, look: Look) -> None:
    import uuid

    name = f"latin_{uuid.uuid4().hex[:8]}"
    system = PostgresDatabase(**{**postgres_server, "port": int(postgres_server["port"])}, name="postgres")  # pyright: ignore[reportArgumentType]
    system.run(f"CREATE DATABASE {name} ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    database = PostgresDatabase(system.host, system.port, system.user, system.password, name)
    try:
        database.run("CREATE TABLE orders (id bigint PRIMARY KEY, note text)", FULL, 'CREATE PUBLICATION "Orders" FOR TABLE orders')
        database.run(f"SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')")
        properties = f"{{property: lakehouse.slot, value: {name}}}, {{property: lakehouse.publication, value: Orders}}"
        contract = contract_of(properties, columns=BY_VERSION[:2], database=name)
        look(contract)
        database.run(r"INSERT INTO orders VALUES (1, U&'Zo\00eb M\00fcller')")
        assert read(look(contract)) == [(1, "Zoë Müller")]
    finally:
        database.run(f"SELECT pg_drop_replication_slot('{name}')")
        system.run(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.slow
def test_concurrent_writers_from_before_the_first_look(ready: PostgresDatabase, contract_of: Contracts, look: Look, by_slot: str) -> None:
    import random

    import psycopg

    contract = contract_of(f"{by_slot}, {POSITION}", columns=BY_VERSION)
    ready.run(*(insert(*range(first, first + 50), note="0") for first in range(1, 201, 50)))
    is_over = threading.Event()

    def write(seed: int) -> None:
        own = random.Random(seed)
        with psycopg.connect(ready.url) as connection:
            while not is_over.wait(0.005):
                ids = sorted(own.sample(range(1, 201), 4))
                connection.execute("UPDATE orders SET note = (note::int + 1)::text WHERE id = ANY(%s)", (ids,))
                connection.execute("SELECT pg_sleep(%s)", (own.random() * 0.03,))
                connection.rollback() if own.random() < 0.2 else connection.commit()

    writers = [threading.Thread(target=write, args=(seed,)) for seed in range(4)]
    for writer in writers:
        writer.start()
    try:
        reports = [look(contract) for _ in range(6)]
    finally:
        is_over.set()
        for writer in writers:
            writer.join()
    reports.append(look(contract))
    with psycopg.connect(ready.url) as connection:
        newest = dict(connection.execute("SELECT id, note::int FROM orders").fetchall())
    versions: dict[int, list[int]] = {}
    for number, version in read(reports, "id, note::INT"):
        versions.setdefault(number, []).append(version)
    # The first look has one of them; from then on there is each, once, in its order.
    assert versions == {number: list(range(versions[number][0], last + 1)) for number, last in newest.items()}
    assert sum(map(len, versions.values())) > 300


def test_a_large_transaction_is_one_page_and_many_small_ones_are_several(
    ready: PostgresDatabase, contract_of: Contracts, look: Look, by_slot: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_changes, "MOST_MESSAGES", 50)
    contract = contract_of(by_slot)
    look(contract)
    ready.run(insert(*range(1, 1001)), *(insert(number) for number in range(2001, 2101)))
    report = look(contract)
    assert len(read(TableReport("", report.pages[:1], 0, 0, 0))) == 1000
    assert len(report.pages) > 5
    assert [row[0] for row in read(report, "id")] == [*range(1, 1001), *range(2001, 2101)]
    assert len({page.name for page in report.pages}) == len(report.pages)
    assert look(contract).pages == ()


def test_types_are_those_of_the_table(database: PostgresDatabase, contract_of: Contracts, look: Look, by_slot: str, making: str) -> None:
    database.run("CREATE TYPE mood AS ENUM ('fine')", "CREATE DOMAIN whole AS integer", "CREATE DOMAIN positive AS whole CHECK (VALUE > 0)")
    database.run(f"CREATE TABLE wide ({', '.join(f'c{number} {kind}' for number, kind in enumerate(TYPES))})")
    database.run("ALTER TABLE wide REPLICA IDENTITY FULL", 'CREATE PUBLICATION "Orders" FOR TABLE wide', making)
    listed = [f"{{name: c{number}, logicalType: string}}" for number in range(len(TYPES))]
    contract = contract_of(f"{by_slot}, {{property: lakehouse.table, value: wide}}", columns=listed)
    assert look(contract).pages == ()
    row = f"INSERT INTO wide SELECT {', '.join(value for value, _, _ in TYPES.values())}"
    database.run(row, "INSERT INTO wide DEFAULT VALUES")
    names = [f"c{number}" for number in range(len(TYPES))]
    report = look(contract)
    described = read(report, ", ".join(f"typeof({name})" for name in names))[0]
    assert dict(zip(TYPES, described, strict=True)) == {kind: kept for kind, (_, kept, _) in TYPES.items()}
    values = read(report, ", ".join(f"{name}::VARCHAR" for name in names))
    assert dict(zip(TYPES, values[0], strict=True)) == {kind: text for kind, (_, _, text) in TYPES.items()}
    assert set(values[1]) == {None}


def test_values_arrive_as_they_are(ready: PostgresDatabase, contract_of: Contracts, look: Look, by_slot: str) -> None:
    import psycopg

    contract = contract_of(by_slot)
    look(contract)
    texts = [
        "line\nbreak, \"quote\"\r\n\\N \\. \t 'single' ; é 漢字 😀 \\",
        "",
        None,
        "NULL",
        '"',
        '""',
        ",",
        "\r",
        "x" * 3_000_000,
        " padded ",
    ]
    with psycopg.connect(ready.url, autocommit=True) as connection:
        for number, text in enumerate(texts):
            connection.execute("INSERT INTO orders (id, note) VALUES (%s, %s)", (number, text))
    assert [row[1] for row in read(look(contract))] == texts


def test_a_long_value_that_an_update_leaves_as_it_is_stays(
    ready: PostgresDatabase, contract_of: Contracts, look: Look, by_slot: str
) -> None:
    long = "SELECT string_agg(md5(i::text), '') FROM generate_series(1, 5000) i"
    ready.run(f"INSERT INTO orders (id, note) VALUES (1, ({long}))")
    contract = contract_of(f"{by_slot}, {GONE}", GONE_COLUMN)
    first = look(contract)
    ready.run("UPDATE orders SET amount = 2 WHERE id = 1", "UPDATE orders SET id = 2 WHERE id = 1")
    assert read(first, "md5(note), length(note)") == read(look(contract), "md5(note), length(note)", "WHERE NOT is_gone")
    ready.run("UPDATE orders SET note = NULL WHERE id = 2", "DELETE FROM orders")
    assert read(look(contract), "id, is_gone") == [(2, True)]


def test_what_is_not_long_needs_no_more_than_a_key(
    database: PostgresDatabase, contract_of: Contracts, look: Look, by_slot: str, making: str
) -> None:
    database.run("CREATE TABLE short (id bigint PRIMARY KEY, note varchar(20), amount numeric(12,2), updated_at timestamptz)")
    database.run('CREATE PUBLICATION "Orders" FOR TABLE short', making)
    contract = contract_of(f"{by_slot}, {GONE}, {{property: lakehouse.table, value: short}}", GONE_COLUMN)
    look(contract)
    database.run("INSERT INTO short VALUES (1, 'a')", "UPDATE short SET note = 'b'", "UPDATE short SET id = 2", "DELETE FROM short")
    assert read(look(contract), "id, note, is_gone") == [(1, None, True), (2, None, True)]


def test_columns_that_come_go_and_change(ready: PostgresDatabase, contract_of: Contracts, look: Look, by_slot: str) -> None:
    missing = "{name: colour, logicalType: string, customProperties: [{property: lakehouse.mayBeMissing, value: true}]}"
    size = "{name: size, logicalType: integer, customProperties: [{property: lakehouse.mayBeMissing, value: true}]}"
    contract = contract_of(by_slot, missing, size)
    ready.run(insert(1))
    assert len(read(look(contract))) == 1
    ready.run(
        insert(2),
        "ALTER TABLE orders ADD COLUMN colour text DEFAULT 'red'",
        insert(3).replace(" FROM", ", NULL, 'blue' FROM"),
        "ALTER TABLE orders ADD COLUMN size text",
        "INSERT INTO orders (id, size) VALUES (4, 'large')",
        "UPDATE orders SET size = '12'",
        "ALTER TABLE orders ALTER COLUMN size TYPE integer USING size::integer",
        "BEGIN; INSERT INTO orders (id, size) VALUES (5, 7); ALTER TABLE orders DROP COLUMN colour; INSERT INTO orders (id) VALUES (6); COMMIT",
    )
    report = look(contract)
    found = read(report, "id, colour, size", "ORDER BY id")
    # An ALTER TABLE that writes the table anew is no change of its rows.
    assert found == [(1, "red", 12), (2, "red", 12), (3, "blue", 12), (4, "red", 12), (5, "red", 7), (6, None, None)]
    ready.run(insert(7))
    assert read(look(contract), "id, size") == [(7, None)]


def test_only_rows_that_the_publication_tells_of(
    database: PostgresDatabase, contract_of: Contracts, look: Look, by_slot: str, making: str
) -> None:
    database.run(FULL, 'CREATE PUBLICATION "Orders" FOR TABLE orders WHERE (amount > 1)', making, insert(1))
    database.run("INSERT INTO orders VALUES (2, 0)")
    contract = contract_of(f"{by_slot}, {GONE}", GONE_COLUMN)
    assert read(look(contract), "id") == [(1,)]
    database.run("UPDATE orders SET amount = 5 WHERE id = 2", "UPDATE orders SET amount = 0 WHERE id = 1")
    assert read(look(contract), "id, is_gone", "ORDER BY id") == [(1, True), (2, False)]


def test_a_partitioned_table_is_one(database: PostgresDatabase, contract_of: Contracts, look: Look, by_slot: str, making: str) -> None:
    database.run(
        "CREATE TABLE parts (id bigint PRIMARY KEY, note varchar(9)) PARTITION BY RANGE (id)",
        "CREATE TABLE low PARTITION OF parts FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE high PARTITION OF parts FOR VALUES FROM (10) TO (20)",
        'CREATE PUBLICATION "Orders" FOR TABLE parts',
        making,
    )
    contract = contract_of(
        f"{by_slot}, {GONE}, {{property: lakehouse.table, value: parts}}", GONE_COLUMN, columns=(BY_VERSION[0], BY_VERSION[1])
    )
    assert 'ALTER PUBLICATION "Orders" SET (publish_via_partition_root = true)' in told(lambda: look(contract))
    database.run('ALTER PUBLICATION "Orders" SET (publish_via_partition_root = true)', "INSERT INTO parts VALUES (1, 'a'), (11, 'b')")
    assert read(look(contract), "id", "ORDER BY 1") == [(1,), (11,)]
    database.run("UPDATE parts SET id = 12 WHERE id = 1", "DELETE FROM parts WHERE id = 11", "INSERT INTO parts VALUES (2, 'c')")
    assert read(look(contract), "id, is_gone", "ORDER BY 1") == [(1, True), (2, False), (11, True), (12, False)]


@pytest.fixture
def poor(reader: Settings, database: PostgresDatabase) -> Iterator[Settings]:
    """A user who may do nothing but come in."""
    import psycopg

    with psycopg.connect(database.url, autocommit=True) as connection:
        if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = 'only_reads'").fetchone() is None:
            connection.execute("CREATE USER only_reads LOGIN PASSWORD 'p'")
    yield reader.model_copy(update={"postgres_user": "only_reads", "postgres_password": SecretStr("p")})
    database.run("ALTER USER only_reads NOREPLICATION", "DROP OWNED BY only_reads")


def test_all_that_is_missing_is_told_at_once_with_its_sql(
    database: PostgresDatabase,
    contract_of: Contracts,
    look: Look,
    by_slot: str,
    making: str,
    poor: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    contract = contract_of(f"{by_slot}, {GONE}", GONE_COLUMN)
    database.run(insert(1), "GRANT SELECT (id) ON orders TO only_reads")
    assert "may not read: amount, note, updated_at" in told(lambda: look(contract, poor))
    database.run("GRANT SELECT ON orders TO only_reads")
    said = told(lambda: look(contract, poor))
    sql = said.partition("As an administrator of the database: ")[2].split("; ")
    assert sql == [
        'ALTER ROLE "only_reads" REPLICATION',
        "ALTER TABLE orders REPLICA IDENTITY FULL",
        'CREATE PUBLICATION "Orders" FOR TABLE "public"."orders"',
        making,
    ]
    with monkeypatch.context() as other:
        other.setattr(postgres_prepared, "_SERVER", postgres_prepared._SERVER.replace("current_setting('wal_level')", "'replica'"))
        assert "wal_level is replica" in told(lambda: look(contract, poor))
    database.run(*sql)
    # All that a user needs who can change nothing.
    assert read(look(contract, poor), "id") == [(1,)]
    database.run("DELETE FROM orders", insert(2))
    assert read(look(contract, poor), "id, is_gone") == [(1, True), (2, False)]


def test_a_publication_that_leaves_something_out(ready: PostgresDatabase, contract_of: Contracts, look: Look, by_slot: str) -> None:
    contract = contract_of(f"{by_slot}, {GONE}", GONE_COLUMN)
    ready.run("ALTER PUBLICATION \"Orders\" SET (publish = 'insert')")
    said = told(lambda: look(contract))
    assert "does not tell update, delete, truncate" in said
    ready.run(said.rpartition("database: ")[2], 'ALTER PUBLICATION "Orders" SET TABLE orders (id, amount)')
    said = told(lambda: look(contract))
    assert "leaves out note, updated_at" in said
    ready.run(*said.rpartition("database: ")[2].split("; "), 'ALTER PUBLICATION "Orders" DROP TABLE orders')
    said = told(lambda: look(contract))
    assert said.endswith('ALTER PUBLICATION "Orders" ADD TABLE "public"."orders"')
    ready.run("CREATE VIEW seen AS SELECT * FROM orders")
    view = contract_of(f"{by_slot}, {{property: lakehouse.table, value: seen}}")
    assert "is no table" in told(lambda: look(view))
    ready.run("CREATE TABLE made (id bigint PRIMARY KEY, note varchar(5) GENERATED ALWAYS AS ('x') STORED)")
    made = contract_of(f"{by_slot}, {{property: lakehouse.table, value: made}}", columns=BY_VERSION[:2])
    assert "the server computes them" in told(lambda: look(made))


def test_what_makes_the_slot_another_one_is_told(
    ready: PostgresDatabase, contract_of: Contracts, look: Look, by_slot: str, slot: str, making: str, tmp_path: Path
) -> None:
    contract = contract_of(by_slot)
    ready.run(insert(1))
    look(contract)
    (state,) = (tmp_path / "landing").glob(".*.postgres.json")
    again = f"Delete {state}: the whole table is fetched once more"
    saved = state.read_text(encoding="utf-8")
    # A state from a backup, of before the last look.
    ready.run(insert(2))
    look(contract)
    newer = state.read_text(encoding="utf-8")
    state.write_text(saved, encoding="utf-8")
    said = told(lambda: look(contract))
    assert "changes are missing" in said
    assert again in said
    state.write_text(newer, encoding="utf-8")
    ready.run(f"SELECT pg_drop_replication_slot('{slot}')")
    said = told(lambda: look(contract))
    assert making in said
    assert again in said
    ready.run(insert(3), making, insert(4))
    assert again in told(lambda: look(contract))
    state.unlink()
    assert sorted(row[0] for row in read(look(contract), "id")) == [1, 2, 3, 4]
    ready.run('DROP PUBLICATION "Orders"', PUBLICATION)
    said = told(lambda: look(contract))
    assert "is of another publication than before" in said
    ready.run(f"SELECT pg_drop_replication_slot('{slot}')", f"SELECT pg_create_logical_replication_slot('{slot}', 'test_decoding')")
    assert "is of another kind (test_decoding" in told(lambda: look(contract))


def test_a_slot_that_is_older_than_its_publication(
    database: PostgresDatabase, contract_of: Contracts, look: Look, by_slot: str, slot: str, making: str
) -> None:
    database.run(FULL, making, insert(1), PUBLICATION)
    contract = contract_of(by_slot)
    said = told(lambda: look(contract))
    assert "is older than its publication" in said
    assert f"pg_drop_replication_slot('{slot}')" in said
    database.run(*said.rpartition("administrator: ")[2].split("; "))
    assert read(look(contract), "id") == [(1,)]


def test_a_slot_whose_log_the_server_has_removed(
    ready: PostgresDatabase, contract_of: Contracts, look: Look, by_slot: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    contract = contract_of(by_slot)
    look(contract)
    monkeypatch.setattr(postgres_prepared, "_SLOT", postgres_prepared._SLOT.replace("wal_status", "'lost'"))
    said = told(lambda: look(contract))
    assert "the server has removed its log" in said
    assert "Delete" in said


def test_a_slot_that_others_read_is_waited_for(
    ready: PostgresDatabase, contract_of: Contracts, look: Look, by_slot: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psycopg

    from lakehouse.ingest.sources import postgres_slot

    monkeypatch.setattr(postgres_slot, "_BUSY_S", 0.0)

    def in_use(*_: Any, **__: Any) -> int:
        raise psycopg.errors.ObjectInUse("replication slot is active for PID 1")

    contract = contract_of(by_slot)
    look(contract)
    ready.run(insert(1))
    with monkeypatch.context() as busy:
        busy.setattr(postgres_slot, "copied", in_use)
        assert "is being read by somebody else" in told(lambda: look(contract))
    assert read(look(contract), "id") == [(1,)]


def test_the_server_forgets_what_was_read(ready: PostgresDatabase, contract_of: Contracts, look: Look, by_slot: str, slot: str) -> None:
    import psycopg

    contract = contract_of(by_slot)
    look(contract)
    ready.run("CREATE TABLE other (t text)", "INSERT INTO other SELECT repeat('x', 1000) FROM generate_series(1, 3000)", insert(1))
    report = look(contract)
    assert report.replicated is not None
    assert (report.replicated.slot, report.rows) == (slot, 1)
    # What others wrote is behind, too: a table at rest holds nothing up.
    assert report.replicated.lag_bytes < 100_000
    with psycopg.connect(ready.url) as connection:
        found = connection.execute("SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = %s", (slot,)).fetchone()
    assert found == (report.replicated.lsn,)


@pytest.mark.parametrize(
    ("properties", "more", "found"),
    [
        ("{property: lakehouse.slot, value: s}", (), "has a slot and no publication"),
        ("{property: lakehouse.publication, value: p}", (), "has publication and no slot"),
        ("{property: lakehouse.slot, value: S-1}", (), "lower-case letters"),
        (
            "{property: lakehouse.slot, value: s}, {property: lakehouse.publication, value: p}, {property: lakehouse.watermark, value: id}",
            (),
            "by a slot or by a watermark",
        ),
        (
            "{property: lakehouse.slot, value: s}, {property: lakehouse.publication, value: p}, {property: lakehouse.positionAs, value: note}",
            (),
            "no whole number",
        ),
        ("{property: lakehouse.positionAs, value: id}", (), "has positionAs and no slot"),
    ],
)
def test_a_contract_that_can_not_be_followed(contract_of: Contracts, properties: str, more: tuple[str, ...], found: str) -> None:
    with pytest.raises(ContractError, match=r"servers\.shop") as caught:
        contract_of(properties, *more)
    assert found in str(caught.value)


def test_now_is_only_a_name(ready: PostgresDatabase, contract_of: Contracts, look: Look, by_slot: str, now: datetime) -> None:
    ready.run(insert(1))
    report = look(contract_of(by_slot))
    assert report.page is not None
    assert report.page.name.endswith(f"_{now.astimezone(UTC):%Y%m%dT%H%M%SZ}_00000001.parquet")
    assert report.page.stat().st_mode & 0o077 == 0
