"""OpenLineage events: what they say, to a real HTTP server and a file; and that nobody waits for them."""

import importlib
import json
import pkgutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from openlineage.client import event_v2, generated
from openlineage.client.generated import base

from lakehouse.contracts import DatasetContract, load_dataset
from lakehouse.errors import SettingsError, TableError
from lakehouse.ingest import ingest
from lakehouse.ingest.events import Author
from lakehouse.ingest.replay import discard, replay
from lakehouse.ingest.waiting import Selection
from lakehouse.openlineage import Assertion, job
from lakehouse.openlineage.columns import column_sources
from lakehouse.openlineage.transport import FileTransport, HttpTransport, transport_of
from lakehouse.settings import Settings
from lakehouse.tables import Lake, Stamp
from tests.ingest.conftest import HEADER, PEOPLE


@dataclass
class Endpoint:
    """A server that keeps what it gets."""

    url: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    status: int = 201
    delay_s: float = 0.0


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    kept = Endpoint()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            kept.events.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            kept.paths.append(self.path)
            kept.headers.append(dict(self.headers))
            time.sleep(kept.delay_s)
            self.send_response(kept.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            del arguments

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    kept.url = f"http://127.0.0.1:{server.server_port}"
    yield kept
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def people(tmp_path: Path) -> DatasetContract:
    (tmp_path / "people.odcs.yaml").write_text(PEOPLE, encoding="utf-8")
    return load_dataset(tmp_path / "people.odcs.yaml")


@pytest.fixture
def told(settings: Settings, tmp_path: Path) -> Callable[..., Settings]:
    """The settings of the home, with somebody to tell."""
    return lambda **more: settings.model_copy(update={"openlineage_file": tmp_path / "events.ndjson", **more})


def read(settings: Settings) -> list[dict[str, Any]]:
    path = settings.openlineage_path
    return [json.loads(line) for line in path.read_text().splitlines()] if path and path.exists() else []


KNOWN = {
    name: value
    for module in pkgutil.iter_modules(generated.__path__)
    for name, value in vars(importlib.import_module(f"{generated.__name__}.{module.name}")).items()
    if name.endswith("Facet")
}


def check(event: dict[str, Any]) -> None:
    """The event is one by the classes that the specification's own client generates from the specification."""
    run = event_v2.Run(runId=event["run"]["runId"], facets={})
    made = event_v2.RunEvent(
        eventTime=event["eventTime"],
        producer=event["producer"],
        eventType=event_v2.RunState[event["eventType"]],
        run=run,
        job=event_v2.Job(namespace=event["job"]["namespace"], name=event["job"]["name"]),
    )
    assert made.schemaURL == event["schemaURL"]
    facets = [*event["run"]["facets"].items(), *event["job"]["facets"].items()]
    for dataset in [*event["inputs"], *event["outputs"]]:
        assert base.Dataset(namespace=dataset["namespace"], name=dataset["name"])
        facets += [*dataset["facets"].items(), *dataset.get("outputFacets", {}).items(), *dataset.get("inputFacets", {}).items()]
    for _, facet in facets:
        kind = KNOWN[facet["_schemaURL"].rpartition("/")[2]]
        assert kind._get_schema() == facet["_schemaURL"]
        # The classes take no field that the specification does not have, and refuse malformed ids and times.
        kind(**{name: value for name, value in facet.items() if not name.startswith("_")})


def test_ingestion_is_told_from_start_to_end(
    told: Callable[..., Settings], people: DatasetContract, endpoint: Endpoint, tmp_path: Path, now: datetime
) -> None:
    settings = told(openlineage_url=endpoint.url, openlineage_namespace="shop", openlineage_api_key=None)
    lake = Lake.from_settings(settings)
    (tmp_path / "a.csv").write_text(HEADER + "P1,30,1.7,1990-01-02,f,2\nP2,old,,,m,\n", encoding="utf-8")
    ingest(lake, people, [tmp_path / "a.csv"], settings=settings, run="run-1", now=now)
    transport_of(settings)._transports[1].flush(20)  # type: ignore[union-attr]
    assert endpoint.events == read(settings)
    assert set(endpoint.paths) == {"/api/v1/lineage"}
    start, *checks, complete = endpoint.events
    for event in endpoint.events:
        check(event)
    assert (start["eventType"], complete["eventType"]) == ("START", "COMPLETE")
    assert start["run"]["runId"] == complete["run"]["runId"]
    assert complete["job"]["namespace"] == "shop"
    assert complete["job"]["name"] == "ingest.people"
    assert [dataset["name"].rpartition(".")[2] for dataset in complete["inputs"]] == ["csv"]
    outputs = {dataset["facets"]["symlinks"]["identifiers"][0]["name"]: dataset for dataset in complete["outputs"]}
    assert {"raw.people", "quarantine.people"} <= outputs.keys()
    raw = outputs["raw.people"]
    assert raw["facets"]["version"]["datasetVersion"] == "0"
    assert [one["name"] for one in raw["facets"]["schema"]["fields"]][:2] == ["id", "age"]
    assert (raw["outputFacets"]["outputStatistics"]["rowCount"], raw["outputFacets"]["outputStatistics"]["fileCount"]) == (1, 1)
    assert raw["facets"]["dataQualityMetrics"]["columnMetrics"]["age"] == {"nullCount": 0}
    assert "P1" not in json.dumps(endpoint.events)
    assert [(event["job"]["name"], event["eventType"]) for event in checks] == [
        ("ingest.raw.people.checks", "START"), ("ingest.raw.people.checks", "COMPLETE"),
    ]  # fmt: skip
    (judged,) = checks[1]["inputs"]
    answers = {one["name"]: one for one in judged["inputFacets"]["dataQualityAssertions"]["assertions"]}
    assert answers["age.type"] == {
        "assertion": "type", "name": "age.type", "column": "age", "success": False, "severity": "warn", "actual": "1",
    }  # fmt: skip
    assert answers["batch.rows_conserved"] == {
        "assertion": "rows_conserved", "name": "batch.rows_conserved", "success": True, "severity": "error",
    }  # fmt: skip


def test_files_of_every_batch_are_told(
    told: Callable[..., Settings], people: DatasetContract, tmp_path: Path, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakehouse.ingest.path._BATCH_FILES", 1)
    settings = told()
    lake = Lake.from_settings(settings)
    for number in range(3):
        (tmp_path / f"{number}.csv").write_text(HEADER + f"P{number},30,1.7,1990-01-02,f,2\nQ{number},old,,,m,\n", encoding="utf-8")
    ingest(lake, people, sorted(tmp_path.glob("?.csv")), settings=settings, run="r", now=now)
    *_, judged, complete = read(settings)
    assert len(complete["inputs"]) == 3
    raw = next(one for one in complete["outputs"] if one["name"].endswith("raw/people"))
    statistics = raw["outputFacets"]["outputStatistics"]
    assert (statistics["rowCount"], statistics["fileCount"]) == (3, 3)
    assert raw["facets"]["lifecycleStateChange"]["lifecycleStateChange"] == "CREATE"
    (age,) = [one for one in judged["inputs"][0]["inputFacets"]["dataQualityAssertions"]["assertions"] if one["name"] == "age.type"]
    assert age["actual"] == "3"


def test_decisions_on_quarantined_rows_are_told(
    told: Callable[..., Settings], people: DatasetContract, tmp_path: Path, now: datetime
) -> None:
    settings = told()
    lake = Lake.from_settings(settings)
    (tmp_path / "a.csv").write_text(HEADER + "P1,30,1.7,1990-01-02,f,2\nP2,130,,,m,\nP3,old,,,m,\n", encoding="utf-8")
    ingest(lake, people, [tmp_path / "a.csv"], settings=settings, run="run-1", now=now)
    (tmp_path / "older.odcs.yaml").write_text(PEOPLE.replace("maximum: 120", "maximum: 150"), encoding="utf-8")
    older, ann = load_dataset(tmp_path / "older.odcs.yaml"), Author("ann", "run-2", now)
    before = len(read(settings))
    assert replay(lake, older, settings=settings, author=ann).accepted == 1
    discard(lake, older, selection=Selection(), settings=settings, author=ann)
    events = read(settings)[before:]
    for event in events:
        check(event)
    assert [(event["job"]["name"], event["eventType"]) for event in events] == [
        ("replay.people", "START"), ("replay.people", "COMPLETE"), ("discard.people", "START"), ("discard.people", "COMPLETE"),
    ]  # fmt: skip
    rows = {
        one["name"].rpartition("/")[2]: one["outputFacets"]["outputStatistics"]["rowCount"]
        for one in events[1]["outputs"]
        if "raw" in one["name"]
    }
    assert rows == {"people": 1}
    read_again = [one for one in events[1]["inputs"] if one["name"].endswith("quarantine/people")]
    assert [one["facets"]["version"]["datasetVersion"] for one in read_again] == ["0"]


def test_what_fails_is_told_without_values(told: Callable[..., Settings], people: DatasetContract, tmp_path: Path, now: datetime) -> None:
    settings = told()
    lake = Lake.from_settings(settings)
    (tmp_path / "no.csv").write_bytes(b"\x00\x01")
    ingest(lake, people, [tmp_path / "no.csv"], settings=settings, run="r", now=now)
    with pytest.raises(TableError), job(settings, lake, "train", "m", run="r"):
        raise TableError("models.m", "can't be made", found="secret")
    with pytest.raises(KeyError), job(settings, lake, "train", "m", run="r"):
        raise KeyError("secret")
    ends = [event for event in read(settings) if event["eventType"] != "START"]
    for event in ends:
        check(event)
    assert [event["run"]["facets"]["errorMessage"]["message"] for event in ends] == [
        "no.csv: was refused", "models.m: can't be made", "KeyError",
    ]  # fmt: skip
    assert {event["eventType"] for event in ends} == {"FAIL"}


def test_every_dbt_table_is_a_run_of_its_own(told: Callable[..., Settings]) -> None:
    settings = told()
    lake = Lake.from_settings(settings)
    con = lake.open_connection()
    lake.overwrite(con, "raw.a", "SELECT 1 AS id, 2 AS n", stamp=Stamp("raw.a", "before"))
    with job(settings, lake, "dbt", "build", run="r") as telling:
        lake.overwrite(con, "staging.a", "SELECT 1 AS id, 4 AS twice", stamp=Stamp("staging.a", "r", {"raw.a": 0}))
        telling.came_from("staging.a", {"twice": [("raw.a", "n")]})
        telling.found("staging.a", [Assertion("unique_staging_a_id", "unique", passed=False, blocks=True, failed=2, column="id")])
        telling.failed("features.a", "could not be built")
    con.close()
    events = read(settings)
    for event in events:
        check(event)
    kinds = [(event["job"]["name"], event["eventType"]) for event in events]
    assert kinds == [
        ("dbt.build", "START"), ("dbt.staging.a", "START"), ("dbt.staging.a", "COMPLETE"),
        ("dbt.features.a", "START"), ("dbt.features.a", "FAIL"), ("dbt.staging.a.checks", "START"), ("dbt.staging.a.checks", "COMPLETE"),
        ("dbt.build", "FAIL"),
    ]  # fmt: skip
    assert not events[-2]["inputs"][0]["inputFacets"]["dataQualityAssertions"]["assertions"][0]["success"]
    complete = events[2]
    assert complete["run"]["facets"]["parent"]["run"]["runId"] == events[0]["run"]["runId"]
    assert complete["inputs"][0]["name"] == lake.storage.address("raw", "a")
    fields = complete["outputs"][0]["facets"]["columnLineage"]["fields"]
    assert fields["twice"]["inputFields"][0]["field"] == "n"


@pytest.mark.parametrize("kind", ["slow", "broken", "absent", "redirecting"])
def test_nobody_waits_for_an_endpoint_and_it_is_said_once(endpoint: Endpoint, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    endpoint.status, endpoint.delay_s = {"slow": (201, 30.0), "broken": (500, 0.0), "redirecting": (302, 0.0)}.get(kind, (201, 0.0))
    transport = HttpTransport("http://user:secret@127.0.0.1:9/" if kind == "absent" else endpoint.url, api_key="k")
    began = time.monotonic()
    transport.send([{"n": number} for number in range(11_000)])
    transport.flush(0.2)
    # Not a measure of speed: what waits for a time-out of 2 s each would take hours.
    assert time.monotonic() - began < 60
    transport.flush(20)
    assert len(endpoint.events) <= 1
    assert sum("run goes on" in record.message for record in caplog.records) == 1
    assert "secret" not in caplog.text


def test_a_file_that_can_not_be_written_fails_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "taken").write_text("")
    transport = FileTransport(str(tmp_path / "taken" / "events.ndjson"))
    for _ in range(3):
        transport.send([{"a": 1}])
    assert len(caplog.records) == 1


def test_without_a_setting_nothing_is_told_and_a_wrong_one_is_an_error(settings: Settings) -> None:
    assert transport_of(settings) is None
    for url in ("ftp://x", "nonsense", "http://"):
        with pytest.raises(SettingsError, match="is no address of an HTTP endpoint"):
            transport_of(settings.model_copy(update={"openlineage_url": url}))


def test_the_key_is_sent_to_the_address_as_it_is_given(endpoint: Endpoint) -> None:
    transport = HttpTransport(f"{endpoint.url}/own/path?x=1", api_key="k")
    transport.send([{"a": 1}])
    transport.flush(20)
    assert endpoint.paths == ["/own/path?x=1"]
    assert endpoint.headers[0]["Authorization"] == "Bearer k"


def test_columns_are_followed_through_the_sql() -> None:
    schemas = {"raw.a": {"id": "INTEGER", "n": "INTEGER", "t": "VARCHAR"}, "staging.b": {"id": "INTEGER", "price": "DOUBLE"}}
    sql = (
        'WITH x AS (SELECT id, n * 2 AS twice, upper(t) AS t FROM "memory"."raw"."a") '
        'SELECT x.id, twice + price AS total, t, 1 AS one FROM x JOIN "memory"."staging"."b" USING (id)'
    )
    found = column_sources(sql, schemas.__getitem__)
    assert found["total"] == [("raw.a", "n"), ("staging.b", "price")]
    assert (found["t"], found["one"]) == ([("raw.a", "t")], [])
    assert column_sources("SELECT (", schemas.__getitem__) == {}
    assert column_sources(sql, schemas.__getitem__, budget_s=0) == {}
