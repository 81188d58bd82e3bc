"""A source whose driver is not installed says which extra brings it."""

import sys

import pytest

from lakehouse.contracts.databases import SourceTable
from lakehouse.contracts.topics import SourceTopic
from lakehouse.errors import MissingExtra
from lakehouse.settings import Settings


def test_postgres(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from lakehouse.ingest.sources.postgres_reading import connected

    monkeypatch.setitem(sys.modules, "psycopg", None)
    table = SourceTable(server="shop", host="db", port=5432, database="shop", schema="public", table="orders")
    with pytest.raises(MissingExtra, match=r"lakehouse\[postgres\]"), connected(table, settings):
        pass


def test_kafka(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    from lakehouse.ingest.sources.kafka_client import Client

    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    with pytest.raises(MissingExtra, match=r"lakehouse\[kafka\]"):
        Client(SourceTopic(server="events", host="k:9092", topic="clicks"), settings, {})
