"""Visits: as Snowplow's web model counts them on its own test data, and the same in whatever order events arrive."""

import csv
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.commerce.conftest import Shop, csv_lines

MODELS = ["stg_web_events", "web_visits", "web_sessions", "web_users"]
# Where an event was first seen here, which is all that may depend on the order of arrival; and a pseudonym, which depends on the home.
ARRIVAL = ("_batch", "_file", "_sha256", "_row", "_ingested_at", "_arrival", "row_id", "_earlier_visit_groups", "user_ipaddress")
COLUMNS = ["event_id", "event_name", "collector_tstamp", "user_id", "domain_userid", "domain_sessionid", "useragent"]


@pytest.fixture(scope="session")
def snowplow(real_data: Path) -> Path:
    folder = real_data / "commerce" / "snowplow_web"
    if not (folder / "events.csv").is_file():
        pytest.skip(f"the events of Snowplow's web model are absent: {folder}")
    return folder


def same_as_expected(shop: Shop, table: str, expected: Path, key: str) -> list[str]:
    """The columns that both have; every row of both agrees in all of them."""
    con = shop.lake.open_connection()
    con.execute(f"CREATE TABLE wanted AS FROM read_csv('{expected}', header=true, all_varchar=true)")
    con.execute(f"CREATE TABLE found AS {shop.lake.scan_sql(table, con=con)}")
    types = {name: kind for name, kind, *_ in con.execute("DESCRIBE found").fetchall()}
    shared = [name for name, *_ in con.execute("DESCRIBE wanted").fetchall() if name in types]
    given = ", ".join(f"CAST({name} AS {types[name]}) AS {name}" for name in shared)
    for one, other in (("wanted", "found"), ("found", "wanted")):
        rows = con.execute(f"SELECT {given} FROM {one} EXCEPT ALL SELECT {given} FROM {other}").fetchall()
        assert rows == [], f"only in {one}, by {key}"
    con.close()
    return shared


def content(shop: Shop) -> dict[str, list[tuple[Any, ...]]]:
    tables = ["staging.web_events", "analytics.web_visits", "analytics.web_sessions", "analytics.web_users"]
    return {table: shop.rows(table, ", ".join(name for name in shop.columns(table) if name not in ARRIVAL)) for table in tables}


def in_pieces(shop: Shop, folder: Path, header: bytes, lines: Sequence[bytes], count: int, *, build_every: int) -> None:
    folder.mkdir()
    for number in range(count):
        piece = folder / f"{number:02d}.csv"
        piece.write_bytes(b"\n".join([header, *lines[number::count]]) + b"\n")
        assert shop.ingest("web_events", piece).rows_quarantined == 0
        if (number + 1) % build_every == 0 or number == count - 1:
            shop.build(*MODELS)


def test_sessions_and_users_are_those_of_snowplows_web_model(open_shop: Callable[[str], Shop], snowplow: Path) -> None:
    shop = open_shop("one")
    report = shop.ingest("web_events", snowplow / "events.csv")
    assert (report.rows_accepted, report.rows_quarantined) == (160, 0)
    shop.build(*MODELS)
    assert len(same_as_expected(shop, "analytics.web_sessions", snowplow / "sessions_expected.csv", "domain_sessionid")) >= 80
    assert len(same_as_expected(shop, "analytics.web_users", snowplow / "users_expected.csv", "domain_userid")) >= 50


@pytest.mark.parametrize("build_every", [10, pytest.param(1, marks=pytest.mark.slow)])
def test_events_in_twenty_shuffled_batches_make_the_same_sessions(
    open_shop: Callable[[str], Shop], snowplow: Path, tmp_path: Path, build_every: int
) -> None:
    header, *lines = csv_lines(snowplow / "events.csv")
    whole = open_shop("whole")
    whole.ingest("web_events", snowplow / "events.csv")
    whole.build(*MODELS)
    random.Random(build_every).shuffle(lines)
    pieces = open_shop("pieces")
    in_pieces(pieces, tmp_path / "files", header, lines, 20, build_every=build_every)
    assert content(pieces) == content(whole)
    same_as_expected(pieces, "analytics.web_sessions", snowplow / "sessions_expected.csv", "domain_sessionid")


def event(number: int, minute: float, **fields: str) -> dict[str, str]:
    day, rest = divmod(minute, 24 * 60)
    at = f"2025-03-{1 + int(day):02d} {int(rest // 60):02d}:{int(rest % 60):02d}:{int(rest * 60 % 60):02d}"
    return {"event_id": f"e{number:03d}", "event_name": "page_view", "collector_tstamp": at, **fields}


