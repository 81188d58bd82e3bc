"""What stands before the Feature API: who may ask, how much a request may hold, and the short way for the one request that must be fast.

It is plain ASGI and the outermost layer: nothing of a request that is refused here is parsed, and retrieval, which is nearly all of the
traffic, does not pay for routing and dependency resolution (139 microseconds of CPU a request through FastAPI's layers, 47 without).
"""

import asyncio
import hashlib
import ipaddress
import logging
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from functools import lru_cache
from hmac import compare_digest
from typing import Any

from lakehouse.serving.problems import JSON, UNEXPECTED, Reply, RequestRefused, known, problem

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Shortcut = Callable[[bytes], Awaitable[Reply]]

AUTHORISED = "lakehouse.authorised"
"""In the scope: whether the request had a key, or needs none."""
_BODY_S = 30.0
_WITHOUT_BODY = frozenset({"GET", "HEAD", "OPTIONS", "DELETE"})
_HOST = re.compile(r"(\[[^\[\]@]+\]|[^:\[\]@]+)(?::[0-9]*)?")
_LOG = logging.getLogger("lakehouse.serving")


class Guard:
    """Lets requests through to the application.

    Args:
        application: answers them.
        keys: of which each request has to carry one, as `Authorization: Bearer` or `X-API-Key`; where there are none, requests have to
            be for this machine by name, so that no web page can reach it through a name of its own (DNS rebinding).
        body_bytes: what a body may hold.
        open_paths: need no key.
        shortcuts: what answers a path's POST by itself, given its body.
    """

    def __init__(
        self,
        application: Application,
        *,
        keys: Sequence[str],
        body_bytes: int,
        open_paths: frozenset[str] = frozenset(),
        shortcuts: Mapping[str, Shortcut],
    ) -> None:
        self._application = application
        self._digests = [_digest(key.encode()) for key in keys]
        self._body_bytes = body_bytes
        self._open = open_paths
        self._shortcuts = dict(shortcuts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        try:
            reply = await self._answered(scope, receive, send)
        except RequestRefused as refusal:
            # What is left of the body is not read.
            reply = problem(refusal)
            await respond(send, Reply(reply.status, reply.body, reply.media_type, {**reply.headers, "Connection": "close"}))
            return
        if reply is not None:
            await respond(send, reply)

    async def _answered(self, scope: Scope, receive: Receive, send: Send) -> Reply | None:
        """The answer; None where the application has sent it."""
        method: str = scope["method"]
        path: str = scope["path"].removeprefix(scope.get("root_path", ""))
        headers = _headers(scope)
        scope[AUTHORISED] = self._admitted(headers, is_open=path in self._open)
        if method in _WITHOUT_BODY:
            await self._application(scope, receive, send)
            return None
        body = await self._body(headers, receive)
        shortcut = self._shortcuts.get(path) if method == "POST" else None
        if shortcut is not None:
            return await answered(shortcut, body)
        await self._application(scope, _once(body, receive), send)
        return None

    def _admitted(self, headers: Mapping[bytes, bytes], *, is_open: bool) -> bool:
        if not self._digests:
            host = headers.get(b"host", b"").decode("latin-1")
            if not is_this_machine(_name_in(host)):
                raise RequestRefused(
                    403,
                    "header Host",
                    "names another machine",
                    expected="127.0.0.1, localhost or [::1]",
                    found=host or "none",
                    fix="Set LAKEHOUSE_SERVING_KEYS to serve others",
                )
            return True
        kind, _, token = headers.get(b"authorization", b"").partition(b" ")
        given = token.strip() if kind.lower() == b"bearer" else headers.get(b"x-api-key", b"")
        found = _digest(given)
        # All of them are compared, whichever it is.
        has_key = any([compare_digest(found, digest) for digest in self._digests]) and bool(given)
        if not has_key and not is_open:
            raise RequestRefused(
                401,
                "the request",
                "has no key of this server" if not given else "has a key that is none of this server's",
                expected="Authorization: Bearer KEY, or X-API-Key: KEY",
                fix="Ask whoever runs the server for one",
                headers={"WWW-Authenticate": "Bearer"},
            )
        return has_key

    async def _body(self, headers: Mapping[bytes, bytes], receive: Receive) -> bytes:
        announced = headers.get(b"content-length", b"")
        if announced.isdigit() and int(announced) > self._body_bytes:
            raise self._too_large(announced.decode())
        message = await receive()
        body, more = message.get("body", b""), message.get("more_body", False)
        if more or message["type"] != "http.request" or len(body) > self._body_bytes:
            # What comes with the head, as it nearly always does, needs no clock.
            body = await self._rest(message, receive)
        media_type = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        # Other kinds can be sent by any web page without asking.
        if body and media_type != JSON.encode():
            raise RequestRefused(415, "the request's body", "is not JSON", expected=JSON, found=media_type.decode("latin-1") or "no type")
        return body

    async def _rest(self, message: MutableMapping[str, Any], receive: Receive) -> bytes:
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(_BODY_S):
                while True:
                    if message["type"] != "http.request":
                        raise RequestRefused(400, "the request", "ended before its body did")
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > self._body_bytes:
                        raise self._too_large(f"more than {self._body_bytes}")
                    if not message.get("more_body", False):
                        return b"".join(parts)
                    message = await receive()
        except TimeoutError:
            raise RequestRefused(408, "the request's body", "did not arrive in time", expected=f"{_BODY_S:g} s") from None

    def _too_large(self, found: str) -> RequestRefused:
        return RequestRefused(
            413,
            "the request's body",
            "is too large",
            expected=f"at most {self._body_bytes} bytes",
            found=found,
            fix="Ask for fewer entities at once, or raise LAKEHOUSE_SERVING_BODY_KB",
        )


async def answered(shortcut: Shortcut, body: bytes) -> Reply:
    """What a handler answers; what it raises is a problem, and what it should not have raised is told to the log alone."""
    try:
        return await shortcut(body)
    except Exception as error:
        return failed(error)


def failed(error: Exception) -> Reply:
    """The answer that an error is; a bug goes to the log with its traceback, and the caller is told that it did."""
    told = known(error)
    if told is None:
        _LOG.error("A request failed", exc_info=error)
    return problem(told or UNEXPECTED)


async def respond(send: Send, reply: Reply) -> None:
    """Send an answer."""
    headers = [
        (b"content-type", reply.media_type.encode()),
        (b"content-length", str(len(reply.body)).encode()),
        # They are somebody's, and old within seconds.
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
    ]
    if reply.headers:
        headers += [(name.lower().encode(), value.encode()) for name, value in reply.headers.items()]
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})


@lru_cache
def is_this_machine(host: str) -> bool:
    """Whether a name or address is that of the machine itself, for itself."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.removeprefix("[").removesuffix("]")).is_loopback
    except ValueError:
        return False


@lru_cache
def _name_in(host: str) -> str:
    """The header's value without the port; what has no such form stays whole, and is no machine's name."""
    found = _HOST.fullmatch(host)
    return found[1] if found else host


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _headers(scope: Scope) -> dict[bytes, bytes]:
    """The headers, each with its first value: a second one is for whoever would be deceived by it."""
    return dict(reversed(scope["headers"]))


def _once(body: bytes, receive: Receive) -> Receive:
    """Gives the body that was read, then what comes after it."""
    waiting = [body]

    async def again() -> MutableMapping[str, Any]:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return again
