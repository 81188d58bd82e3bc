"""`lakehouse ingest --fetch`: a table's rows in raw, each change once, also when processes are killed and others write meanwhile."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lakehouse.cli.main import app
from lakehouse.crashpoints import VARIABLE, Point
from lakehouse.settings import Settings
from lakehouse.tables import Lake
from tests.servers.fixtures import PostgresDatabase

pytestmark = pytest.mark.servers

CONTRACT = """
apiVersion: v3.2.0
kind: DataContract
id: charges
name: charges
version: 1.0.0
status: active
domain: test
servers:
  - {server: shop, type: postgres, host: HOST, port: PORT, database: DATABASE, schema: public, customProperties: [PROPERTIES]}
schema:
  - name: charges
    physicalType: table
    properties:
      - {name: id, logicalType: integer, physicalType: BIGINT, required: true, primaryKey: true, primaryKeyPosition: 1}
      - {name: amount, logicalType: number, physicalType: "DECIMAL(12,2)", logicalTypeOptions: {minimum: 0}}
      - {name: payer, logicalType: string, physicalType: VARCHAR, classification: restricted}
      - {name: version, logicalType: integer, physicalType: BIGINT}
      - {name: updated_at, logicalType: timestamp, physicalType: TIMESTAMPTZ}
"""
BY_TIME = "{property: lakehouse.watermark, value: updated_at}"
BY_SLOT = "{property: lakehouse.slot, value: SLOT}, {property: lakehouse.publication, value: charges}"
WAYS = pytest.mark.parametrize("properties", [BY_TIME, "", BY_SLOT], ids=["watermark", "snapshot", "slot"])


@pytest.fixture
def database(postgres_database: PostgresDatabase) -> PostgresDatabase:
    postgres_database.run(
        "CREATE TABLE charges (id bigint PRIMARY KEY, amount numeric(12,2), payer text, version bigint DEFAULT 1, "
        "updated_at timestamptz DEFAULT clock_timestamp())"
    )
    return postgres_database


@pytest.fixture
def with_contract(home: Path, database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    monkeypatch.setenv("LAKEHOUSE_POSTGRES_USER", database.user)
    monkeypatch.setenv("LAKEHOUSE_POSTGRES_PASSWORD", database.password)

    def write(properties: str = BY_TIME) -> None:
        values = {"HOST": database.host, "PORT": str(database.port), "DATABASE": database.name, "PROPERTIES": properties}
        values["SLOT"] = f"s_{database.name}"
        if "SLOT" in properties:
            database.run(
                "ALTER TABLE charges REPLICA IDENTITY FULL",
                "CREATE PUBLICATION charges FOR TABLE charges",
                f"SELECT pg_create_logical_replication_slot('{values['SLOT']}', 'pgoutput')",
            )
        text = CONTRACT
        for name, value in values.items():
            text = text.replace(name, value)
        folder = home / "contracts" / "datasets"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "charges.odcs.yaml").write_text(text, encoding="utf-8")

    return write


def fetch(*more: str) -> dict[str, Any]:
    ran = CliRunner().invoke(app, ["ingest", "charges", "--fetch", *more, "--json"])
    assert ran.exit_code == 0, ran.output
    return json.loads(ran.stdout)


def raw(columns: str) -> list[tuple[Any, ...]]:
    with Lake.from_settings(Settings.load()).connect() as session:
        return session.con.execute(f"SELECT {columns} FROM raw.charges ORDER BY ALL").fetchall()


def test_rows_take_the_one_path(database: PostgresDatabase, with_contract: Callable[[str], None]) -> None:
    with_contract(BY_TIME)
    database.run("INSERT INTO charges (id, amount, payer) VALUES (1, 10.50, 'Ada'), (2, -1, 'Bob'), (3, NULL, NULL)")
    (file,) = fetch()["files"]
    assert (file["rows_read"], file["rows_accepted"], file["rows_quarantined"]) == (3, 2, 1)
    (row, _) = raw("id, amount::VARCHAR, payer")
    assert row[:2] == (1, "10.50")
    assert row[2].startswith("pn_")
    again = fetch()
    assert [file["status"] for file in again["files"]] in ([], ["already"])
    database.run("UPDATE charges SET amount = 11, updated_at = clock_timestamp() WHERE id = 1")
    fetch()
    assert raw("id, amount::VARCHAR") == [(1, "10.50"), (1, "11.00"), (3, None)]


def test_a_slot_says_how_far_it_is(database: PostgresDatabase, with_contract: Callable[[str], None]) -> None:
    with_contract(BY_SLOT)
    database.run("INSERT INTO charges (id, amount, payer) VALUES (1, 10.50, 'Ada')")
    fetch()
    database.run("UPDATE charges SET amount = 11", "TRUNCATE charges")
    found = fetch()
    (slot,) = found["slots"]
    assert (slot["slot"], slot["rows"], slot["gone"], slot["truncates"]) == (f"s_{database.name}", 1, 0, 1)
    assert 0 <= slot["lag_bytes"] <= slot["retained_bytes"]
    assert raw("id, amount::VARCHAR") == [(1, "10.50"), (1, "11.00")]
    ran = CliRunner().invoke(app, ["ingest", "charges", "--fetch"])
    assert f"slot s_{database.name} is 0.0 MB behind" in ran.output


def test_dagster_shows_what_the_server_keeps(database: PostgresDatabase, with_contract: Callable[[str], None]) -> None:
    import dagster as dg

    from assets.datasets import build_dataset_assets
    from lakehouse.pipeline.workspace import Workspace
    from resources.workspace import RESOURCE_KEY, workspace_resource

    with_contract(BY_SLOT)
    database.run("INSERT INTO charges (id, amount) VALUES (1, 1)")
    workspace = Workspace.load()
    assets = build_dataset_assets(workspace.contracts.dataset("charges"))
    result = dg.materialize([assets], resources={RESOURCE_KEY: workspace_resource(workspace)})
    assert raw("id") == [(1,)]
    (materialization,) = result.asset_materializations_for_node(assets.op.name)
    assert {"lakehouse/lag_bytes", "lakehouse/retained_bytes"} <= set(materialization.metadata)


@pytest.mark.usefixtures("home")
def test_a_dataset_without_a_database_says_so() -> None:
    ran = CliRunner().invoke(app, ["ingest", "commits", "--fetch", "--json"])
    assert ran.exit_code == 2
    assert "names no database or topic" in json.loads(ran.stdout)["message"]


def test_dagster_fetches_by_schedule(database: PostgresDatabase, with_contract: Callable[[str], None]) -> None:
    import dagster as dg

    from assets.datasets import build_dataset_assets
    from lakehouse.pipeline.workspace import Workspace
    from resources.workspace import RESOURCE_KEY, workspace_resource
    from sensors.schedules import build_fetch_schedules

    with_contract(BY_TIME)
    database.run("INSERT INTO charges (id, amount) VALUES (1, 1)")
    workspace = Workspace.load()
    (schedule,) = build_fetch_schedules(workspace.contracts.datasets.values(), workspace.settings)
    assert (schedule.name, schedule.cron_schedule) == ("charges_fetch_schedule", "*/15 * * * *")
    with_contract(BY_TIME + ", {property: lakehouse.schedule, value: 0 6 * * mon-fri}")
    own = Workspace.load()
    (schedule,) = build_fetch_schedules(own.contracts.datasets.values(), own.settings)
    assert (schedule.cron_schedule, "charges of" in (schedule.description or "")) == ("0 6 * * mon-fri", True)
    assets = build_dataset_assets(workspace.contracts.dataset("charges"))
    assert dg.materialize([assets], resources={RESOURCE_KEY: workspace_resource(workspace)}).success
    assert raw("id") == [(1,)]


@pytest.mark.parametrize("point", [Point.BEFORE_CURSOR, Point.AFTER_CURSOR, Point.QUARANTINE_COMMITTED, Point.AFTER_COMMIT])
@pytest.mark.parametrize("properties", [BY_TIME, ""], ids=["watermark", "snapshot"])
def test_killed_and_run_again(database: PostgresDatabase, with_contract: Callable[[str], None], point: Point, properties: str) -> None:
    with_contract(properties)
    database.run("INSERT INTO charges (id, amount) SELECT i, i - 10 FROM generate_series(1, 50) i")
    assert _process(**{VARIABLE: point}).wait(timeout=120) == -signal.SIGKILL
    database.run("INSERT INTO charges (id, amount) SELECT i, i FROM generate_series(51, 60) i")
    fetch()
    fetch()
    # Nine are below nothing, and in quarantine.
    assert raw("id") == [(number,) for number in range(10, 61)]


# The first look has the table's page and the slot's, a later one the slot's alone.
KILLED = [
    (1, f"{Point.BEFORE_CURSOR}:2"),
    (2, Point.BEFORE_CURSOR),
    (2, Point.AFTER_CURSOR),
    (2, Point.BEFORE_SLOT),
    *(
        pytest.param(look, point, marks=pytest.mark.slow)
        for look, point in [
            (1, Point.BEFORE_CURSOR),
            (1, Point.AFTER_CURSOR),
            (1, f"{Point.AFTER_CURSOR}:2"),
            (1, Point.BEFORE_SLOT),
            (1, Point.QUARANTINE_COMMITTED),
            (1, Point.AFTER_COMMIT),
            (2, Point.AFTER_COMMIT),
        ]
    ),
]


@pytest.mark.parametrize(("look", "point"), KILLED)
def test_a_slot_whose_reader_is_killed(database: PostgresDatabase, with_contract: Callable[[str], None], point: str, look: int) -> None:
    with_contract(BY_SLOT)
    database.run("INSERT INTO charges (id, amount) SELECT i, i - 10 FROM generate_series(1, 50) i")
    if look == 2:
        fetch()
    database.run("UPDATE charges SET version = 2 WHERE id = 20", "INSERT INTO charges (id, amount) VALUES (51, 1)")
    assert _process(**{VARIABLE: point}).wait(timeout=120) == -signal.SIGKILL
    database.run(
        "UPDATE charges SET version = 3 WHERE id = 20", "INSERT INTO charges (id, amount) SELECT i, i FROM generate_series(52, 60) i"
    )
    fetch()
    fetch()
    found = raw("id, version")
    assert len(found) == len(set(found))
    assert {number for number, _ in found} == set(range(10, 61))
    assert max(version for number, version in found if number == 20) == 3


def _process(**environment: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "lakehouse", "ingest", "charges", "--fetch", "--json"]
    return subprocess.Popen(command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.slow
@WAYS
def test_every_version_of_every_row_arrives_once_while_others_write(
    database: PostgresDatabase, with_contract: Callable[[str], None], properties: str
) -> None:
    import psycopg

    with_contract(properties)
    database.run("INSERT INTO charges (id, amount) SELECT i, 1 FROM generate_series(1, 200) i")
    is_over = threading.Event()
    chance = random.Random(5)

    def change(seed: int) -> None:
        own = random.Random(seed)
        with psycopg.connect(database.url) as connection:
            while not is_over.wait(0.02):
                ids: Sequence[int] = sorted(own.sample(range(1, 201), 5))
                connection.execute(
                    "UPDATE charges SET version = version + 1, updated_at = clock_timestamp() WHERE id = ANY(%s)", (list(ids),)
                )
                # Its rows were stamped before they can be seen.
                time.sleep(own.random() * 0.05)
                connection.commit()

    writers = [threading.Thread(target=change, args=(seed,)) for seed in range(3)]
    for writer in writers:
        writer.start()
    try:
        for _ in range(6):
            process = _process()
            time.sleep(chance.random() * 4)
            process.kill()
            process.wait()
    finally:
        is_over.set()
        for writer in writers:
            writer.join()
    fetch()
    fetch()
    with psycopg.connect(database.url) as connection:
        newest = connection.execute("SELECT id, version FROM charges ORDER BY id").fetchall()
    assert raw("id, max(version) OVER (PARTITION BY id)")[0][0] == 1
    found = raw("id, version")
    assert len(found) == len(set(found)), "a version of a row came twice"
    assert [max(version for of, version in found if of == number) for number, _ in newest] == [version for _, version in newest]
