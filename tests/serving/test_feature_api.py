"""The Feature API: what it answers, whom it lets in, and that nothing that is sent to it makes it fail."""

import json
import shutil
import socket
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lakehouse.errors import SettingsError
from lakehouse.features.online import answer
from lakehouse.pipeline.features import open_online
from lakehouse.serving.app import feature_api, guarded, listen, require_safe
from lakehouse.serving.problems import PROBLEM
from lakehouse.serving.routes import OPEN, feature_routes
from tests.serving.conftest import COMMITS, HOUSEHOLDS, KEY, OTHER_KEY, ask, start

EVERYWHERE = "0.0.0.0"  # noqa: S104 - what must be refused.
ONE = {"views": [HOUSEHOLDS], "entities": [{"household_id": "HH00000003"}]}


def features(document: Any, **changes: Any) -> dict[str, Any]:
    return {**document, **changes}


# ---- over a network


def test_features_of_entities_over_http(server, workspace):
    with httpx.Client(base_url=server.url, timeout=60) as client:
        asked = features(ONE, entities=[{"household_id": f"HH{number:08d}"} for number in (3, 5, 99)])
        found = client.post("/v1/features", json=asked)
        assert (found.status_code, found.headers["content-type"], found.headers["cache-control"]) == (200, "application/json", "no-store")
        document = found.json()
        third, fifth, nobody = document["rows"]
        assert third == {
            "household_id": "HH00000003",
            "rooms": 3,
            "food_share": 0.75,
            "district": "north",
            "moved_in": "2026-01-04",
            "land_hectares": 0.375,
        }
        # What JSON has no number for.
        assert fifth["food_share"] is None
        assert set(nobody.values()) == {"HH00000099", None}
        assert [one[HOUSEHOLDS]["origin"] for one in document["served"]] == ["table", "table", "none"]
        assert document["served"][0][HOUSEHOLDS]["event_time"].startswith(f"{datetime.now(UTC) - timedelta(days=3):%Y-%m-%d}")
        assert (document["versions"], 0 <= document["confirmed"][HOUSEHOLDS]["staleness_s"] < 600) == ({f"features.{HOUSEHOLDS}": 0}, True)
        # One by its address; the choice keeps the view's order.
        path = f"/v1/views/{HOUSEHOLDS}/features"
        one = client.get(path, params={"entity": "HH00000003", "feature": ["food_share", "rooms"]}).json()
        assert one["rows"] == [{"household_id": "HH00000003", "rooms": 3, "food_share": 0.75}]
        assert client.get(path, params={"entity": "household_id=HH00000003", "feature": "rooms"}).json()["rows"][0]["rooms"] == 3
        ready = client.get("/v1/health/ready").json()
        assert (ready["status"], {one["view"] for one in ready["views"]}) == ("ready", {HOUSEHOLDS, COMMITS})


def test_a_request_is_refused_before_it_is_read(server):
    with httpx.Client(base_url=server.url, timeout=60) as client:
        large = client.post("/v1/features", content=b"[" * 2_000_000, headers={"content-type": "application/json"})
        streamed = client.post("/v1/features", content=(b" " * 100_000 for _ in range(20)), headers={"content-type": "application/json"})
        assert (large.status_code, streamed.status_code) == (413, 413)
        form = client.post("/v1/features", data={"views": "x"})
        assert (form.status_code, form.headers["content-type"]) == (415, PROBLEM)
        elsewhere = client.get("/v1/views", headers={"host": "features.example.org"})
        assert (elsewhere.status_code, elsewhere.json()["found"]) == (403, "features.example.org")
        for name in ("localhost:1", "[::1]:8000", "[::1]", "127.0.0.1"):
            assert client.get("/v1/health/live", headers={"host": name}).status_code == 200, name
        for name in ("[::1].example.org:1", "localhost:1@example.org", "localhost:x"):
            assert client.get("/v1/health/live", headers={"host": name}).status_code in (400, 403), name
        # It goes on as if nothing had been.
        assert client.post("/v1/features", json=ONE).status_code == 200


