"""Requests that come at the same moment: each has the answer that it would have alone, from any store."""

import asyncio
import random
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from lakehouse.features.online import answer
from lakehouse.pipeline.features import declared, materialize_view, online, open_online
from lakehouse.pipeline.workspace import Workspace
from lakehouse.serving.together import Together
from lakehouse.settings import Settings
from tests.serving.conftest import COMMITS, HOUSEHOLDS, start

CLIENTS, REQUESTS = 32, 600


def test_what_is_asked_while_the_loop_is_busy_is_answered_at_once():
    rounds: list[list[int]] = []

    async def halved(asked: Any) -> list[Any]:
        rounds.append(list(asked))
        await asyncio.sleep(0)
        return [ValueError(f"{number} is odd") if number % 2 else number // 2 for number in asked]

    async def run() -> list[Any]:
        together = Together(halved)
        return await asyncio.gather(*[together.ask(number) for number in range(200)], return_exceptions=True)

    answers = asyncio.run(run())
    assert [one for one in answers if not isinstance(one, Exception)] == list(range(100))
    assert [str(one) for one in answers if isinstance(one, Exception)] == [f"{number} is odd" for number in range(1, 200, 2)]
    assert [number for each in rounds for number in each] == list(range(200))
    # Not one by one; and not so many that everything else would wait for them.
    assert {len(one) for one in rounds} == {64, 8}


def test_an_error_of_all_is_told_to_each_and_who_has_gone_hinders_nobody():
    async def fails(_: Any) -> list[Any]:
        raise OSError("no store")

    async def doubled(asked: Any) -> list[Any]:
        await asyncio.sleep(0.01)
        return [number * 2 for number in asked]

    async def run() -> None:
        together = Together(fails)
        found = await asyncio.gather(together.ask(1), together.ask(2), return_exceptions=True)
        assert [str(one) for one in found] == ["no store", "no store"]
        waiting = Together(doubled)
        tasks = [asyncio.ensure_future(waiting.ask(number)) for number in range(3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        assert await asyncio.gather(*tasks[::2]) == [0, 4]

    asyncio.run(run())


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("redis", marks=pytest.mark.servers)])
def test_each_of_many_clients_gets_its_own_answer(kind, request, environment, workspace, tmp_path):
    if kind == "redis":
        environment = {**environment, "LAKEHOUSE_ONLINE_URL": request.getfixturevalue("redis_url")}
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LAKEHOUSE_ONLINE_URL", environment["LAKEHOUSE_ONLINE_URL"])
            workspace = Workspace(Settings.load())
        with online(workspace) as features:
            for name in (HOUSEHOLDS, COMMITS):
                materialize_view(workspace, features, declared(workspace)[name], now=datetime.now(UTC))
    expected = answer(
        open_online(workspace),
        [declared(workspace)[HOUSEHOLDS]],
        [{"household_id": f"HH{n:08d}"} for n in range(25)],
        now=datetime.now(UTC),
    ).rows
    draw = random.Random(5)

    def asked() -> tuple[dict[str, Any], int]:
        what = draw.randrange(10)
        if what == 0:
            return {"views": [HOUSEHOLDS], "entities": [{"street": "x"}]}, 422
        if what == 1:
            return {"views": ["customer_basket"], "entities": [{"customer_id": "1"}]}, 409
        if what == 2:
            return {"views": [COMMITS], "entities": [{"sha": f"{draw.randrange(5):040d}"}]}, 200
        entities = [{"household_id": f"HH{draw.randrange(25):08d}"} for _ in range(draw.choice([1, 1, 1, 3, 20]))]
        return {"views": [HOUSEHOLDS], "entities": entities}, 200

    async def client(url: str, documents: list[tuple[dict[str, Any], int]]) -> list[tuple[dict[str, Any], int, httpx.Response]]:
        async with httpx.AsyncClient(base_url=url, timeout=60) as session:
            return [(document, status, await session.post("/v1/features", json=document)) for document, status in documents]

    async def all_of_them(url: str) -> list[tuple[dict[str, Any], int, httpx.Response]]:
        found = await asyncio.gather(*[client(url, [asked() for _ in range(REQUESTS // CLIENTS)]) for _ in range(CLIENTS)])
        return [one for each in found for one in each]

    server = start(environment, tmp_path / "log")
    try:
        answers = asyncio.run(all_of_them(server.url))
    finally:
        server.stop()
        server.process.stdout.close()
    assert {status for _, status, _ in answers} == {200, 409, 422}
    for document, status, found in answers:
        assert found.status_code == status, found.text
        if status == 200 and document["views"] == [HOUSEHOLDS]:
            rows = found.json()["rows"]
            wanted = [expected[int(one["household_id"][2:])] for one in document["entities"]]
            assert [row["household_id"] for row in rows] == [one["household_id"] for one in document["entities"]]
            assert [row["rooms"] for row in rows] == [row["rooms"] for row in wanted]
            assert len(found.json()["served"]) == len(rows)
        if status == 422:
            assert "street" in found.json()["detail"]
        if status == 200 and document["views"] == [COMMITS]:
            assert found.json()["rows"][0]["insertions"] == int(document["entities"][0]["sha"])
