"""What goes wrong, as HTTP tells it: a status, and a document of the kind `application/problem+json` (RFC 9457)."""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lakehouse.errors import (
    ConcurrentWrite,
    ErasedMeanwhile,
    FeatureError,
    FeatureViewNotFound,
    LakehouseError,
    MachineError,
    ServingBlocked,
    StorageError,
    TableNotFound,
    ViewNotOnline,
    ViewRefused,
)
from lakehouse.locks import LockError

PROBLEM = "application/problem+json"
JSON = "application/json"


class RequestRefused(LakehouseError):
    """A request can't be answered as it is.

    Args:
        status: of the answer.
        subject: what of the request.
        problem: what is wrong with it.
        headers: to send with the answer.
        others: as every error of the library has.
    """

    def __init__(self, status: int, subject: str, problem: str, *, headers: Mapping[str, str] | None = None, **others: str | None) -> None:
        self.status = status
        self.headers = dict(headers or {})
        super().__init__(subject, problem, **others)


class RequestInvalid(RequestRefused):
    """A request is not what the interface takes."""

    def __init__(self, reasons: Sequence[str]) -> None:
        self.reasons = tuple(reasons)
        super().__init__(422, "the request", "is not what this takes", found="; ".join(reasons), fix="See /v1/openapi.json")

    def as_dict(self) -> dict[str, Any]:
        """As of every error, with the reasons one by one."""
        return {**super().as_dict(), "reasons": list(self.reasons)}


class Unexpected(LakehouseError):
    """An error of the server, which its log tells more of."""


# The first that an error is one of decides. What the caller can't mend by asking otherwise is no 4xx, but for the state of a view:
# a 5xx would have a balancer take the whole server out for one of its views.
_STATUS: tuple[tuple[type[LakehouseError], int], ...] = (
    (FeatureViewNotFound, 404),
    (ViewNotOnline, 409),
    (ServingBlocked, 409),
    (ViewRefused, 422),
    (FeatureError, 422),
    (TableNotFound, 404),
    (ConcurrentWrite, 409),
    (ErasedMeanwhile, 409),
    (StorageError, 503),
    (MachineError, 503),
    (LockError, 503),
)
_AGAIN_S = "5"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer.

    Attributes:
        status: of HTTP.
        body: its bytes.
        media_type: of the body.
        headers: beside those of the body.
    """

    status: int
    body: bytes
    media_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


def status_of(error: LakehouseError) -> int:
    """The status that says what an error means to whoever asked."""
    from lakehouse.features.online import OnlineStoreFull

    if isinstance(error, RequestRefused):
        return error.status
    if isinstance(error, OnlineStoreFull):
        return 507
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def problem_document(error: LakehouseError) -> dict[str, Any]:
    """The document of an error: what every error of the library has, under the names that HTTP has for it."""
    told = error.as_dict()
    title = (type(error).__doc__ or type(error).__name__).splitlines()[0].rstrip(".")
    document: dict[str, Any] = {
        "type": f"urn:lakehouse:error:{told.pop('error')}",
        "title": title,
        "status": status_of(error),
        "detail": told.pop("message"),
        **told,
    }
    return document


def problem(error: LakehouseError) -> Reply:
    """The answer that an error is."""
    from lakehouse.serving.wire import encoded

    document = problem_document(error)
    headers = dict(error.headers) if isinstance(error, RequestRefused) else {}
    if document["status"] == 503:
        headers["Retry-After"] = _AGAIN_S
    return Reply(document["status"], encoded(document), PROBLEM, headers)


UNEXPECTED = Unexpected("the server", "failed", fix="This is a bug: its log has the traceback")


def known(error: Exception) -> LakehouseError | None:
    """The error as one of the library's: of itself, of the machine, or of a file that an engine could not read; None for a bug."""
    if isinstance(error, LakehouseError):
        return error
    if isinstance(error, OSError):
        from lakehouse.cli.command import refused_by_the_machine

        return refused_by_the_machine(error)
    if isinstance(error, sqlite3.Error):
        return StorageError("a database of the home", "can't be used", found=str(error))
    from lakehouse.tables.damage import explained

    return explained(error)
