"""The sources of a contract: no two may be taken for one, for what one of them has read the other would never read."""

import json
from pathlib import Path

import pytest

from lakehouse.contracts import DatasetContract, parse_dataset
from lakehouse.errors import ContractError

Servers = list[dict[str, object]]


def kafka(server: str, topic: str = "clicks", **more: str) -> dict[str, object]:
    custom = [{"property": "lakehouse.topic", "value": topic}]
    return {"server": server, "type": "kafka", "host": "k:9092", "format": "json", "customProperties": custom, **more}


def postgres(server: str, table: str = "people", **more: str) -> dict[str, object]:
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
