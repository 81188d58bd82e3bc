"""A server that behaves as the GitHub commits API does, and repositories to read."""

import hashlib
import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from pydantic import SecretStr

from lakehouse.contracts import DatasetContract, load_dataset
from lakehouse.ingest.sources import TableReport, postgres_rows
from lakehouse.settings import Settings
from tests.servers.fixtures import PostgresDatabase
from tests.sources.orders import COLUMNS, CONTRACT, TABLE


@dataclass
class FakeGitHub:
    """What the server knows and how it misbehaves; `seen` lists (path with query, headers) of every request."""

    repository: str = "openfields/granary"
    commits: list[dict[str, Any]] = field(default_factory=list)  # oldest first
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    # Answers to give before behaving again: (status, headers, body), "drop" or a number of seconds to wait.
    trouble: list[Any] = field(default_factory=list)
    redirect: dict[str, str] = field(default_factory=dict)
    next_host: str | None = None
    delay_s: float = 0.0
    files_per_commit: int = 3
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def push(self, count: int, *, start: datetime | None = None) -> None:
        """More commits, an hour apart."""
        for _ in range(count):
            number = len(self.commits)
            when = (start or datetime(2026, 1, 1, tzinfo=UTC)) + timedelta(hours=number)
            sha = hashlib.sha1(f"{self.repository}{number}".encode(), usedforsecurity=False).hexdigest()
            person = {"name": "Ada Quill", "email": "ada@example.org", "date": when.strftime("%Y-%m-%dT%H:%M:%SZ")}
            account = {"login": "ada", "id": 1, "avatar_url": "https://example.org/ada.png", "type": "User", "site_admin": False}
            self.commits.append(
                {
                    "sha": sha,
                    "node_id": "C_1",
                    "commit": {
                        "author": person,
                        "committer": person,
                        "message": f"fix: number {number}",
                        "tree": {"sha": sha, "url": "https://example.org"},
                        "comment_count": 0,
                        "verification": {"verified": False},
                    },
                    "url": f"{self.url}/repos/{self.repository}/commits/{sha}",
                    "html_url": f"https://github.com/{self.repository}/commit/{sha}",
                    "author": account,
                    "committer": None,
                    "parents": [{"sha": self.commits[-1]["sha"], "url": "https://example.org"}] if self.commits else [],
                }
            )

    def listing(self, query: dict[str, list[str]]) -> list[dict[str, Any]]:
        since = query.get("since", [""])[0]
        return [commit for commit in reversed(self.commits) if commit["commit"]["committer"]["date"] >= since]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    fake: FakeGitHub

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        return None

    def do_GET(self) -> None:
        fake = self.fake
        fake.seen.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        time.sleep(fake.delay_s)
        if fake.trouble and self.misbehave(fake.trouble.pop(0)):
            return
        path = urlsplit(self.path).path
        query = parse_qs(urlsplit(self.path).query)
        wanted = [commit for commit in fake.commits if path == f"/repos/{fake.repository}/commits/{commit['sha']}"]
        if path in fake.redirect:
            self.answer(301, {"location": fake.redirect[path]}, {"message": "Moved Permanently"})
        elif path in {f"/repos/{fake.repository}/commits", "/repositories/7/commits"}:
            self.page(path, query)
        elif wanted:
            self.detail(path, query, wanted[0])
        else:
            self.answer(404, {}, {"message": "Not Found"})

    def misbehave(self, trouble: Any) -> bool:
        """Whether that was the whole answer."""
        if isinstance(trouble, tuple):
            self.answer(*trouble)
        elif trouble == "drop":
            self.close_connection = True
        elif trouble == "half":
            self.send_response(200)
            self.send_header("content-length", "1000")
            self.end_headers()
            self.wfile.write(b'[{"sha":')
            self.close_connection = True
        else:
            time.sleep(trouble)
            return False
        return True

    def page(self, path: str, query: dict[str, list[str]]) -> None:
        rows = self.fake.listing(query)
        size, number = int(query.get("per_page", ["30"])[0]), int(query.get("page", ["1"])[0])
        page = rows[(number - 1) * size : number * size]
        etag = f'W/"{hashlib.sha256(json.dumps(page).encode()).hexdigest()}"'
        if self.headers.get("if-none-match") == etag:
            return self.answer(304, {"etag": etag}, None)
        return self.answer(200, {"etag": etag, **self.link(path, query, number, more=len(rows) > number * size)}, page)

    def detail(self, path: str, query: dict[str, list[str]], commit: dict[str, Any]) -> None:
        number, size = int(query.get("page", ["1"])[0]), 100
        names = range(self.fake.files_per_commit)[(number - 1) * size : number * size]
        files = [
            {
                "sha": "f" * 40,
                "filename": f"src/{n}.py",
                "status": "modified",
                "additions": 2,
                "deletions": 1,
                "changes": 3,
                "patch": "+secret",
            }
            for n in names
        ]
        count = self.fake.files_per_commit
        body = {**commit, "stats": {"total": 3 * count, "additions": 2 * count, "deletions": count}, "files": files}
        self.answer(200, self.link(path, query, number, more=count > number * size), body)

    def link(self, path: str, query: dict[str, list[str]], number: int, *, more: bool) -> dict[str, str]:
        if not more:
            return {}
        flat = {name: values[0] for name, values in query.items()} | {"page": str(number + 1)}
        base = self.fake.next_host or self.fake.url
        return {"link": f'<{base}{path}?{urlencode(flat)}>; rel="next", <{base}{path}?page=99>; rel="last"'}

    def answer(self, status: int, headers: dict[str, str], body: object) -> None:
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"content-type": "application/json", "x-ratelimit-remaining": "59", **headers}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def github() -> Iterator[FakeGitHub]:
    """The server, with 250 commits."""
    fake = FakeGitHub()
    handler = type("Handler", (_Handler,), {"fake": fake})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        fake.port = server.server_address[1]
        fake.push(250)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield fake
        server.shutdown()
        thread.join()