def test_a_server_ends_when_it_is_told_to(environment, workspace, tmp_path):
    server = start(environment, tmp_path / "log")
    with httpx.Client(base_url=server.url, timeout=60) as client:
        assert client.get("/v1/health/live").json()["status"] == "live"
    assert server.stop() in (0, -15)
    server.process.stdout.close()
    assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.slow
def test_several_processes_serve_and_one_that_dies_is_replaced(environment, workspace, tmp_path):
    import os
    import signal

    server = start(environment, tmp_path / "log", "--workers", 2)
    children = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")

    def answers() -> int:
        # Each connection may come to another process.
        return sum(httpx.post(f"{server.url}/v1/features", json=ONE, timeout=60).status_code == 200 for _ in range(20))

    assert answers() == 20
    for _ in range(2):
        victims = [int(one) for one in children.read_text().split() if b"spawn_main" in Path(f"/proc/{one}/cmdline").read_bytes()]
        os.kill(victims[0], signal.SIGKILL)
        until = time.monotonic() + 60
        while time.monotonic() < until and victims[0] in map(int, children.read_text().split()):
            time.sleep(0.2)
        assert answers() == 20
    assert server.stop() == 0
    server.process.stdout.close()


# ---- in this process: the same application


def test_several_views_are_joined_as_training_joins_them(api, workspace):
    entity = {"household_id": "HH00000003", "sha": f"{4:040d}"}
    found = ask(api, "POST", "/v1/features", {"views": [HOUSEHOLDS, f"features.{COMMITS}"], "entities": [entity]})
    (row,) = found.json["rows"]
    assert (row[f"{HOUSEHOLDS}__rooms"], row[f"{COMMITS}__rooms"], row["insertions"]) == (3, 8, 4)
    chosen = {"views": [HOUSEHOLDS, COMMITS], "entities": [entity], "features": [f"{COMMITS}.rooms", "district"]}
    assert ask(api, "POST", "/v1/features", chosen).json["rows"] == [{**entity, "district": "north", "rooms": 8}]
    with_command = answer(
        open_online(workspace), [view for view in _declared(workspace) if view.name == HOUSEHOLDS], ONE["entities"], now=datetime.now(UTC)
    )
    assert ask(api, "POST", "/v1/features", ONE).json["rows"][0]["rooms"] == with_command.rows[0]["rooms"]


def _declared(workspace):
    from lakehouse.pipeline.features import declared

    return declared(workspace).values()


@pytest.mark.parametrize(
    ("change", "status", "says"),
    [
        ({"views": ["household_feature"]}, 404, "Did you mean household_features"),
        ({"views": ["customer_basket"]}, 409, "lakehouse features materialize customer_basket"),
        ({"views": []}, 422, "views: List should have at least 1 item"),
        ({"entities": []}, 422, "entities: List should have at least 1 item"),
        ({"entities": [{}]}, 422, "without household_id"),
        ({"entities": [{"household_id": None}]}, 422, "entities.0.household_id: Input should be text"),
        ({"entities": [{"household_id": [1]}]}, 422, "entities.0.household_id: Input should be text"),
        ({"entities": [{"household_id": "x", "street": "y"}]}, 422, "has no street"),
        ({"entities": [{"household_id": "x"}] * 1001}, 422, "at most 1000"),
        ({"features": ["windows"]}, 422, "is in none of these views"),
        ({"as_of": "2026-01-01"}, 422, "as_of: Extra inputs are not permitted"),
    ],
    ids=lambda value: None if not isinstance(value, str) else value[:40],
)
def test_what_can_not_be_answered_is_a_problem_document(api, change, status, says):
    found = ask(api, "POST", "/v1/features", features(ONE, **change))
    assert (found.status, found.headers["content-type"]) == (status, PROBLEM)
    assert says in found.json["detail"]
    assert found.json["status"] == status
    assert found.json["type"].startswith("urn:lakehouse:error:")


