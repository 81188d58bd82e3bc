"""The sources of a contract: no two may be taken for one, for what one of them has read the other would never read."""

import json
from pathlib import Path

import pytest

from lakehouse.contracts import DatasetContract, parse_dataset
from lakehouse.errors import ContractError

Servers = list[dict[str, object]]


def kafka(server: str, topic: str = "clicks", **more: object) -> dict[str, object]:
    custom = [{"property": "lakehouse.topic", "value": topic}]
    return {"server": server, "type": "kafka", "host": "k:9092", "format": "json", "customProperties": custom, **more}


def postgres(server: str, table: str = "people", **more: object) -> dict[str, object]:
    custom = [{"property": "lakehouse.table", "value": table}]
    there = {"host": "db", "port": 5432, "database": "shop", "schema": "public"}
    return {"server": server, "type": "postgres", **there, "customProperties": custom, **more}


def parsed(small: str, *servers: dict[str, object]) -> DatasetContract:
    return parse_dataset(f"{small}servers: {json.dumps(servers)}\n", path=Path("people.odcs.yaml"))


@pytest.mark.parametrize(
    "servers",
    [
        [kafka("eu.west"), kafka("eu_west")],
        [kafka("a__b", "c"), kafka("a", "b__c")],
        [kafka("eu"), kafka("eu", host="other:9092")],
        [kafka("eu.west"), kafka("eu_west", environment="production")],
        [postgres("eu.west"), postgres("eu west")],
        [postgres("shop", "x" * 90 + "1"), postgres("shop", "x" * 90 + "2")],
    ],
)
def test_two_sources_with_one_cursor_are_refused(small: str, servers: Servers) -> None:
    with pytest.raises(ContractError, match="can't be told from another one") as caught:
        parsed(small, *servers)
    assert "servers.1" in str(caught.value) or "line" in str(caught.value)


@pytest.mark.parametrize(
    "servers",
    [
        [kafka("eu"), kafka("us"), kafka("eu", "carts")],
        # Of one server two that are never read at once.
        [kafka("eu"), kafka("eu", environment="production"), kafka("eu", environment="staging")],
        [postgres("shop"), postgres("shop", "others"), postgres("shop", environment="production"), kafka("shop")],
    ],
)
def test_sources_that_can_be_told_apart_are_read(small: str, servers: Servers) -> None:
    contract = parsed(small, *servers)
    assert len(contract.topics) + len(contract.databases) == len(servers)


BAD_HOSTS = ["", "b:abc", "b:", "b:0", "b:99999", "kafka://b:9092", "a:1,,b:2", "a:1,", "a b:1", "::1:9092"]


@pytest.mark.parametrize(
    ("server", "key", "value"),
    [
        *((kafka("events", host=host), "host", host) for host in BAD_HOSTS),
        *((kafka("events", topic), "events", topic) for topic in (".", "..", "a/b", "a\n")),
        *((postgres("shop", port=port), "port", str(port)) for port in ("abc", 0, 70_000, -1, "", "5432 ")),
        *((one("x", environment=name), "environment", name) for one in (kafka, postgres) for name in ("PROD", "1st", "")),
        (postgres("shop", customProperties=[{"property": "lakehouse.overlap", "value": 60}]), "overlap", "60"),
    ],
)
def test_what_can_not_be_reached_is_refused_when_the_contract_is_read(small: str, server: dict[str, object], key: str, value: str) -> None:
    with pytest.raises(ContractError, match=r"people\.odcs\.yaml, line \d+: servers") as caught:
        parsed(small, server)
    assert key in str(caught.value)
    assert value in str(caught.value.found)
    assert caught.value.fix


@pytest.mark.parametrize(
    "server",
    [
        *(kafka("events", host=host) for host in ("broker", "b:9092", "a:1, b:2", "10.0.0.1:65535,kafka_2.example.org:9092", "[::1]:9092")),
        *(kafka("events", topic) for topic in ("...", "a.b", "_x-1")),
        *(postgres("shop", port=port) for port in (1, 65_535, "5432")),
        kafka("events", environment="pre-prod_2"),
    ],
)
def test_what_can_be_reached_is_read(small: str, server: dict[str, object]) -> None:
    contract = parsed(small, server)
    assert len(contract.topics) + len(contract.databases) == 1
