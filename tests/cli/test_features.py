"""The features commands, one after the other as somebody would use them, and their documents."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from lakehouse.pipeline.features import PARITY_TABLE
from lakehouse.pipeline.workspace import Workspace
from lakehouse.settings import Settings
from lakehouse.tables import Stamp
from tests.cli.conftest import Outcome
from tests.cli.test_documents import _same

VIEW, TABLE = "household_features", "features.household_features"
OTHERS = ["commit_features", "customer_activity", "customer_basket", "customer_browsing"]
STAMP = Stamp(asset="test", run="run-1", inputs={"staging.household_survey": 3}, code="abc")


def interview(household: str, day: str, rooms: int, *, known: str | None = None) -> str:
    return (
        f"SELECT '{household}' AS household_id, TIMESTAMP '{day}' AS submitted_at, TIMESTAMPTZ '{known or day} 12:00:00Z' AS known_at,"
        f" {rooms}::SMALLINT AS rooms, 0.25::DOUBLE AS food_share, 'i' AS _interview_id"
    )


def test_from_a_table_to_what_is_served(settings: Settings, lakehouse: Callable[..., Outcome]) -> None:
    def run(name: str, *arguments: object, code: int = 0) -> Outcome:
        done = lakehouse("features", *name.split()[:1], *arguments, "--json")
        assert done.code == code, done.out + done.err
        if code == 0:
            _same(f"features {name}", done.json)
        return done

    lake = Workspace(settings).lake
    con = lake.open_connection()
    (before,) = [one for one in run("list").json["views"] if one["view"] == VIEW]
    assert (before["version"], before["served"], before["entity"]) == (None, None, ["household_id"])
    assert run("materialize").json["not_built"] == [*OTHERS, VIEW]
    recent = datetime.now(UTC) - timedelta(days=10)
    rows = [
        interview("HH00000001", "2026-01-10", 2),
        interview("HH00000001", "2026-02-10", 3),
        interview("HH00000001", "2026-01-10", 9, known="2026-03-01"),
        interview("HH2", f"{recent:%Y-%m-%d}", 5),
    ]
    lake.overwrite(con, TABLE, " UNION ALL ".join(rows), stamp=STAMP)

    shown = run("show", VIEW).json
    assert [one["name"] for one in shown["features"]] == ["rooms", "food_share"]
    assert (shown["made_from"], shown["ttl_s"]) == (["staging.household_survey"], 370 * 86400.0)
    assert "household_vulnerability" in shown["used_by"]
    assert run("history", VIEW).json["versions"][0]["inputs"] == {"staging.household_survey": 3}
    assert run("search", "food share").json["features"][0]["feature"] == "food_share"

    def rooms(*arguments: object) -> list[int | None]:
        return [row["rooms"] for row in run("get", VIEW, "--feature", "rooms", *arguments).json["rows"]]

    one = ("--entity", "HH00000001")
    assert rooms(*one, "--as-of", "2026-01-20") == [2]
    assert rooms(*one, "--as-of", "2026-01-20", "--known-at", "2026-04-01T00:00:00Z") == [9]
    assert rooms(*one, "--entity", "household_id=HH2", "--entity", "nobody", "--as-of", "2026-02-11") == [3, None, None]
    asked = (*one, "--entity", "HH2", "--entity", "nobody")
    told = run("get", VIEW, *asked, "--as-of", "2028-01-01").json["missing"]
    assert [(absent["entity"]["household_id"], absent["why"]) for absent in told] == [
        ("HH00000001", "too old"),
        ("HH2", "too old"),
        ("nobody", "no row"),
    ]
    told = run("get", VIEW, *asked, "--as-of", "2026-01-20", "--known-at", "2026-01-01").json["missing"]
    assert [absent["why"] for absent in told] == ["not then", "not then", "no row"]
    spoken = lakehouse("features", "get", VIEW, *asked, "--as-of", "2026-02-11").err
    assert f"{VIEW} has no row of household_id nobody: its features are NULL or have their defaults" in spoken
    assert "HH00000001" not in spoken
    assert "is no instant" in run("get", VIEW, *one, "--as-of", "yesterday", code=2).err
    assert "is in none of these views" in run("get", VIEW, *one, "--feature", "windows", code=2).err
    assert "is not in the online store" in run("get", VIEW, *one, "--online", code=2).err

    made = run("materialize", VIEW).json
    assert (made["views"][0]["entities"], made["views"][0]["whole"]) == (2, True)
    (found,) = run("get online", VIEW, "--entity", "HH2", "--feature", "rooms", "--online").json["rows"]
    assert found == {"household_id": "HH2", "rooms": 5}
    lake.append(con, TABLE, interview("HH2", f"{recent + timedelta(days=1):%Y-%m-%d}", 6), stamp=STAMP)
    again = run("materialize", "--evict").json
    assert [(one["entities"], one["since"]) for one in again["views"]] == [(1, 0)]
    assert run("parity", "--sample", 10).json["views"][0]["passed"] is True
    assert "the same online" in lakehouse("features", "parity", VIEW).out

    con.execute(f"SELECT count(*) FROM ({lake.scan_sql(PARITY_TABLE, con=con)})")
    assert con.fetchall() == [(2,)]
    con.close()
