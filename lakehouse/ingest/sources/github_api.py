"""Asking the GitHub API politely: conditional, patient within a limit, and never talking to anybody else."""

import ipaddress
import json
import re
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from lakehouse.errors import SourceError
from lakehouse.settings import Settings

if TYPE_CHECKING:
    import httpx

PUBLIC_API = "https://api.github.com"
_VERSION = "2022-11-28"
_TIMEOUT_S = 30.0
_ATTEMPTS = 5
_FIRST_BACKOFF_S = 1.0
_SECONDARY_WAIT_S = 60.0
_LARGEST_ANSWER_BYTES = 64 << 20
_MOST_REDIRECTS = 5
_NEXT = re.compile(r'<([^<>]*)>\s*;[^,<]*\brel="?next"?', re.IGNORECASE)
_REFUSALS = {
    401: ("was refused", "The token is wrong or has expired: set LAKEHOUSE_GITHUB_TOKEN"),
    403: ("is forbidden", "The token may not read it, or an organisation asks for single sign-on"),
    404: ("does not exist or is private", "Check owner/name; a private repository needs LAKEHOUSE_GITHUB_TOKEN"),
    409: ("is an empty repository", "There is nothing to read until somebody pushes"),
    410: ("is gone", "Remove it from what is followed"),
    422: ("can't be asked for this", "Check the branch and the date"),
    451: ("is unavailable for legal reasons", "Remove it from what is followed"),
}


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer; `data` is None when nothing changed since the ETag that was sent."""

    data: Any
    next_url: str | None
    etag: str | None


class GitHub:
    """A client of one API address. Use as a context manager.

    The token goes to that address only: redirects and Link headers that lead elsewhere are refused.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        max_wait_s: float,
        timeout_s: float = _TIMEOUT_S,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.base = settings.github_api.rstrip("/")
        self._max_wait_s = max_wait_s
        self._timeout_s = timeout_s
        self._clock = clock
        self._sleep = sleep
        self._token = settings.github_token.get_secret_value() if settings.github_token else None
        self._client: httpx.Client | None = None
        self._waited_s = 0.0
        self.requests = 0
        check_address(self.base, has_token=self._token is not None)

    def __enter__(self) -> "GitHub":
        import httpx

        headers = {"accept": "application/vnd.github+json", "x-github-api-version": _VERSION, "user-agent": "lakehouse"}
        if self._token:
            headers["authorization"] = f"Bearer {self._token}"
        self._client = httpx.Client(headers=headers, timeout=self._timeout_s, follow_redirects=False)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._client:
            self._client.close()

    def get(self, url: str, *, etag: str | None = None) -> Answer:
        """The JSON at this address, after as many attempts and as much waiting as are allowed.

        Raises:
            SourceError: it can't be had; says why, and when to come back if the rate limit is used up.
        """
        headers = {"if-none-match": etag} if etag else {}
        for _ in range(_MOST_REDIRECTS + 1):
            response, body = self._patiently(url, headers)
            if response.status_code == 304:
                return Answer(None, None, etag)
            if response.is_redirect:
                url = self._own(urljoin(url, response.headers["location"]))
                continue
            if response.status_code != 200:
                raise self._refused(url, response.status_code, body)
            return Answer(json.loads(body), self._next(response.headers), response.headers.get("etag"))
        raise SourceError(_named(url), f"redirects more than {_MOST_REDIRECTS} times")

    def _patiently(self, url: str, headers: Mapping[str, str]) -> "tuple[httpx.Response, bytes]":
        """Ask until the answer is final; waits for the rate limit don't count as attempts."""
        failures: list[str] = []
        while True:
            try:
                response, body = self._once(url, headers)
            except _Unusable as error:
                failures.append(str(error))
            else:
                wait_s = self._limited(response, body)
                if wait_s is not None:
                    self._wait_for_limit(url, wait_s)
                    continue
                if response.status_code < 500:
                    return response, body
                failures.append(f"status {response.status_code}")
            if len(failures) == _ATTEMPTS:
                fix = "Try again later: what was read so far is kept and the walk goes on from there"
                raise SourceError(_named(url), f"failed {_ATTEMPTS} times", found=failures[-1], fix=fix)
            self._sleep(_FIRST_BACKOFF_S * 2 ** (len(failures) - 1))

    def _once(self, url: str, headers: Mapping[str, str]) -> "tuple[httpx.Response, bytes]":
        import httpx

        assert self._client, "use the client as a context manager"  # noqa: S101
        self.requests += 1
        deadline = time.monotonic() + 4 * self._timeout_s
        body = bytearray()
        try:
            with self._client.stream("GET", url, headers=dict(headers)) as response:
                for part in response.iter_bytes():
                    body += part
                    if len(body) > _LARGEST_ANSWER_BYTES:
                        raise SourceError(_named(url), "gave too long an answer", expected=f"at most {_LARGEST_ANSWER_BYTES} bytes")
                    # The client's timeout is between two parts; a server that drips must not hold us for ever.
                    if time.monotonic() > deadline:
                        raise _Unusable("the answer took too long")
        except httpx.TimeoutException as error:
            raise _Unusable("no answer in time") from error
        except httpx.InvalidURL as error:
            raise SourceError(_named(url), "is not an address", found=str(error)) from error
        except httpx.HTTPError as error:
            raise _Unusable(str(error) or type(error).__name__) from error
        if response.status_code == 200:
            try:
                json.loads(body)
            except ValueError as error:
                raise _Unusable("an answer that is not JSON") from error
        return response, bytes(body)

    def _limited(self, response: "httpx.Response", body: bytes) -> float | None:
        """How long the API asks us to wait; None when the answer is not about limits."""
        if response.status_code not in {403, 429}:
            return None
        retry_after = response.headers.get("retry-after", "")
        if retry_after:
            return self._until(retry_after)
        reset = response.headers.get("x-ratelimit-reset", "")
        if response.headers.get("x-ratelimit-remaining") == "0" and reset.isdigit():
            return max(float(reset) - self._clock(), 0.0) + 1.0
        if response.status_code == 429 or b"secondary rate limit" in body.lower():
            return _SECONDARY_WAIT_S
        return None

    def _until(self, retry_after: str) -> float:
        """Seconds, from seconds or a date."""
        if retry_after.isdigit():
            return float(retry_after)
        try:
            return max(parsedate_to_datetime(retry_after).timestamp() - self._clock(), 0.0) + 1.0
        except ValueError:
            return _SECONDARY_WAIT_S

    def _wait_for_limit(self, url: str, wait_s: float) -> None:
        self._waited_s += wait_s
        if self._waited_s > self._max_wait_s:
            until = datetime.fromtimestamp(self._clock() + wait_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
            fix = f"Run again after {until}: it goes on from the last page" + (
                "" if self._token else ". A token (LAKEHOUSE_GITHUB_TOKEN) has a far higher limit"
            )
            raise SourceError(
                _named(url),
                "rate limit is used up",
                expected=f"a wait of at most {self._max_wait_s:.0f} s",
                found=f"{wait_s:.0f} s",
                fix=fix,
            )
        self._sleep(wait_s)

    def _next(self, headers: Mapping[str, str]) -> str | None:
        found = _NEXT.search(headers.get("link", ""))
        return self._own(urljoin(self.base + "/", found[1])) if found else None

    def _own(self, url: str) -> str:
        """The address, if it belongs to the API we were told to use."""
        if _origin(url) != _origin(self.base):
            raise SourceError(_named(url), "is another server than the API's", expected=_origin(self.base), fix="Nothing was sent to it")
        return url

    def own(self, url: str) -> str:
        """The address, if it belongs to this API.

        Raises:
            SourceError: it belongs to another server.
        """
        return self._own(url)

    def _refused(self, url: str, status: int, body: bytes) -> SourceError:
        problem, fix = _REFUSALS.get(status, ("gave an unexpected answer", None))
        try:
            said = json.loads(body).get("message")
        except (ValueError, AttributeError):
            said = None
        return SourceError(_named(url), problem, found=f"status {status}" + (f": {said}" if said else ""), fix=fix)


class _Unusable(Exception):
    """No answer, or half of one: worth another attempt."""


def check_address(base: str, *, has_token: bool) -> None:
    """Refuse an API address that a token must not go to.

    The public API may not resolve to a private address; an address that was set on purpose may be private.

    Raises:
        SourceError: no web address, a token over plain HTTP, or the public name leads into a private network.
    """
    parts = urlsplit(base)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.password:
        raise SourceError(f"LAKEHOUSE_GITHUB_API {_named(base)}", "is not a web address", expected="https://host[/path]")
    if parts.scheme == "http" and has_token and not _is_loopback(parts.hostname):
        raise SourceError(f"LAKEHOUSE_GITHUB_API {base}", "would send the token unencrypted", expected="https://")
    if base != PUBLIC_API:
        return
    try:
        found = socket.getaddrinfo(parts.hostname, parts.port or 443, type=socket.SOCK_STREAM)
    except OSError:
        return  # A proxy may know the name; without one the request itself says so.
    for *_, address in found:
        if not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_global:
            raise SourceError(f"{parts.hostname}", "resolves to a private address", found=str(address[0]), fix="Check the name server")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}:{parts.port or {'https': 443, 'http': 80}.get(parts.scheme)}"


def _named(url: str) -> str:
    """The address without credentials, as errors show it."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
