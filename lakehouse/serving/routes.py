"""The Feature API's routes, for an application of their own or for one that has others beside them."""

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from lakehouse.serving import documents as told
from lakehouse.serving.guard import AUTHORISED, failed
from lakehouse.serving.problems import PROBLEM, Reply, RequestRefused, problem
from lakehouse.serving.wire import encoded

if TYPE_CHECKING:
    from fastapi import APIRouter

    from lakehouse.serving.service import FeatureService

RETRIEVAL = "/v1/features"
LIVE, READY = "/v1/health/live", "/v1/health/ready"
OPEN = frozenset({LIVE, READY})
"""Paths that need no key: who restarts a server has none."""
_Named = Annotated[str, Field(max_length=255)]
_View = Annotated[str, Field(max_length=255, description="A feature view; name@2 for one of several versions.")]


def feature_routes(service: "FeatureService") -> "APIRouter":
    """Every route, under /v1. Whoever includes them decides who may ask: see `lakehouse.serving.guard`.

    What only reads from memory or from a file is answered in the event loop; everything else in a thread.
    """
    from fastapi import APIRouter, Query, Request, Response

    from lakehouse.transform.registered import ViewDeclaration

    problems: dict[int | str, dict[str, Any]] = {
        status: {"description": meaning, "content": {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}}
        for status, meaning in _PROBLEMS.items()
    }
    router = APIRouter(route_class=_problem_route(), responses=problems)

    def answer(reply: Reply) -> Response:
        return Response(reply.body, reply.status, dict(reply.headers) | _HEADERS, reply.media_type)

    def document(content: Any, status: int = 200) -> Response:
        return answer(Reply(status, encoded(content)))

    body_of_retrieval = {"required": True, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Retrieval"}}}}

    @router.post(RETRIEVAL, response_model=told.Features, tags=["features"], openapi_extra={"requestBody": body_of_retrieval})
    async def retrieve(request: Request) -> Response:
        """The features of entities, of one or several views, as they are served now."""
        return answer(await service.retrieve(await request.body()))

    @router.get("/v1/views/{view}/features", response_model=told.Features, tags=["features"])
    async def retrieve_one(
        view: _View,
        entity: Annotated[str, Query(max_length=4_000, description="A value, or column=value,column=value.")],
        feature: Annotated[list[_Named] | None, Query(max_length=1_000, description="Only this one; may be repeated.")] = None,
    ) -> Response:
        """The features of one entity."""
        return answer(await service.retrieve_one(view, entity, feature or ()))

    @router.post("/v1/views/{view}/rows", response_model=told.Pushed, tags=["features"])
    def push(view: _View, pushed: told.Push) -> Response:
        """Put one entity's features into the online store before the tables have them. Off by default."""
        return document(service.push(view, pushed))

    @router.get("/v1/views", response_model=told.Views, tags=["views"])
    def list_views() -> Response:
        """Every feature view: whose features, from when, how many, and what the online store has."""
        return document(service.list_views())

    @router.get("/v1/views/{view}", response_model=told.DescribedView, tags=["views"])
    def show_view(view: _View) -> Response:
        """A feature view with its features, what it is made from and who uses it."""
        return document(service.show(view))

    @router.put("/v1/views/{view}", response_model=told.Registered, tags=["views"])
    def register_view(
        view: _View,
        declaration: ViewDeclaration,
        dry_run: Annotated[bool, Query(description="Only find out whether it is valid.")] = False,
    ) -> Response:
        """Register a feature view over a table that dbt builds, or register it anew. Off by default."""
        done = service.register(view, declaration, dry_run=dry_run)
        return document(done, 201 if done["created"] and not dry_run else 200)

    @router.delete("/v1/views/{view}", response_model=told.Unregistered, tags=["views"])
    def unregister_view(view: _View) -> Response:
        """Take a registration back; the table stays. Off by default."""
        return document(service.unregister(view))

    @router.get("/v1/views/{view}/history", response_model=told.History, tags=["views"])
    def view_history(view: _View, limit: Annotated[int, Query(ge=1, le=10_000)] = 100) -> Response:
        """The versions of a view's table, newest first."""
        return document(service.history(view, limit))

    @router.get("/v1/views/{view}/lineage", response_model=told.ViewLineage, tags=["views"])
    def view_lineage(
        view: _View,
        version: Annotated[int | None, Query(ge=0, le=2**31, description="Of the table; default the newest.")] = None,
        depth: Annotated[int | None, Query(ge=0, le=1_000, description="Steps to go back; default all.")] = None,
        files: Annotated[int, Query(ge=0, le=100_000, description="Files to list.")] = 1_000,
    ) -> Response:
        """What a view's table was made from: table versions, models, and the files they came from."""
        return document(service.lineage(view, version=version, depth=depth, files=files))

    @router.get("/v1/search", response_model=told.Findings, tags=["views"])
    def search(q: Annotated[str, Query(min_length=1, max_length=500, description="Words of a name or description.")]) -> Response:
        """Features whose name, description, view or entity has every word; those that are called so come first."""
        return document(service.search(q))

    @router.get(LIVE, response_model=told.Health, tags=["health"])
    async def live() -> Response:
        """Whether the process answers."""
        return document({"status": "live", "reasons": [], "views": []})

    @router.get(READY, response_model=told.Health, tags=["health"], responses={503: {"model": told.Health}})
    def ready(request: Request) -> Response:
        """Whether the online store can be reached, and which views are not served; 503 where none can be."""
        found = service.health()
        if not request.scope.get(AUTHORISED, True):
            found = {"status": found["status"], "reasons": [], "views": []}
        return document(found, 503 if found["status"] == "unavailable" else 200)

    return router


_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_PROBLEMS = {
    401: "No key, where one is needed.",
    403: "Switched off, or asked for under another machine's name.",
    404: "There is no such view.",
    409: "The view is not in the online store, or is not served because it is not what training sees.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    422: "The request is not what this takes.",
    500: "A bug, or a project that can't be read.",
    503: "The store can't be reached.",
    507: "The online store is full.",
}


def _problem_route() -> type[Any]:
    """A route whose errors are problem documents, in whatever application it is."""
    from fastapi import Request, Response
    from fastapi.exceptions import RequestValidationError
    from fastapi.routing import APIRoute
    from starlette.exceptions import HTTPException

    class ProblemRoute(APIRoute):
        def get_route_handler(self) -> Any:
            handle = super().get_route_handler()

            async def handled(request: Request) -> Response:
                try:
                    return await handle(request)
                except RequestValidationError as error:
                    reply = problem(invalid_request(error))
                except HTTPException as error:
                    reply = problem(RequestRefused(error.status_code, "the request", str(error.detail)))
                except Exception as error:
                    reply = failed(error)
                return Response(reply.body, reply.status, dict(reply.headers) | _HEADERS, reply.media_type)

            return handled

    return ProblemRoute


def invalid_request(error: Any) -> RequestRefused:
    """What FastAPI found wrong with a request, without what was in it."""
    from lakehouse.serving.problems import RequestInvalid

    return RequestInvalid([f"{'.'.join(map(str, one['loc'])) or 'request'}: {one['msg']}" for one in error.errors()][:20])
