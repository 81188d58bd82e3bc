"""Features over HTTP: 32 clients that each ask for one entity of 20 features, again and again, as fast as they are answered.

The server is `lakehouse features serve` in a process of its own, over SQLite with 100,000 entities. Asked are any of them, so that nearly all
are read from the store, and few of them, which the process keeps. Beside it an ASGI application that only sends the same bytes, on
the same uvicorn: what is above it is ours. Limit: p99 under 5 ms.

The load is made by wrk (C, one thread; Debian has it) where it is there, otherwise by a client of this file in a process of its own,
whose processor time counts against the server's on few cores.
"""

import argparse
import asyncio
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from figures import Figure, figure, tell

CLIENTS, FEATURES, ENTITIES, FEW = 32, 20, 100_000, 1_000
LIMIT_P99_MS = 5.0
VIEW, KEY = "customer_activity", "customer_id"
PATH = "/v1/features"

SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
math.randomseed(7)
request = function()
  return wrk.format(nil, nil, nil, string.format('{{"views":["{view}"],"entities":[{{"{key}":"%d"}}]}}', math.random(0, {entities} - 1)))
end
done = function(summary, latency)
  local errors = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.status + summary.errors.timeout
  io.write(string.format('\\nRESULT {{"p50": %f, "p99": %f, "p999": %f, "per_s": %f, "errors": %d, "requests": %d}}\\n', latency:percentile(50) / 1000,
    latency:percentile(99) / 1000, latency:percentile(99.9) / 1000, summary.requests / summary.duration * 1e6, errors, summary.requests))
