"""Visits: as Snowplow's web model counts them on its own test data, and the same in whatever order events arrive."""

import csv
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from lakehouse.tables import Stamp
from tests.commerce.conftest import Shop, csv_lines

MODELS = ["stg_web_events", "web_visits", "web_sessions", "web_users"]
FOLLOWED = [*MODELS, "customer_browsing"]
# Where an event was first seen here, which is all that may depend on the order of arrival; and a pseudonym, which depends on the home.
ARRIVAL = ("_batch", "_file", "_sha256", "_row", "_ingested_at", "_arrival", "row_id", "user_ipaddress")
BOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
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
    tables = ["staging.web_events", "analytics.web_visits", "analytics.web_sessions", "analytics.web_users", "features.customer_browsing"]
    there = [table for table in tables if shop.lake.exists(table)]
    return {table: shop.rows(table, ", ".join(name for name in shop.columns(table) if name not in ARRIVAL)) for table in there}


def in_pieces(shop: Shop, folder: Path, header: bytes, lines: Sequence[bytes], count: int, *, build_every: int) -> None:
    folder.mkdir()
    for number in range(count):
        piece = folder / f"{number:02d}.csv"
        piece.write_bytes(b"\n".join([header, *lines[number::count]]) + b"\n")
        assert shop.ingest("web_events", piece).rows_quarantined == 0
        if (number + 1) % build_every == 0 or number == count - 1:
            shop.build(*FOLLOWED, checked=number == count - 1)


def test_sessions_and_users_are_those_of_snowplows_web_model(open_shop: Callable[[str], Shop], snowplow: Path) -> None:
    shop = open_shop("one")
    report = shop.ingest("web_events", snowplow / "events.csv")
    assert (report.rows_accepted, report.rows_quarantined) == (160, 0)
    shop.build(*MODELS)
    assert len(same_as_expected(shop, "analytics.web_sessions", snowplow / "sessions_expected.csv", "domain_sessionid")) >= 81
    assert len(same_as_expected(shop, "analytics.web_users", snowplow / "users_expected.csv", "domain_userid")) >= 50
    # Its project of tests counts page views as conversions, and makes one session engaged by its id, to see that a macro can be replaced.
    set_by_hand = "0b0c7bb589ebd041177514f3e43446ca5d4343328936d2f8f12a42b41bf9140e"
    engaged = "was_engaged OR coalesce(CAST(event_counts->>'page_view' AS BIGINT), 0) > 0"
    found = {visit: is_engaged for visit, is_engaged in shop.rows("analytics.web_sessions", f"domain_sessionid, {engaged}")}
    with (snowplow / "sessions_expected.csv").open() as expected:
        wanted = {row["domain_sessionid"]: row["is_engaged"] == "TRUE" for row in csv.DictReader(expected)}
    assert (found[set_by_hand], wanted[set_by_hand]) == (False, True)
    assert {**found, set_by_hand: True} == wanted


@pytest.mark.slow
@pytest.mark.parametrize("build_every", [10, pytest.param(1, marks=pytest.mark.timeout(1800))])
def test_events_in_twenty_shuffled_batches_make_the_same_sessions(
    open_shop: Callable[[str], Shop], snowplow: Path, tmp_path: Path, build_every: int
) -> None:
    header, *lines = csv_lines(snowplow / "events.csv")
    whole = open_shop("whole")
    whole.ingest("web_events", snowplow / "events.csv")
    whole.build(*FOLLOWED)
    random.Random(build_every).shuffle(lines)
    pieces = open_shop("pieces")
    in_pieces(pieces, tmp_path / "files", header, lines, 20, build_every=build_every)
    assert content(pieces) == content(whole)
    assert content(whole)["features.customer_browsing"]
    same_as_expected(pieces, "analytics.web_sessions", snowplow / "sessions_expected.csv", "domain_sessionid")
    same_as_expected(pieces, "analytics.web_users", snowplow / "users_expected.csv", "domain_userid")


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
        event(2, 0, domain_userid="c", domain_sessionid="t", useragent=BOT),
    ]
    shop.ingest("web_events", write(tmp_path / "1.csv", rows))
    shop.build(*MODELS)
    assert shop.rows("analytics.web_sessions", "domain_sessionid, total_events") == [("s", 1)]
    # An earlier copy turns up that belongs to another visit: the visit that had the event is no more.
    shop.ingest("web_events", write(tmp_path / "2.csv", [event(1, 4, domain_userid="b", domain_sessionid="r")]))
    shop.build(*MODELS)
    assert shop.rows("analytics.web_sessions", "domain_sessionid, total_events") == [("r", 1)]