def test_a_view_that_failed_parity_is_not_served_and_the_reason_is_told(api, service):
    store = service.online.store
    text = store.states()[HOUSEHOLDS]
    state = json.loads(text)
    assert store.replace_state(HOUSEHOLDS, json.dumps(state | {"blocked": "3 of 200 entities differ"}), expected=text)
    try:
        found = ask(api, "POST", "/v1/features", ONE)
        assert (found.status, found.json["found"]) == (409, "3 of 200 entities differ")
        assert "--full" in found.json["fix"]
        ready = ask(api, "GET", "/v1/health/ready")
        assert (ready.status, ready.json["status"]) == (200, "degraded")
        assert f"{HOUSEHOLDS}: 3 of 200 entities differ" in ready.json["reasons"]
        # The others are served.
        assert ask(api, "POST", "/v1/features", {"views": [COMMITS], "entities": [{"sha": "x"}]}).status == 200
    finally:
        store.replace_state(HOUSEHOLDS, text, expected=store.states()[HOUSEHOLDS])
    assert ask(api, "POST", "/v1/features", ONE).status == 200


def test_a_store_that_can_not_be_reached_is_said_to_be_so(api, service, workspace):
    path = workspace.settings.home_dir / "online" / "features.db"
    kept = path.with_suffix(".kept")
    path.rename(kept)
    # For a moment a reader goes on with the file that it has.
    time.sleep(0.3)
    try:
        # Where nothing is, nothing is online.
        assert ask(api, "POST", "/v1/features", ONE).status == 409
        path.write_bytes(b"this is no database" * 100)
        time.sleep(0.3)
        found = ask(api, "POST", "/v1/features", ONE)
        assert (found.status, found.headers["retry-after"], found.json["type"]) == (503, "5", "urn:lakehouse:error:StorageError")
        ready = ask(api, "GET", "/v1/health/ready")
        assert (ready.status, ready.json["status"]) == (503, "unavailable")
        assert ask(api, "GET", "/v1/health/live").status == 200
    finally:
        kept.rename(path)
    time.sleep(0.3)
    assert ask(api, "POST", "/v1/features", ONE).status == 200


def test_a_store_that_is_made_shorter_while_it_is_served_is_an_error_and_no_end(environment, workspace, tmp_path):
    home = tmp_path / "home"
    shutil.copytree(workspace.settings.home_dir, home, ignore=shutil.ignore_patterns("*.lock"))
    server = start({**environment, "LAKEHOUSE_HOME": str(home)}, tmp_path / "log")
    with httpx.Client(base_url=server.url, timeout=60) as client:
        assert client.post("/v1/features", json=ONE).status_code == 200
        (home / "online" / "features.db").write_bytes(b"")
        statuses = {client.post("/v1/features", json=ONE).status_code for _ in range(3)}
        # What it has read before it may still know.
        assert statuses <= {200, 409, 503}
        assert client.get("/v1/health/live").status_code == 200
    assert server.stop() in (0, -15)
    server.process.stdout.close()


def test_what_is_known_of_views(api, service, workspace):
    listed = ask(api, "GET", "/v1/views").json["views"]
    assert next(one for one in listed if one["view"] == HOUSEHOLDS)["served"]["version"] == 0
    shown = ask(api, "GET", f"/v1/views/{HOUSEHOLDS}").json
    assert ("household_vulnerability" in shown["used_by"], shown["made_from"]) == (True, ["staging.household_survey"])
    (version,) = ask(api, "GET", f"/v1/views/{HOUSEHOLDS}/history").json["versions"]
    assert version["inputs"] == {"staging.household_survey": 3}
    lineage = ask(api, "GET", f"/v1/views/{HOUSEHOLDS}/lineage", query={"files": 0}).json
    assert (lineage["steps"][0]["inputs"], lineage["file_count"]) == ({"staging.household_survey": 3}, 0)
    assert ask(api, "GET", f"/v1/views/{HOUSEHOLDS}/lineage", query={"version": 7}).status == 404
    assert ask(api, "GET", "/v1/views/customer_basket/lineage").status == 404
    assert ask(api, "GET", "/v1/search", query={"q": "food share"}).json["features"][0]["feature"] == "food_share"