end
"""

BARE = """
import asyncio, sys, uvicorn
body = open(sys.argv[1], "rb").read()
headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), (b"cache-control", b"no-store")]
async def application(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
import socket
listening = socket.create_server(("127.0.0.1", 0), backlog=2048)
print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
config = uvicorn.Config(application, log_level="error", access_log=False, lifespan="off", server_header=False, proxy_headers=False, ws="none")
uvicorn.Server(config).run(sockets=[listening])
"""


def fill(environment: Mapping[str, str]) -> None:
    """A view of a shipped project with 20 features of each entity, in the online store."""
    os.environ.update(environment)
    from lakehouse.pipeline.features import materialize_view, online, online_views
    from lakehouse.pipeline.workspace import Workspace
    from lakehouse.tables import Stamp

    workspace = Workspace.load()
    features = ", ".join(f"(hash(range * {n + 3}) % 1000003 / 7.0)::DOUBLE AS feature_{n}" for n in range(FEATURES))
    sql = f"SELECT range::VARCHAR AS {KEY}, now() - INTERVAL 1 DAY AS as_of, now() - INTERVAL 1 DAY AS known_at, {features} FROM range({ENTITIES})"
    with workspace.lake.connect(()) as session:
        workspace.lake.overwrite(session.con, f"features.{VIEW}", sql, stamp=Stamp(asset="benchmark", run="benchmark"))
    (view,) = online_views(workspace, [VIEW])
    with online(workspace) as store:
        materialize_view(workspace, store, view, now=datetime.now(UTC))


@dataclass(frozen=True)
class Server:
    """A server, and its first process."""

    url: str
    process: int

    def processor_s(self) -> float:
        """The processor time that it and its workers have had so far."""
        children = Path(f"/proc/{self.process}/task/{self.process}/children").read_text().split()
        stats = [Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split() for one in (self.process, *children)]
        return sum(int(one[11]) + int(one[12]) for one in stats) / os.sysconf("SC_CLK_TCK")


@contextmanager
def running(command: list[str], environment: Mapping[str, str]) -> Iterator[Server]:
    """A server, once it answers."""
    with subprocess.Popen(command, env=dict(environment), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            text = process.stdout.readline()
            while text.lstrip().startswith("{") and not text.endswith("}\n"):
                text += process.stdout.readline()
            url = json.loads(text)["url"] if text.lstrip().startswith("{") else text.strip()
            wait_for(url)
            yield Server(url, process.pid)
        finally:
            process.terminate()


def wait_for(url: str) -> bytes:
    """Ask until there is an answer; returns its body."""
    import httpx

    until = time.monotonic() + 120
    body = {"views": [VIEW], "entities": [{KEY: "1"}]}
    while True:
        try:
            return httpx.post(f"{url}{PATH}", json=body, timeout=60).raise_for_status().content
        except httpx.TransportError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def load(server: Server, folder: Path, *, entities: int, seconds: float) -> dict[str, float]:
    """What 32 clients see who ask for one of so many entities, and the processor time of a request in the server."""
    url, before = server.url, server.processor_s()
    if shutil.which("wrk"):
        script = folder / f"ask_{entities}.lua"
        script.write_text(SCRIPT.format(view=VIEW, key=KEY, entities=entities))
        command = ["wrk", "-t1", f"-c{CLIENTS}", f"-d{seconds:g}s", "-s", str(script), f"{url}{PATH}"]
    else:
        command = [sys.executable, __file__, "--client", url, "--entities", str(entities), "--seconds", str(seconds)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("RESULT ")).removeprefix("RESULT "))
    assert not found["errors"], done.stdout
    return {**found, "us": (server.processor_s() - before) / found["requests"] * 1e6}


class _Client(asyncio.Protocol):
    """A connection that asks again as soon as it is answered."""

    def __init__(self, host: str, entities: int, times: list[float]) -> None:
        self._entities, self._times, self._waiting, self._missing = entities, times, b"", 0
        self._head = f"POST {PATH} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: ".encode()
        self.errors = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._ask()

    def _ask(self) -> None:
        body = b'{"views":["%b"],"entities":[{"%b":"%d"}]}' % (VIEW.encode(), KEY.encode(), random.randrange(self._entities))  # noqa: S311
        self._asked = time.perf_counter()
        self._transport.write(b"%b%d\r\n\r\n%b" % (self._head, len(body), body))

    def data_received(self, data: bytes) -> None:
        if self._missing == 0:
            self._waiting += data
            end = self._waiting.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self._waiting[:end].lower()
            self.errors += not head.startswith(b"http/1.1 200")
            self._missing = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]) - (len(self._waiting) - end - 4)
            self._waiting = b""
        else:
            self._missing -= len(data)
        if self._missing == 0:
            self._times.append(time.perf_counter() - self._asked)
            self._ask()


async def client(url: str, entities: int, seconds: float) -> dict[str, float]:
    """The load without wrk."""
    address, times = urlsplit(url), list[float]()
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(lambda: _Client(address.netloc, entities, times), address.hostname, address.port)
        for _ in range(CLIENTS)
    ]
    await asyncio.sleep(seconds)
    for transport, _ in made:
        transport.close()
    times.sort()
    share = {name: times[int(len(times) * part)] * 1000 for name, part in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999))}
    return {**share, "per_s": len(times) / seconds, "requests": len(times), "errors": sum(protocol.errors for _, protocol in made)}


def measure(*, rounds: int, seconds: float, workers: int) -> list[Figure]:
    """Each round asks the bare application, then ours for any entities and for few; figures are medians."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("LAKEHOUSE_")}
        environment = {**kept, "LAKEHOUSE_HOME": str(folder / "home"), "LAKEHOUSE_PROJECT": str(Path(__file__).resolve().parent.parent)}
        fill(environment)
        serve = [sys.executable, "-m", "lakehouse", "features", "serve", "--port", "0", "--workers", str(workers), "--json"]
        seen: dict[str, list[dict[str, float]]] = {"bare": [], "any": [], "few": []}
        with running(serve, environment) as ours:
            answer = folder / "answer.json"
            answer.write_bytes(wait_for(ours.url))
            with running([sys.executable, "-c", BARE, str(answer)], environment) as bare:
                for name, server, entities in (("bare", bare, FEW), ("any", ours, ENTITIES), ("few", ours, FEW)) * rounds:
                    load(server, folder, entities=entities, seconds=1)
                    seen[name].append(load(server, folder, entities=entities, seconds=seconds))
    with_tool = "wrk" if shutil.which("wrk") else "a Python client"
    middle = {name: {key: statistics.median(one[key] for one in found) for key in found[0]} for name, found in seen.items()}
    for name, what in (("any", f"any of {ENTITIES:,} entities"), ("few", f"{FEW:,} entities that are kept")):
        one = middle[name]
        title = f"Feature API: {CLIENTS} clients ({with_tool}), {what} x {FEATURES} features"
        figures += [
            figure(f"{title}: p99 (p50 {one['p50']:.2f} ms, {one['per_s']:,.0f} requests/s)", one["p99"], "ms", LIMIT_P99_MS),
            figure(
                f"{title}: processor time of a request ({one['us']:.0f} us) over sending the same bytes",
                one["us"] / middle["bare"]["us"],
                "x",
                None,
            ),
        ]
    bare_name = f"Feature API: the same bytes from a bare ASGI application: p99 ({middle['bare']['per_s']:,.0f} requests/s)"
    figures.append(figure(bare_name, middle["bare"]["p99"], "ms", None))
    return figures


def main() -> None:
    """Print the figures beside their limits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--client", metavar="URL", help=argparse.SUPPRESS)
    parser.add_argument("--entities", type=int, default=FEW, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.client:
        import uvloop

        print("RESULT", json.dumps(uvloop.run(client(options.client, options.entities, options.seconds))))
        return
    figures = measure(rounds=options.rounds, seconds=options.seconds, workers=options.workers)
    tell(figures, as_json=options.json)


if __name__ == "__main__":
    main()
