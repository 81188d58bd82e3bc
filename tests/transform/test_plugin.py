"""The plugin under dbt: what it registers, and what it repairs."""

from types import SimpleNamespace

import duckdb
import pytest

from lakehouse.settings import Settings
from lakehouse.tables import Lake, Stamp, TableName


@pytest.fixture
def plugin(settings: Settings) -> object:
    """A plugin as dbt makes it."""
    from lakehouse.transform.plugin import Plugin

    return Plugin(name="lakehouse", plugin_config={"exported_home": str(settings.home_dir)}, credentials=None)


def target(operation: str, request: dict[str, object], layer: str = "raw", name: str = "t") -> SimpleNamespace:
    """What dbt hands over when a macro calls."""
    return SimpleNamespace(
        relation=SimpleNamespace(schema=layer, identifier=name), location=SimpleNamespace(path="", format=operation), config=request
    )


def put(settings: Settings, *tables: str) -> None:
    lake = Lake.from_settings(settings)
    con = lake.open_connection()
    for table in tables:
        lake.overwrite(con, table, "SELECT 1 AS id", stamp=Stamp(table, "test"))
    con.close()


def views(con: duckdb.DuckDBPyConnection) -> set[str]:
    return {".".join(row) for row in con.execute("SELECT schema_name, view_name FROM duckdb_views() WHERE NOT internal").fetchall()}


def test_the_path_that_dagster_spoils_is_repaired(plugin: object) -> None:
    credentials = SimpleNamespace(path="/somewhere/dbt/:memory:")
    config = {"access_mode": "READ_ONLY"}
    plugin.update_connection_config(credentials, config)
    assert credentials.path == ":memory:"
    assert "access_mode" not in config
    assert config["memory_limit"] == "2GB"


def test_whoever_borrows_the_connection_finds_every_table(plugin: object, settings: Settings) -> None:
    put(settings, "raw.a", "staging.b")
    plugin.update_connection_config(SimpleNamespace(path="/x/:memory:"), {})
    con = duckdb.connect()
    plugin.configure_connection(con)
    assert views(con) == {"raw.a", "staging.b"}
    con.close()


def test_only_what_is_asked_for_is_registered(plugin: object, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from lakehouse.transform import plugin as module

    monkeypatch.setattr(module, "_command", lambda: "build")
    put(settings, "raw.a", "raw.b")
    con = duckdb.connect()
    plugin.configure_connection(con)
    assert views(con) == set()
    request: dict[str, object] = {"names": [["raw", "a"], ["raw", "nothing"], ["raw", "commits"]]}
    plugin.store(target("register_all", request))
    # A dataset without data is there as its contract describes it; what nobody knows is not.
    assert request["registered"] == [["raw", "a"], ["raw", "commits"]]
    assert views(con) == {"raw.a", "raw.commits"}
    assert con.execute("SELECT count(sha) FROM raw.commits").fetchall() == [(0,)]
    con.close()


def test_a_table_stays_at_its_version_for_the_whole_run(plugin: object, settings: Settings) -> None:
    put(settings, "raw.a")
    con = duckdb.connect()
    plugin.configure_connection(con)
    plugin.store(target("register_all", {"names": [["raw", "a"]]}))
    put(settings, "raw.a")
    request: dict[str, object] = {}
    plugin.store(target("register", request, name="a"))
    assert request["version"] == 0
    plugin.store(target("register_all", {"names": [["raw", "a"]]}))
    plugin.store(target("register", request, name="a"))
    assert request["version"] == 1
    assert TableName("raw", "a") in plugin._versions
    con.close()


def test_a_home_that_only_dot_env_knows_is_refused(settings: Settings) -> None:
    from dbt_common.exceptions import DbtRuntimeError

    from lakehouse.transform.plugin import Plugin

    with pytest.raises(DbtRuntimeError, match=r"LAKEHOUSE_HOME: is set in .env, which dbt itself does not read"):
        Plugin(name="lakehouse", plugin_config={"exported_home": "data"}, credentials=None)


@pytest.mark.slow
def test_two_hundred_other_tables_cost_nothing(settings: Settings, plugin: object, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    from lakehouse.transform import plugin as module

    monkeypatch.setattr(module, "_command", lambda: "build")
    put(settings, *(f"analytics.t{number}" for number in range(200)))
    con = duckdb.connect()
    began = time.process_time()
    plugin.configure_connection(con)
    plugin.store(target("register_all", {"names": [["analytics", "t1"], ["analytics", "t2"]]}))
    assert time.process_time() - began < 0.3
    con.close()