def test_a_row_that_is_pushed_is_served(api, service):
    row = {"household_id": "HH00000019", "rooms": 7, "food_share": 0.5, "district": None, "moved_in": "2026-02-03", "land_hectares": "1.25"}
    path = f"/v1/views/{HOUSEHOLDS}/rows"
    assert ask(api, "POST", path, {"row": row}).json == {"view": HOUSEHOLDS, "taken": True}
    found = ask(api, "POST", "/v1/features", features(ONE, entities=[{"household_id": "HH00000019"}])).json
    assert found["rows"] == [{**row, "land_hectares": 1.25}]
    assert found["served"][0][HOUSEHOLDS]["origin"] == "pushed"
    assert ask(api, "POST", path, {"row": row, "event_time": "2026-01-01T00:00:00Z"}).json["taken"] is False
    wrong_values = (
        {"rooms": "many"},
        {"rooms": 40_000},
        {"moved_in": "soon"},
        {"land_hectares": "1,5"},
        {"land_hectares": 10**7},
        {"food_share": True},
        {"district": "\ud800"},
        {"household_id": "\ud800"},
        {"windows": 1},
    )
    for wrong in wrong_values:
        refused = ask(api, "POST", path, {"row": row | wrong})
        assert (refused.status, refused.json["type"]) == (422, "urn:lakehouse:error:FeatureError"), wrong
    # A clock that is ahead must not keep out all who come later, nor one be written that can't be told.
    ahead = f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}"
    for never in (ahead, "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"):
        refused = ask(api, "POST", path, {"row": row, "event_time": never})
        assert (refused.status, "Set the clock" in refused.json["fix"]) == (422, True), never
    assert ask(api, "POST", path, body=b'{"row":' + b"[" * 5_000).status in (400, 422)
    off = service.settings.model_copy(update={"serving_pushes": False})
    service.settings, on = off, service.settings
    try:
        refused = ask(api, "POST", path, {"row": row})
        assert (refused.status, "LAKEHOUSE_SERVING_PUSHES=true" in refused.json["fix"]) == (403, True)
    finally:
        service.settings = on


# ---- who may ask


def operations(api: Any) -> list[tuple[str, str]]:
    document = ask(api, "GET", "/v1/openapi.json").json
    return [(method.upper(), path) for path, methods in document["paths"].items() for method in methods]


def test_every_route_needs_a_key_but_health(service):
    with_keys = service.settings.model_copy(update={"serving_keys": _secret(f"{KEY}, {OTHER_KEY}")})
    service.settings, before = with_keys, service.settings
    try:
        locked = guarded(feature_api(service), service)
    finally:
        service.settings = before
    routes = [
        *operations(guarded(feature_api(service), service)),
        ("GET", "/v1/openapi.json"),
        ("GET", "/anything"),
        ("OPTIONS", "/v1/views"),
    ]
    assert len(routes) > 12
    for method, path in routes:
        for headers in (
            {},
            {"authorization": "Bearer nonsense"},
            {"authorization": f"Basic {KEY}"},
            {"x-api-key": KEY[:-1]},
            {"x-api-key": ""},
        ):
            found = ask(locked, method, path, {}, headers={"host": "anywhere.example", **headers})
            if path in OPEN:
                assert (found.status, found.json["views"]) == (200, []), path
            else:
                assert (found.status, found.headers["www-authenticate"]) == (401, "Bearer"), (method, path)
    for headers in ({"authorization": f"Bearer {KEY}"}, {"authorization": f"bearer  {OTHER_KEY}"}, {"x-api-key": KEY}):
        assert ask(locked, "POST", "/v1/features", ONE, headers={"host": "anywhere.example", **headers}).status == 200
    assert len(ask(locked, "GET", "/v1/health/ready", headers={"x-api-key": KEY}).json["views"]) == 2


def _secret(text: str) -> Any:
    from pydantic import SecretStr

    return SecretStr(text)


