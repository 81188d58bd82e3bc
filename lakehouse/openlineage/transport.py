"""Where events go. Neither a slow endpoint nor a full disk fails a run or holds it up: what can't be delivered is said once and dropped."""

import atexit
import json
import logging
import os
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol
from urllib.parse import urlsplit

from lakehouse.errors import SettingsError
from lakehouse.settings import Settings

_LOG = logging.getLogger(__name__)
_MAX_WAITING = 10_000
_TIMEOUT_S = 2.0
# How long the end of a process may wait for what is still to be delivered.
_LAST_WAIT_S = 3.0
# After a failure the endpoint is left alone for so long: a run with a thousand events must not meet a thousand time-outs.
_PAUSE_S = 30.0
_DEFAULT_PATH = "/api/v1/lineage"

Event = Mapping[str, Any]


class Transport(Protocol):
    """Takes events, and returns at once."""

    def send(self, events: Sequence[Event]) -> None:
        """Take events for delivery, in their order."""
        ...


class FileTransport:
    """Appends one JSON document a line; several processes may write to one file."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._has_warned = False

    def send(self, events: Sequence[Event]) -> None:
        """Write the events."""
        text = "".join(json.dumps(event, default=str) + "\n" for event in events)
        try:
            os.makedirs(os.path.dirname(os.path.abspath(self._path)), exist_ok=True)
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            try:
                # One write for all of them: lines of two processes don't mix.
                os.write(descriptor, text.encode())
            finally:
                os.close(descriptor)
        except OSError as error:
            if not self._has_warned:
                self._has_warned = True
                _LOG.warning("OpenLineage events can't be written to %s (%s); the run goes on without them", self._path, error.strerror)


class HttpTransport:
    """Posts events from a thread of its own."""

    def __init__(self, url: str, *, api_key: str | None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise SettingsError(
                "LAKEHOUSE_OPENLINEAGE_URL", "is no address of an HTTP endpoint", expected="http://host:5000 or https://...", found=url
            )
        self._url = url if parts.path.strip("/") else url.rstrip("/") + _DEFAULT_PATH
        # What is shown has no password in it.
        self._shown = f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{urlsplit(self._url).path}"
        self._headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {api_key}"} if api_key else {})
        self._waiting: queue.Queue[Event] = queue.Queue(_MAX_WAITING)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._has_warned = False
        self._resume_at = 0.0

    def send(self, events: Sequence[Event]) -> None:
        """Queue the events; those that find no room are dropped."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._deliver, name="openlineage", daemon=True)
                self._thread.start()
                atexit.register(self.flush)
        for event in events:
            try:
                self._waiting.put_nowait(event)
            except queue.Full:
                self._warn("too many events are waiting")

    def flush(self, patience_s: float = _LAST_WAIT_S) -> None:
        """Wait until everything is delivered, but no longer than this."""
        until = time.monotonic() + patience_s
        while self._waiting.unfinished_tasks and time.monotonic() < until:
            time.sleep(0.01)

    def _deliver(self) -> None:
        import httpx

        # The operator has named the endpoint, so it may be on any network; but no proxy of the environment is asked, and no redirect followed.
        with httpx.Client(timeout=_TIMEOUT_S, headers=self._headers, follow_redirects=False, trust_env=False) as client:
            while True:
                event = self._waiting.get()
                try:
                    if time.monotonic() >= self._resume_at:
                        self._post(client, event)
                finally:
                    self._waiting.task_done()

    def _post(self, client: Any, event: Event) -> None:
        import httpx

        began = time.monotonic()
        try:
            # A time-out is per read: an endpoint that sends a byte a second would hold the queue up for ever.
            with client.stream("POST", self._url, content=json.dumps(event, default=str)) as answer:
                if answer.status_code >= 300:
                    self._fail(f"it answers {answer.status_code}")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            self._fail(str(error) or type(error).__name__)
        if time.monotonic() - began > _TIMEOUT_S * 2:
            self._fail("it is slow")

    def _fail(self, why: str) -> None:
        self._resume_at = time.monotonic() + _PAUSE_S
        self._warn(why)

    def _warn(self, why: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            _LOG.warning("OpenLineage events don't reach %s (%s); the run goes on without them", self._shown, why)


class _Several:
    def __init__(self, transports: Sequence[Transport]) -> None:
        self._transports = transports

    def send(self, events: Sequence[Event]) -> None:
        for transport in self._transports:
            transport.send(events)


_made: dict[tuple[str | None, str | None, str | None], Transport] = {}


def transport_of(settings: Settings) -> Transport | None:
    """Where the settings want events to go, one for a process; None if nowhere.

    Raises:
        SettingsError: the endpoint is no HTTP address.
    """
    path = str(settings.openlineage_path) if settings.openlineage_path is not None else None
    api_key = settings.openlineage_api_key.get_secret_value() if settings.openlineage_api_key is not None else None
    wanted = (settings.openlineage_url, path, api_key)
    if wanted[:2] == (None, None):
        return None
    if wanted not in _made:
        found: list[Transport] = []
        if path is not None:
            found.append(FileTransport(path))
        if settings.openlineage_url is not None:
            found.append(HttpTransport(settings.openlineage_url, api_key=api_key))
        _made[wanted] = found[0] if len(found) == 1 else _Several(found)
    return _made[wanted]