@pytest.fixture
def github_settings(settings: Settings, github: FakeGitHub) -> Settings:
    """Settings that lead to the server, with a token."""
    return settings.model_copy(update={"github_api": github.url, "github_token": SecretStr("token-of-the-test")})


class Repository:
    """A git repository made for a test; every commit has a fixed person and a time of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._made = 0
        folder.mkdir(parents=True)
        self.git("init", "-q", "-b", "main")

    def git(self, *arguments: str, stdin: bytes = b"") -> str:
        self._made += 1
        when = f"{1_767_225_600 + self._made * 60} +0530"
        environment = {
            "PATH": "/usr/bin:/bin:/usr/local/bin",
            "HOME": str(self.folder),
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_AUTHOR_NAME": "Zoë Müller",
            "GIT_AUTHOR_EMAIL": "7+zoe-m@users.noreply.github.com",
            "GIT_COMMITTER_NAME": "helper[bot]",
            "GIT_COMMITTER_EMAIL": "bot@example.org",
            "GIT_AUTHOR_DATE": when,
            "GIT_COMMITTER_DATE": when,
        }
        done = subprocess.run(["git", *arguments], cwd=self.folder, env=environment, check=True, capture_output=True, input=stdin)
        return done.stdout.decode("utf-8", "replace").strip()

    def commit(self, message: str = "change", **files: str | bytes | None) -> str:
        """Write the files (None removes), commit, give the id. Names use __ for a dot."""
        for name, content in files.items():
            path = self.folder / name.replace("__", ".")
            if content is None:
                path.unlink()
            else:
                path.write_bytes(content if isinstance(content, bytes) else content.encode())
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-F", "-", stdin=message.encode())
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """An empty repository."""
    return Repository(tmp_path / "work" / "granary")


@pytest.fixture
def database(postgres_database: PostgresDatabase) -> PostgresDatabase:
    """An empty table of orders."""
    postgres_database.run(TABLE)
    return postgres_database


@pytest.fixture
def reader(settings: Settings, database: PostgresDatabase) -> Settings:
    """Settings of a user who may do everything there."""
    return settings.model_copy(update={"postgres_user": database.user, "postgres_password": SecretStr(database.password)})


@pytest.fixture
def contract_of(tmp_path: Path, postgres_database: PostgresDatabase) -> Callable[..., DatasetContract]:
    """A contract of the table: properties of its server, further columns, and other places."""

    def load(properties: str = "", *more: str, columns: Sequence[str] = COLUMNS, **server: object) -> DatasetContract:
        database = {"host": postgres_database.host, "port": postgres_database.port, "database": postgres_database.name} | server
        listed = "\n".join(f"      - {column}" for column in (*columns, *more))
        path = tmp_path / "orders.odcs.yaml"
        path.write_text(CONTRACT.format(properties=properties, columns=listed, **database), encoding="utf-8")
        return load_dataset(path)

    return load


@pytest.fixture
def look(reader: Settings, now: datetime, tmp_path: Path) -> Callable[..., TableReport]:
    """Looks at the table."""

    def look(contract: DatasetContract, settings: Settings = reader) -> TableReport:
        return postgres_rows(contract, contract.databases[0], tmp_path / "landing", settings=settings, now=now)

    return look