def test_a_run_brings_what_a_run_over_everything_would(open_shop: Callable[[str], Shop], tmp_path: Path) -> None:
    shop = open_shop("increments")
    day = 24 * 60
    one, two, gone = {"domain_userid": "b1", "user_id": "u1"}, {"domain_userid": "b2", "user_id": "u2"}, {"user_id": "u9"}
    first = [
        *(event(number, minute, **one) for number, minute in enumerate((0, 20, 70, 4 * day), start=1)),
        *(event(number, minute, **two) for number, minute in enumerate((5, 22 * day), start=11)),
        *(event(number, minute, **gone) for number, minute in enumerate((7, day, 25 * day), start=21)),
        event(31, 8, domain_userid="b3", user_id="u3"),
        event(41, 9, user_id="u4"),
        event(51, 10, domain_userid="b5", user_id="u5"),
        event(52, day, domain_userid="b5", user_id="u5", event_name="add_to_cart"),
        event(61, 11, domain_userid="b6"),
    ]
    assert shop.ingest("web_events", write(tmp_path / "1.csv", first)).rows_quarantined == 0
    shop.build(*FOLLOWED)
    news = [
        # Late: it joins two visits of one browser, and is the first of somebody's visit, who has no browser.
        event(5, 45, **one),
        event(42, 3, user_id="u4"),
        # Earlier copies, which count: the event was another customer's; the only event of a browser was a robot's; a log-in turns up.
        event(11, 4, domain_userid="b1", user_id="u1"),
        event(31, 7, domain_userid="b3", user_id="u3", useragent=BOT),
        event(61, 10.5, domain_userid="b6", user_id="u6"),
        # The newest day moves on, so that what is long ago leaves windows.
        event(13, 28 * day, **two),
    ]
    assert shop.ingest("web_events", write(tmp_path / "2.csv", news)).rows_quarantined == 0
    (staged,) = shop.build("stg_web_events").nodes
    assert staged.rows == len(news)
    # Somebody is erased: the rows go, and no batch says so.
    con = shop.lake.open_connection()
    for table in ("raw.web_events", "staging.web_events"):
        shop.lake.delete(con, table, "user_id = 'u9'", stamp=Stamp(table, "erasure"))
    con.close()
    written = {node.name: node.rows for node in shop.build(*FOLLOWED).nodes}
    found = content(shop)
    named = {row[0] for row in shop.rows("features.customer_browsing", "customer_id")}
    assert named == {"u1", "u2", "u4", "u5", "u6"}
    assert {row[0] for row in shop.rows("analytics.web_users", "domain_userid")} == {"b1", "b2", "b5", "b6"}
    assert {row[0] for row in shop.rows("analytics.web_visits", "visit_id IS NULL")} == {False}
    # Those that are as they were are left alone, and so is the user of a browser without news.
    assert (written["web_sessions"], written["web_users"]) == (4, 3)
    # Nothing new is nothing read again.
    assert {node.rows for node in shop.build(*FOLLOWED).nodes} == {0}
    shop.build(*FOLLOWED, full_refresh=True)
    assert content(shop) == found


def lose_rows(shop: Shop) -> None:
    """Take rows out of what has been made, by commits that are no builds: the next run can't tell what has changed since."""
    lost = {
        "analytics.web_visits": "visit_id < 'b'",
        "analytics.web_sessions": "domain_sessionid < 'c'",
        "analytics.web_users": "domain_userid = 'b1'",
        "features.customer_browsing": "customer_id = 'u1'",
    }
    con = shop.lake.open_connection()
    for table, where in lost.items():
        assert shop.lake.delete(con, table, where, stamp=Stamp(table, "erasure")).rows
    con.close()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_any_history_makes_one_set_of_visits(open_shop: Callable[[str], Shop], tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    rows = []
    for number in range(300):
        who = chance.choice([{"domain_userid": "b1"}, {"domain_userid": "b2", "user_id": "u1"}, {"user_id": "u2"}, {"domain_userid": "b3"}])
        visit = {"domain_sessionid": f"s{chance.randrange(6)}"} if chance.random() < 0.4 else {}
        name = chance.choice(["page_view", "add_to_cart", "page_ping"])
        rows.append(event(number, chance.randrange(20 * 24 * 60), event_name=name, **who, **visit))
    rows += [{**chance.choice(rows), "collector_tstamp": event(0, chance.randrange(28_000))["collector_tstamp"]} for _ in range(60)]
    rows += [{**chance.choice(rows), "domain_sessionid": f"s{chance.randrange(6)}"} for _ in range(20)]
    rows += [{**chance.choice(rows), chance.choice(["user_id", "domain_userid"]): f"x{chance.randrange(3)}"} for _ in range(20)]
    rows += [{**chance.choice(rows), "useragent": BOT} for _ in range(10)]
    whole = open_shop("whole")
    whole.ingest("web_events", write(tmp_path / "whole.csv", rows))
    whole.build(*FOLLOWED)
    chance.shuffle(rows)
    pieces = open_shop("pieces")
    for number in range(4):
        pieces.ingest("web_events", write(tmp_path / f"{number}.csv", rows[number::4]))
        if number == 3:
            lose_rows(pieces)
        pieces.build(*FOLLOWED)
    assert content(pieces) == content(whole)
