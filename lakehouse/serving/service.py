"""What the Feature API does, whatever carries its requests."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from pydantic import ValidationError

from lakehouse.errors import FeatureError, LakehouseError
from lakehouse.pipeline import feature_documents as documents
from lakehouse.serving.declared import DeclaredViews
from lakehouse.serving.documents import Push, Retrieval, Scalar
from lakehouse.serving.problems import Reply, RequestInvalid, RequestRefused
from lakehouse.serving.together import Together
from lakehouse.serving.wire import encoded_each
from lakehouse.settings import Settings

if TYPE_CHECKING:
    from lakehouse.features import FeatureView
    from lakehouse.features.online import OnlineFeatures
    from lakehouse.pipeline.workspace import Workspace
    from lakehouse.transform.registered import ViewDeclaration

# From so many rows on an answer takes longer than other requests should wait for.
_FEW = 8
_THREADS = 4
_MOST = 20
_T = TypeVar("_T")


class _Asked(NamedTuple):
    """Entities, and which features of which views; as they were named, and as they were found."""

    views: tuple[str, ...]
    features: tuple[str, ...]
    found: "Sequence[FeatureView]"
    entities: Sequence[Mapping[str, Scalar]]


class FeatureService:
    """The features of one home. Made once in a process; what it opens it opens when it is first asked."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.views = DeclaredViews(settings)
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="features")
        self._looking: asyncio.Task[None] | None = None
        self._together: Together[_Asked, Reply] = Together(self._answers)

    @cached_property
    def online(self) -> "OnlineFeatures":
        """The online store."""
        from lakehouse.pipeline.features import open_online

        return open_online(self._workspace)

    @property
    def _workspace(self) -> "Workspace":
        return self.views.workspace

    def close(self) -> None:
        """Let go of threads and connections."""
        self._threads.shutdown(wait=True)
        if "online" in self.__dict__:
            self.online.store.close()

    # ---- retrieval

    async def retrieve(self, body: bytes) -> Reply:
        """Answer a `Retrieval`.

        Raises:
            LakehouseError: it can't be answered.
        """
        try:
            asked = Retrieval.model_validate_json(body)
        except ValidationError as error:
            raise invalid(error) from error
        return await self.features(asked.views, asked.entities, asked.features)

    async def retrieve_one(self, view: str, entity: str, features: Sequence[str]) -> Reply:
        """The features of an entity that is written as on the command line.

        Raises:
            LakehouseError: it can't be answered.
        """
        (found,) = await self._found([view])
        state = await self._in_thread(lambda: self.online.state(found.name, now=_now()))
        columns = [column.name for column in state.entity]
        return await self.features([view], [documents.entity_of(entity, columns, subject="entity")], features)

    async def features(self, views: Sequence[str], entities: Sequence[Mapping[str, Scalar]], features: Sequence[str]) -> Reply:
        """The features of entities now.

        Raises:
            LakehouseError: they can't be told.
        """
        most = self.settings.serving_entities
        if len(entities) > most:
            raise RequestRefused(
                422,
                "entities",
                "are too many for one request",
                expected=f"at most {most}",
                found=str(len(entities)),
                fix="Ask several times, or raise LAKEHOUSE_SERVING_ENTITIES",
            )
        found = await self._found(views)
        asked = _Asked(tuple(views), tuple(features), found, entities)
        if len(entities) * len(found) <= _FEW:
            return await self._together.ask(asked)
        (reply,) = await self._in_thread(lambda: self._answer([asked], _now()))
        return reply

    async def _answers(self, asked: "Sequence[_Asked]") -> list[Reply | Exception]:
        now = _now()
        if self._is_at_hand(asked, now):
            return self._each(asked, now)
        return await self._in_thread(lambda: self._each(asked, now))

    def _is_at_hand(self, asked: "Sequence[_Asked]", now: datetime) -> bool:
        """Whether answers need no waiting: a file of this machine takes less time than to hand over to a thread, a server more."""
        if self.settings.online_url is None:
            return True
        try:
            return all(self.online.keeps(view.name, one.entities, now=now) for one in asked for view in one.found)
        except LakehouseError:
            return False

    def _each(self, asked: "Sequence[_Asked]", now: datetime) -> list[Reply | Exception]:
        """Answers to several who may have asked for different views."""
        replies: dict[int, Reply | Exception] = {}
        alike: dict[tuple[tuple[str, ...], tuple[str, ...]], list[int]] = {}
        for place, one in enumerate(asked):
            alike.setdefault((one.views, one.features), []).append(place)
        for places in alike.values():
            try:
                replies |= zip(places, self._answer([asked[place] for place in places], now), strict=True)
            except FeatureError as error:
                if len(places) == 1:
                    replies[places[0]] = error
                else:
                    # Only who asked for what is not there is told so.
                    replies |= {place: self._each([asked[place]], now)[0] for place in places}
            except LakehouseError as error:
                replies |= dict.fromkeys(places, error)
        return [replies[place] for place in range(len(asked))]

    def _answer(self, alike: "Sequence[_Asked]", now: datetime) -> list[Reply]:
        """Answers to several who asked for the same features of the same views."""
        from lakehouse.features.online import answer

        entities = [entity for one in alike for entity in one.entities]
        told = answer(self.online, alike[0].found, entities, now=now, features=alike[0].features)
        ends = list(accumulate(len(one.entities) for one in alike))
        return [Reply(200, body) for body in encoded_each(told.about(), map(told.of, [0, *ends], ends))]

    async def _found(self, names: Sequence[str]) -> "list[FeatureView]":
        if self.views.is_new:
            await self._in_thread(self.views.look)
        if self.views.is_due and self._looking is None:
            # Who asks now is answered with what is known.
            self._looking = asyncio.ensure_future(self._look())
        found = [self.views.known(name) for name in names]
        views = [view for view in found if view is not None]
        if len(views) < len(found):
            return await self._in_thread(lambda: [self.views.find(name) for name in names])
        return views

    async def _look(self) -> None:
        try:
            await self._in_thread(self.views.look)
        finally:
            self._looking = None

    async def _in_thread(self, function: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function)

    # ---- views

    def list_views(self) -> dict[str, Any]:
        """Every view.

        Raises:
            LakehouseError: they can't be told.
        """
        from lakehouse.pipeline.features import overview

        views = self.views.current()
        return {"views": [documents.summary(overview(self._workspace, self.online, view)) for view in views.values()]}

    def show(self, name: str) -> dict[str, Any]:
        """A view with its features.

        Raises:
            LakehouseError: it can't be told.
        """
        from lakehouse.pipeline.features import overview

        view = self.views.find(name)
        return documents.description(self._workspace, self.views.current(), overview(self._workspace, self.online, view))

    def history(self, name: str, limit: int) -> dict[str, Any]:
        """The versions of a view's table.

        Raises:
            LakehouseError: they can't be told.
        """
        from lakehouse.pipeline.overview import table_history

        view = self.views.find(name)
        return documents.history(view, table_history(self._workspace.lake, view.table, limit=limit))

    def lineage(self, name: str, *, version: int | None, depth: int | None, files: int) -> dict[str, Any]:
        """What a view's table was made from, back to the files.

        Raises:
            LakehouseError: it can't be told.
        """
        from lakehouse.observability.lineage import trace

        view = self.views.find(name)
        at = view.table if version is None else f"{view.table}@{version}"
        found = trace(self._workspace.lake, self._workspace.contracts, at, settings=self.settings, depth=depth).as_dict()
        return {"view": view.name, **found, "files": found["files"][:files], "file_count": len(found["files"])}

    def search(self, text: str) -> dict[str, Any]:
        """Features by name, description, view and entity.

        Raises:
            LakehouseError: they can't be told.
        """
        from lakehouse.pipeline.features import search

        self.views.current()
        return documents.findings(text, search(self._workspace, text))

    # ---- what changes something

    def push(self, name: str, asked: Push) -> dict[str, Any]:
        """Put a row into the online store before its table has it.

        Raises:
            LakehouseError: it can't be put there.
        """
        from lakehouse.features.online.capacity import require_room
        from lakehouse.features.online.rows import from_json, microseconds
        from lakehouse.pipeline.features import limit_bytes

        self._require("pushes", "LAKEHOUSE_SERVING_PUSHES", is_on=self.settings.serving_pushes)
        view = self.views.known(name) or self.views.find(name)
        now = _now()
        types = {feature.name: feature for feature in self.online.state(view.name, now=now).features}
        row = {column: from_json(types[column], value) if column in types else value for column, value in asked.row.items()}
        require_room(self.online.store, limit_bytes(self._workspace), now_us=microseconds(now))
        return {"view": view.name, "taken": self.online.push(view.name, row, event_time=asked.event_time, now=now)}

    def register(self, name: str, declaration: "ViewDeclaration", *, dry_run: bool) -> dict[str, Any]:
        """Declare a feature view, or declare it anew.

        Raises:
            LakehouseError: it is refused.
        """
        from lakehouse.pipeline.registering import register_view

        self._require("registers", "LAKEHOUSE_SERVING_REGISTERS", is_on=self.settings.serving_registers)
        with self._told("features register", name):
            done = register_view(self._workspace, name, declaration, dry_run=dry_run)
        return documents.registration(done, dry_run=dry_run)

    def unregister(self, name: str) -> dict[str, Any]:
        """Take a declaration back.

        Raises:
            LakehouseError: it can't be.
        """
        from lakehouse.pipeline.registering import unregister_view

        self._require("registers", "LAKEHOUSE_SERVING_REGISTERS", is_on=self.settings.serving_registers)
        with self._told("features unregister", name):
            unregister_view(self._workspace, name)
        return {"view": name, "removed": True}

    @staticmethod
    def _require(what: str, setting: str, *, is_on: bool) -> None:
        if not is_on:
            raise RequestRefused(403, "the Feature API", f"{what} nothing here", fix=f"Set {setting}=true where it runs")

    @contextmanager
    def _told(self, action: str, name: str) -> Iterator[None]:
        """Record who changed what, and how it ended, as the command line does."""
        outcome = "done"
        try:
            yield
        except LakehouseError as error:
            outcome = type(error).__name__
            raise
        finally:
            if self.settings.audit and self.settings.home_dir.is_dir():
                from lakehouse.privacy.audit import Audit
                from lakehouse.tables.stamp import machine_user

                facts = {"through": "Feature API"}
                tables = {f"features.{name}": None} if name.isidentifier() else {}
                Audit(self.settings).record(who=machine_user(), action=action, tables=tables, outcome=outcome, now=_now(), facts=facts)

    # ---- health

    def health(self) -> dict[str, Any]:
        """How the server is: whether the store can be reached, and which views are not served, or not for long."""
        from lakehouse.features.online import ViewState

        now = _now()
        try:
            states = self.online.store.states()
        except LakehouseError as error:
            return {"status": "unavailable", "reasons": [str(error)], "views": []}
        if self.views.is_due:
            self.views.look()
        reasons = [str(self.views.problem)] if self.views.problem is not None else []
        views: list[dict[str, Any]] = []
        for name, text in states.items():
            state = ViewState.of(text)
            if state is None:
                continue
            confirmed = datetime.fromtimestamp(state.synced_us / 1e6, UTC)
            stale_s = max(0.0, (now - confirmed).total_seconds())
            reason = state.blocked
            if reason is None and stale_s > self.settings.online_ttl_h * 3600:
                reason = f"nothing has confirmed it for more than {self.settings.online_ttl_h:g} h"
            views.append(
                {
                    "view": name,
                    "version": state.version,
                    "confirmed_at": confirmed,
                    "staleness_s": stale_s,
                    "served": reason is None,
                    "reason": reason,
                }
            )
        reasons += [f"{one['view']}: {one['reason']}" for one in views if not one["served"]]
        return {"status": "degraded" if reasons else "ready", "reasons": reasons, "views": views}


def invalid(error: ValidationError) -> RequestInvalid:
    """What is wrong with a request, without what was in it: it may be somebody's."""
    reasons = dict.fromkeys(_reason(one["loc"], one["msg"]) for one in error.errors(include_url=False, include_input=False))
    return RequestInvalid(list(reasons)[:_MOST])


def _reason(place: Sequence[int | str], message: str) -> str:
    if place[:1] == ("entities",) and len(place) > 3:
        # Of each of the types that it could have been there is a line.
        return f"{'.'.join(map(str, place[:3]))}: Input should be text, a whole number of 64 bits, a finite number, or true or false"
    return f"{'.'.join(map(str, place)) or 'body'}: {message}"


def _now() -> datetime:
    return datetime.now(UTC)
