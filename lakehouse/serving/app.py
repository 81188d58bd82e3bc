"""The Feature API as an application, and the process that serves it."""

import gc
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from lakehouse.errors import MissingExtra, SettingsError
from lakehouse.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

    from lakehouse.serving.guard import Guard
    from lakehouse.serving.service import FeatureService

_SHORTEST_KEY = 16
_BACKLOG = 2048
_END_S = 10
# Requests leave no circles behind, and the rows that are kept are looked through each time: by default once a second, for 5 ms.
_GARBAGE = (20_000, 20, 50)
# A thread that computes would keep the event loop waiting for 5 ms, which is all that an answer may take.
_SWITCH_S = 0.0005


def feature_api(service: "FeatureService") -> "FastAPI":
    """The application, open to everybody: to be mounted in one that says who may ask, or stood before by `guarded`.

    Raises:
        MissingExtra: FastAPI is not installed.
    """
    _require_extra()
    from importlib.metadata import version

    from fastapi import FastAPI, Request, Response
    from starlette.exceptions import HTTPException

    from lakehouse.serving import documents
    from lakehouse.serving.guard import failed
    from lakehouse.serving.problems import RequestRefused, problem
    from lakehouse.serving.routes import feature_routes

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    api = FastAPI(
        title="Lakehouse Feature API",
        version=version("lakehouse"),
        description="Features of entities as they are served now, and what is known of feature views.",
        openapi_url="/v1/openapi.json",
        # Their pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    api.include_router(feature_routes(service))

    async def told(_: Request, error: Exception) -> Response:
        reply = (
            problem(RequestRefused(error.status_code, "the request", str(error.detail)))
            if isinstance(error, HTTPException)
            else failed(error)
        )
        headers = dict(getattr(error, "headers", None) or {}) | dict(reply.headers)
        return Response(reply.body, reply.status, headers, reply.media_type)

    api.add_exception_handler(HTTPException, told)
    api.add_exception_handler(Exception, told)
    openapi: Callable[[], dict[str, Any]] = api.openapi

    def described() -> dict[str, Any]:
        if api.openapi_schema is None:
            schema = openapi()
            components = schema.setdefault("components", {}).setdefault("schemas", {})
            for one in (documents.Retrieval, documents.Problem):
                made = one.model_json_schema(ref_template="#/components/schemas/{model}")
                components |= {**made.pop("$defs", {}), one.__name__: made}
            schema["components"]["securitySchemes"] = {
                "bearer": {"type": "http", "scheme": "bearer"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            }
            schema["security"] = [{"bearer": []}, {"key": []}, {}]
            api.openapi_schema = schema
        return api.openapi_schema

    api.openapi = described
    return api


def guarded(api: "FastAPI", service: "FeatureService") -> "Guard":
    """The application behind what the settings say of keys and limits.

    Raises:
        SettingsError: a key is too short to be one.
    """
    from lakehouse.serving.guard import Guard
    from lakehouse.serving.routes import OPEN, RETRIEVAL

    return Guard(
        api,
        keys=keys_of(service.settings),
        body_bytes=service.settings.serving_body_kb * 1024,
        open_paths=OPEN,
        shortcuts={RETRIEVAL: service.retrieve},
    )


def keys_of(settings: Settings) -> tuple[str, ...]:
    """The keys that requests may carry.

    Raises:
        SettingsError: one is too short to be one.
    """
    text = settings.serving_keys.get_secret_value() if settings.serving_keys else ""
    keys = tuple(key.strip() for key in text.split(",") if key.strip())
    if any(len(key) < _SHORTEST_KEY or not key.isascii() or not key.isprintable() for key in keys):
        raise SettingsError(
            "LAKEHOUSE_SERVING_KEYS",
            "holds what is too weak for a key",
            expected=f"at least {_SHORTEST_KEY} printable ASCII characters each",
            fix="Make one with: python -c 'import secrets; print(secrets.token_urlsafe(32))'",
        )
    return keys


def require_safe(settings: Settings) -> None:
    """Let a server begin.

    Raises:
        SettingsError: others could reach it, and it asks nobody for a key; or a key is none.
    """
    from lakehouse.serving.guard import is_this_machine

    if not keys_of(settings) and not is_this_machine(settings.serving_host):
        raise SettingsError(
            "LAKEHOUSE_SERVING_HOST",
            "would let everybody on the network read features",
            expected="127.0.0.1, or keys in LAKEHOUSE_SERVING_KEYS",
            found=settings.serving_host,
            fix="Set LAKEHOUSE_SERVING_KEYS to a key that each request has to carry",
        )


def application() -> "Guard":
    """What a worker process serves, by its environment.

    Raises:
        SettingsError: a setting is wrong.
        MissingExtra: FastAPI is not installed.
    """
    from lakehouse.serving.service import FeatureService

    settings = Settings.load()
    require_safe(settings)
    service = FeatureService(settings)
    served = guarded(feature_api(service), service)
    service.views.look()
    sys.setswitchinterval(_SWITCH_S)
    # What is there from the beginning stays: looking through it for garbage again and again would be felt in the slowest answers.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GARBAGE)
    return served


@dataclass(frozen=True, slots=True)
class Listening:
    """A server that is about to begin: it has its address."""

    settings: Settings
    socket: socket.socket
    url: str

    def serve(self) -> None:
        """Answer requests until the process is told to end; requests that it has are answered first."""
        import uvicorn

        os.environ.update(
            self.settings.child_environment(),
            LAKEHOUSE_SERVING_HOST=self.settings.serving_host,
            LAKEHOUSE_SERVING_WORKERS=str(self.settings.serving_workers),
        )
        config = uvicorn.Config(
            f"{__name__}:{application.__name__}",
            factory=True,
            workers=self.settings.serving_workers,
            log_level="warning",
            # Who is asked about is nobody's business but the caller's.
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ws="none",
            backlog=_BACKLOG,
            timeout_graceful_shutdown=_END_S,
        )
        if self.settings.serving_workers == 1:
            uvicorn.Server(config).run(sockets=[self.socket])
        else:
            from uvicorn.supervisors import Multiprocess

            Multiprocess(config, sockets=[self.socket]).run()


def listen(settings: Settings) -> Listening:
    """Take the address that the settings say.

    Raises:
        SettingsError: it is not safe, or can't be had.
        MissingExtra: FastAPI is not installed.
    """
    require_safe(settings)
    _require_extra()
    host = settings.serving_host
    try:
        family = socket.getaddrinfo(host, settings.serving_port, type=socket.SOCK_STREAM)[0][0]
        made = socket.create_server((host, settings.serving_port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise SettingsError(
            f"address {host}:{settings.serving_port}",
            "can't be listened on",
            found=error.strerror or str(error),
            fix="Choose another with LAKEHOUSE_SERVING_HOST and LAKEHOUSE_SERVING_PORT, or with --host and --port",
        ) from error
    made.set_inheritable(True)
    port = made.getsockname()[1]
    return Listening(settings, made, f"http://{f'[{host}]' if ':' in host else host}:{port}")


def _require_extra() -> None:
    missing = [name for name in ("fastapi", "uvicorn") if find_spec(name) is None]
    if missing:
        raise MissingExtra("the Feature API", f"needs {', '.join(missing)}", fix="Install it with: pip install 'lakehouse[serving]'")