def write(path: Path, rows: Sequence[dict[str, str]]) -> Path:
    with path.open("w", newline="") as out:
        writer = csv.DictWriter(out, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_without_a_trackers_count_half_an_hours_pause_ends_a_visit(open_shop: Callable[[str], Shop], tmp_path: Path) -> None:
    shop = open_shop("pauses")
    first = [event(1, 0, domain_userid="b"), event(2, 30, domain_userid="b"), event(3, 61, domain_userid="b"), event(4, 0, user_id="u")]
    shop.ingest("web_events", write(tmp_path / "1.csv", first))
    shop.build(*MODELS)
    grain = "coalesce(domain_userid, user_id), total_events, absolute_time_in_s"
    assert shop.rows("analytics.web_sessions", grain) == [("b", 1, 0), ("b", 2, 1800), ("u", 1, 0)]
    # A late event between two visits joins them; one before the first gives it an earlier beginning, and so another id.
    shop.ingest("web_events", write(tmp_path / "2.csv", [event(5, 45, domain_userid="b")]))
    shop.build(*MODELS)
    assert shop.rows("analytics.web_sessions", grain) == [("b", 4, 3660), ("u", 1, 0)]


def test_bots_and_copies_are_no_visitors(open_shop: Callable[[str], Shop], tmp_path: Path) -> None:
    shop = open_shop("bots")
    rows = [
        event(1, 5, domain_userid="b", domain_sessionid="s"),
        event(1, 5, domain_userid="b", domain_sessionid="s"),
        event(
            2,
            0,
            domain_userid="c",
            domain_sessionid="t",
            useragent="Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        ),
    ]
    shop.ingest("web_events", write(tmp_path / "1.csv", rows))
    shop.build(*MODELS)
    assert shop.rows("analytics.web_sessions", "domain_sessionid, total_events") == [("s", 1)]
    # An earlier copy turns up that belongs to another visit: the visit that had the event is no more.
    shop.ingest("web_events", write(tmp_path / "2.csv", [event(1, 4, domain_userid="b", domain_sessionid="r")]))
    shop.build(*MODELS)
    assert shop.rows("analytics.web_sessions", "domain_sessionid, total_events") == [("r", 1)]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_any_history_makes_one_set_of_visits(open_shop: Callable[[str], Shop], tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    rows = []
    for number in range(300):
        who = chance.choice([{"domain_userid": "b1"}, {"domain_userid": "b2", "user_id": "u1"}, {"user_id": "u2"}, {"domain_userid": "b3"}])
        visit = {"domain_sessionid": f"s{chance.randrange(6)}"} if chance.random() < 0.4 else {}
        rows.append(
            event(
                number, chance.randrange(20 * 24 * 60), event_name=chance.choice(["page_view", "add_to_cart", "page_ping"]), **who, **visit
            )
        )
    rows += [{**chance.choice(rows), "collector_tstamp": event(0, chance.randrange(28_000))["collector_tstamp"]} for _ in range(60)]
    rows += [{**chance.choice(rows), "domain_sessionid": f"s{chance.randrange(6)}"} for _ in range(20)]
    whole = open_shop("whole")
    whole.ingest("web_events", write(tmp_path / "whole.csv", rows))
    whole.build(*MODELS)
    chance.shuffle(rows)
    pieces = open_shop("pieces")
    for number in range(4):
        pieces.ingest("web_events", write(tmp_path / f"{number}.csv", rows[number::4]))
        pieces.build(*MODELS)
    found = content(pieces)
    visits = found["analytics.web_visits"]
    assert [row for row in visits if row[1] is not None] == content(whole)["analytics.web_visits"]
    assert {**found, "analytics.web_visits": []} == {**content(whole), "analytics.web_visits": []}


def test_nothing_new_is_nothing_read_again(open_shop: Callable[[str], Shop], tmp_path: Path) -> None:
    shop = open_shop("again")
    shop.ingest("web_events", write(tmp_path / "1.csv", [event(1, 0, domain_userid="b"), event(2, 0, domain_userid="c")]))
    shop.build(*MODELS)
    shop.ingest("web_events", write(tmp_path / "2.csv", [event(3, 90, domain_userid="c")]))
    written = {node.name: node.rows for node in shop.build(*MODELS).nodes}
    assert (written["stg_web_events"], written["web_visits"]) == (1, 2)
    assert {node.rows for node in shop.build(*MODELS).nodes} == {0}