def test_without_a_key_it_listens_to_this_machine_only(workspace):
    settings = workspace.settings
    for host in (EVERYWHERE, "::", "192.0.2.1", "example.org", ""):
        with pytest.raises(SettingsError, match="LAKEHOUSE_SERVING_KEYS"):
            require_safe(settings.model_copy(update={"serving_host": host}))
    for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost"):
        require_safe(settings.model_copy(update={"serving_host": host}))
    require_safe(settings.model_copy(update={"serving_host": EVERYWHERE, "serving_keys": _secret(KEY)}))
    for weak in ("short", f"{KEY},short", "öffentlicher Schlüssel"):
        with pytest.raises(SettingsError, match="too weak"):
            require_safe(settings.model_copy(update={"serving_keys": _secret(weak)}))


def test_an_address_that_is_taken_is_told(workspace):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = workspace.settings.model_copy(update={"serving_port": taken.getsockname()[1]})
        with pytest.raises(SettingsError, match="can't be listened on"):
            listen(settings)


def test_another_application_can_have_its_routes(service):
    from fastapi import FastAPI

    gateway = FastAPI()
    gateway.include_router(feature_routes(service))
    gateway.mount("/inner", feature_api(service))
    gateway.mount("/guarded", guarded(feature_api(service), service))
    for prefix in ("", "/inner", "/guarded"):
        assert ask(gateway, "POST", f"{prefix}/v1/features", ONE).json["rows"][0]["rooms"] == 3
        refused = ask(gateway, "POST", f"{prefix}/v1/features", features(ONE, views=["nothing"]))
        assert (refused.status, refused.headers["content-type"]) == (404, PROBLEM)
        assert ask(gateway, "GET", f"{prefix}/v1/health/ready").json["status"] in {"ready", "degraded"}


# ---- what it says of itself


def test_every_answer_is_as_the_openapi_document_says(api):
    openapi = ask(api, "GET", "/v1/openapi.json").json
    assert openapi["openapi"].startswith("3.1")

    def valid(path: str, method: str, found: Any) -> None:
        content = openapi["paths"][path][method]["responses"][str(found.status)]["content"]
        schema = {**content[found.headers["content-type"]]["schema"], "components": openapi["components"]}
        jsonschema_rs.validator_for(schema).validate(found.json)

    view = f"/v1/views/{HOUSEHOLDS}"
    valid("/v1/features", "post", ask(api, "POST", "/v1/features", ONE))
    valid("/v1/features", "post", ask(api, "POST", "/v1/features", {}))
    valid("/v1/features", "post", ask(api, "POST", "/v1/features", features(ONE, views=["x"])))
    for path, asked, query in (
        ("/v1/views/{view}/features", f"{view}/features", {"entity": "x"}),
        ("/v1/views", "/v1/views", ()),
        ("/v1/views/{view}", view, ()),
        ("/v1/views/{view}", "/v1/views/nothing", ()),
        ("/v1/views/{view}/history", f"{view}/history", ()),
        ("/v1/views/{view}/history", f"{view}/history", {"limit": "0"}),
        ("/v1/views/{view}/lineage", f"{view}/lineage", ()),
        ("/v1/search", "/v1/search", {"q": "rooms"}),
        ("/v1/health/live", "/v1/health/live", ()),
        ("/v1/health/ready", "/v1/health/ready", ()),
    ):
        valid(path, "get", ask(api, "GET", asked, query=query))


# ---- whatever is sent


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.sampled_from([HOUSEHOLDS, f"features.{COMMITS}", "customer_basket", "nothing", "../../etc/passwd", "x@1", "a%00b"]) | st.text(
    max_size=12
)
ENTITY = st.dictionaries(st.sampled_from(["household_id", "sha", "x"]) | st.text(max_size=3), JSON | st.just("HH00000001"), max_size=3)
REQUEST = st.fixed_dictionaries(
    {"views": st.lists(NAMES, max_size=3) | JSON, "entities": st.lists(ENTITY, max_size=3) | JSON},
    optional={"features": st.lists(st.sampled_from(["rooms", f"{HOUSEHOLDS}.rooms"]) | st.text(max_size=5)) | JSON},
)


