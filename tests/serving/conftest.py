"""A home with two views online, and the Feature API over it: in this process, and in one of its own."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from lakehouse.pipeline.features import declared, materialize_view, online
from lakehouse.pipeline.workspace import Workspace
from lakehouse.serving.app import feature_api, guarded
from lakehouse.serving.guard import Guard
from lakehouse.serving.service import FeatureService
from lakehouse.settings import Settings
from lakehouse.tables import Stamp
from tests.conftest import PROJECT

HOUSEHOLDS, COMMITS = "household_features", "commit_features"
KEY = "a key of twenty-four signs"
OTHER_KEY = "another key for its successor"


@dataclass(frozen=True)
class Answered:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def rows(count: int = 20, *, ago: timedelta = timedelta(days=3)) -> str:
    """Interviews of some households."""
    at = f"{datetime.now(UTC) - ago:%Y-%m-%d %H:%M:%S}"
    return (
        f"SELECT format('HH{{:08d}}', i) AS household_id, TIMESTAMP '{at}' AS submitted_at, TIMESTAMPTZ '{at}Z' AS known_at,"
        " (i % 9)::SMALLINT AS rooms, CASE WHEN i = 5 THEN 'nan'::DOUBLE ELSE i / 4 END AS food_share, 'north' AS district,"
        f" DATE '2026-01-01' + i::INTEGER AS moved_in, (i / 8)::DECIMAL(9, 3) AS land_hectares, 'i' AS _interview_id FROM range({count}) t(i)"
    )


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """A home of this module's own, for this process and its children."""
    folder = tmp_path_factory.mktemp("served") / "home"
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("LAKEHOUSE_", "DAGSTER_HOME")) and name != "LAKEHOUSE_TEST_DATA"]:
            patch.delenv(name)
        patch.setenv("LAKEHOUSE_HOME", str(folder))
        patch.setenv("LAKEHOUSE_PROJECT", str(PROJECT))
        # What one process writes another has to see at once.
        patch.setenv("LAKEHOUSE_ONLINE_CACHE_TTL_S", "0")
        patch.setenv("LAKEHOUSE_SERVING_PUSHES", "true")
        patch.setenv("LAKEHOUSE_SERVING_REGISTERS", "true")
        yield dict(os.environ)


@pytest.fixture(scope="module")
def workspace(environment: Mapping[str, str]) -> Workspace:
    """The home with two views in the online store."""
    found = Workspace(Settings.load())
    stamp = Stamp(asset="test", run="run-1", inputs={"staging.household_survey": 3}, code="abc")
    with found.lake.connect(()) as session:
        found.lake.overwrite(session.con, f"features.{HOUSEHOLDS}", rows(), stamp=stamp)
        commits = (
            "SELECT format('{:040d}', i) AS sha, now() - INTERVAL 1 DAY AS committed_at, now() AS known_at, i AS insertions, i * 2 AS rooms"
        )
        found.lake.overwrite(session.con, f"features.{COMMITS}", f"{commits} FROM range(5) t(i)", stamp=stamp)
    views = declared(found)
    with online(found) as features:
        for name in (HOUSEHOLDS, COMMITS):
            materialize_view(found, features, views[name], now=datetime.now(UTC))
    return found


@pytest.fixture(scope="module")
def service(workspace: Workspace) -> Iterator[FeatureService]:
    made = FeatureService(workspace.settings)
    made.views.look()
    yield made
    made.close()


@pytest.fixture(scope="module")
def api(service: FeatureService) -> Guard:
    """The application in this process."""
    return guarded(feature_api(service), service)


def ask(
    application: Any,
    method: str,
    path: str,
    document: Any = None,
    *,
    query: Any = (),
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answered:
    """One request to an ASGI application, without a network."""
    content = body if body is not None else b"" if document is None else json.dumps(document).encode()
    given = {"host": "127.0.0.1", **({"content-type": "application/json"} if content else {}), **(headers or {})}
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": quote(path).encode(),
        "root_path": "",
        "query_string": urlencode(query, doseq=True, errors="replace").encode(),
        "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in given.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
    }
    sent: list[Any] = []
    waiting: list[Any] = [{"type": "http.request", "body": content, "more_body": False}]

    async def receive() -> Any:
        return waiting.pop() if waiting else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(application(scope, receive, send))
    start = sent[0]
    names = {name.decode(): value.decode() for name, value in start["headers"]}
    return Answered(start["status"], names, b"".join(one.get("body", b"") for one in sent[1:]))


@dataclass
class Server:
    """A server in a process of its own."""

    process: subprocess.Popen[str]
    url: str

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


def start(environment: Mapping[str, str], log: Path, *arguments: object) -> Server:
    """Start one on a free port; when this returns it listens."""
    command = [sys.executable, "-m", "lakehouse", "features", "serve", "--port", "0", "--json", *map(str, arguments)]
    with log.open("w") as errors:
        process = subprocess.Popen(command, env=dict(environment), stdout=subprocess.PIPE, stderr=errors, text=True)
    assert process.stdout is not None
    text = ""
    while not text.endswith("}\n"):
        line = process.stdout.readline()
        assert line, log.read_text()
        text += line
    return Server(process, json.loads(text)["url"])


@pytest.fixture(scope="module")
def server(workspace: Workspace, environment: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The Feature API in a process of its own."""
    made = start(environment, tmp_path_factory.mktemp("server") / "log")
    yield made
    if made.process.poll() is None:
        made.stop()
    made.process.stdout.close()