def sound(found: Any) -> None:
    assert found.status < 500, found.body
    if found.status >= 400:
        assert (found.headers["content-type"], found.json["status"]) == (PROBLEM, found.status)
        assert "Traceback" not in found.json["detail"]
    else:
        json.loads(found.body)


@settings(max_examples=300)
@given(document=REQUEST | JSON)
@example(document={"views": [HOUSEHOLDS], "entities": [{"household_id": 10**400}]})
@example(document={"views": [HOUSEHOLDS], "entities": [{"household_id": "\x00"}], "features": [""]})
@example(document={"views": [HOUSEHOLDS] * 3, "entities": [{"household_id": float("inf")}]})
def test_no_document_makes_retrieval_fail(api, document):
    sound(ask(api, "POST", "/v1/features", document))


@settings(max_examples=100)
@given(body=st.binary(max_size=60))
@example(body=b"[" * 100_000)
@example(body=b'{"views":["\xed\xa0\x80"]}')
@example(body=b'{"views":["\\ud800"],"entities":[{"household_id":"\\ud800"}]}')
@example(body=b'{"views":["household_features"],"entities":[{"household_id":1e999}]}')
def test_no_bytes_make_it_fail(api, body):
    sound(ask(api, "POST", "/v1/features", body=body, headers={"content-type": "application/json"}))


@settings(max_examples=150)
@given(data=st.data())
def test_no_request_makes_any_route_fail(api, data):
    method, template = data.draw(st.sampled_from(operations(api)))
    name = data.draw(NAMES.filter(lambda text: "/" not in text or text.startswith("..")))
    query = data.draw(
        st.dictionaries(
            st.sampled_from(["entity", "feature", "limit", "depth", "files", "version", "q", "dry_run"]),
            st.text(max_size=8) | st.integers().map(str) | st.just("household_id=HH00000001"),
            max_size=4,
        )
    )
    if (method, template) == ("PUT", "/v1/views/{view}"):
        query["dry_run"] = "true"
    if method == "DELETE":
        name = "nothing"
    body = None
    if method in {"POST", "PUT"}:
        body = data.draw(
            REQUEST | JSON | st.fixed_dictionaries({"row": st.dictionaries(st.just("household_id") | st.text(max_size=4), JSON)})
        )
    sound(ask(api, method, template.replace("{view}", name), body, query=query))


@settings(max_examples=80)
@given(
    row=st.fixed_dictionaries(
        {
            "household_id": st.just("HHpushed") | JSON,
            "rooms": JSON,
            "food_share": JSON,
            "district": JSON,
            "moved_in": JSON,
            "land_hectares": JSON,
        }
    ),
    event_time=st.none() | st.datetimes().map(str) | st.text(max_size=9) | st.integers(),
)
@example(
    row=dict.fromkeys(("rooms", "district", "moved_in", "land_hectares")) | {"household_id": "a", "food_share": 1e308}, event_time=None
)
@example(
    row=dict.fromkeys(("rooms", "district", "moved_in", "food_share")) | {"household_id": "a", "land_hectares": "NaN"}, event_time=10**30
)
def test_no_pushed_row_makes_it_fail_or_be_unreadable(api, row, event_time):
    found = ask(api, "POST", f"/v1/views/{HOUSEHOLDS}/rows", {"row": row, "event_time": event_time})
    sound(found)
    if found.status == 200:
        sound(ask(api, "POST", "/v1/features", features(ONE, entities=[{"household_id": row["household_id"]}])))


def test_a_bug_is_told_without_what_it_is_about(api, service, caplog, monkeypatch):
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("a household's secret")

    monkeypatch.setattr(service, "_answer", broken)
    monkeypatch.setattr(service, "list_views", broken)
    for found in (ask(api, "POST", "/v1/features", ONE), ask(api, "GET", "/v1/views")):
        assert (found.status, found.headers["content-type"]) == (500, PROBLEM)
        assert b"secret" not in found.body
    assert "ZeroDivisionError" in caplog.text
