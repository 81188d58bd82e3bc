"""A person leaves the online store too: rows, pushed rows, removed rows in free pages and logs; the report and its check say so."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from lakehouse.features import FeatureView
from lakehouse.features.online import OnlineFeatures, OnlineStore, Origin, ViewState, check_parity, materialize, open_store
from lakehouse.features.online.rows import Typed, entity_of, key_of
from lakehouse.ingest import ingest
from lakehouse.pipeline.erasing import erase, verify_erasure
from lakehouse.pipeline.workspace import Workspace
from lakehouse.privacy.erasure.subject import Subject
from lakehouse.settings import Settings
from lakehouse.tables import Stamp
from tests.privacy.test_erasing_a_home import CONTRACT, NOW, SUBJECT, WHO, rows

OF_CUSTOMER = FeatureView("of_customer", "features.of_customer", ("customer",), online=True, defaults={"spent": 0})
OF_VISIT = FeatureView("of_visit", "features.of_visit", ("visit", "amount"), online=True)
LATER = NOW + timedelta(minutes=1)
VIEWS = (OF_CUSTOMER, OF_VISIT)


@pytest.fixture(params=["sqlite", pytest.param("redis", marks=pytest.mark.servers)])
def workspace(request: pytest.FixtureRequest, settings: Settings) -> Workspace:
    """A home with features of people, in the online store."""
    folder = settings.home_dir / "contracts" / "datasets"
    folder.mkdir(parents=True)
    (folder / "people.odcs.yaml").write_text(CONTRACT.replace(" PROTECTION", ""), encoding="utf-8")
    if request.param == "redis":
        settings = settings.model_copy(update={"online_url": SecretStr(request.getfixturevalue("redis_url"))})
    made = Workspace(settings)
    bring(made, rows(0, 300) + f"VISIT-80000,CUST-00007,came with {WHO},7\n", "first.csv")
    return made


@pytest.fixture
def store(workspace: Workspace) -> Iterator[OnlineStore]:
    made = open_store(workspace.settings)
    yield made
    made.close()


def bring(workspace: Workspace, content: str, name: str) -> None:
    """Take rows in, and make features of them: those of a customer, and those of a visit, where another one's names somebody."""
    path = workspace.settings.home_dir.parent / name
    path.write_text(content)
    report = ingest(workspace.lake, workspace.contracts.dataset("people"), [path], settings=workspace.settings, run="r", now=NOW)
    assert not [file.error for file in report.files if file.error]
    lake = workspace.lake
    with lake.connect(["raw.people"]) as session:
        stamp = Stamp(asset="test", run="r", inputs={"raw.people": lake.version("raw.people") or 0})
        spent = "SELECT customer, sum(amount)::BIGINT AS spent, [min(visit)] AS visits FROM raw.people GROUP BY customer"
        lake.overwrite(session.con, OF_CUSTOMER.table, spent, stamp=stamp)
        lake.overwrite(session.con, OF_VISIT.table, "SELECT visit, amount, customer, name AS note FROM raw.people", stamp=stamp)


def held(store: OnlineStore) -> bytes:
    lanes = b"".join(key + value for lane in store.lanes() for key, value in store.scan(lane))
    return lanes + "".join(store.states().values()).encode()


def files_with(workspace: Workspace, word: str) -> list[Path]:
    folder = workspace.settings.home_dir / "online"
    return [path for path in folder.rglob("*") if word.encode() in path.read_bytes()] if folder.exists() else []


def fill(workspace: Workspace, store: OnlineStore) -> None:
    for view in VIEWS:
        materialize(workspace.lake, store, view, now=NOW)


def test_a_person_leaves_the_online_store(workspace: Workspace, store: OnlineStore) -> None:
    fill(workspace, store)
    features = OnlineFeatures(store, cache_rows=0)
    features.push("of_customer", {"customer": WHO, "spent": 5, "visits": ["x"]}, now=NOW)
    features.push("of_customer", {"customer": "CUST-00043", "spent": 6, "visits": [f"met {WHO}"]}, now=LATER)
    # They were removed before, by which their row is left in a free page or the log; and they are why a view is not served.
    store.put("of_customer/1-aaaa", [(WHO.encode(), b"\0" * 40 + b'[1, ["x"]]')])
    store.drop("of_customer/1-aaaa")
    store.put("of_customer/2-died", [(WHO.encode(), b"\0" * 40 + b'[1, ["x"]]')])
    text = store.states()["of_visit"]
    state = ViewState.of(text)
    assert state is not None
    blocked = replace(state, blocked=f"1 of 20 entities differ, such as amount of {WHO}: online 1, offline 2")
    assert store.replace_state("of_visit", blocked.as_text(), expected=text)

    looked = erase(workspace, SUBJECT, run="r", now=NOW, dry_run=True).document["online"]
    assert [(one["view"], one["rows"], one["masked"]) for one in looked] == [("of_customer", 3, 1), ("of_visit", 3, 1)]
    assert WHO.encode() in held(store)
    done = erase(workspace, SUBJECT, run="r", now=datetime.now(UTC))
    assert done.is_clean, done.document["left"]
    assert done.document["online"] == looked
    assert done.path is not None
    assert verify_erasure(workspace, done.path, SUBJECT).left == ()
    assert verify_erasure(workspace, done.path, None).left == ()

    assert WHO.encode() not in held(store)
    assert files_with(workspace, WHO) == []
    [gone, pushed] = features.get("of_customer", [{"customer": WHO}, {"customer": "CUST-00043"}], now=LATER)
    assert (gone.origin, gone.values["spent"]) == (Origin.NONE, 0)
    assert (pushed.origin, pushed.values["visits"]) == (Origin.PUSHED, ["met [erased]"])
    # Both agree without anything being written anew, and nothing names them again.
    for view in VIEWS:
        parity = check_parity(workspace.lake, features, view, now=NOW)
        assert parity is not None
        assert parity.passed, parity.claim
        assert not materialize(workspace.lake, store, view, now=NOW).is_whole
    bring(workspace, rows(300, 340), "second.csv")
    fill(workspace, store)
    assert WHO.encode() not in held(store)
    assert verify_erasure(workspace, done.path, SUBJECT).left == ()


@pytest.mark.parametrize("workspace", ["sqlite"], indirect=True)
def test_a_short_value_means_somebody_only_in_the_column(workspace: Workspace, store: OnlineStore) -> None:
    bring(workspace, "Visit ID,Customer,name,amount\n42,99,x,42\n43,98,x,42\n", "short.csv")
    fill(workspace, store)
    done = erase(workspace, Subject("people", "customer", "99"), run="r", now=datetime.now(UTC))
    assert done.is_clean, done.document["left"]
    assert {one["view"]: (one["rows"], one["masked"]) for one in done.document["online"]} == {"of_customer": (1, 0), "of_visit": (1, 0)}
    served = OnlineFeatures(store, cache_rows=0).get("of_visit", [{"visit": "43", "amount": 42}, {"visit": "42", "amount": 42}], now=NOW)
    assert [one.values["customer"] for one in served] == ["98", None]


def test_a_check_finds_who_was_put_back(workspace: Workspace, store: OnlineStore) -> None:
    fill(workspace, store)
    path = erase(workspace, SUBJECT, run="r", now=datetime.now(UTC)).path
    assert path is not None
    OnlineFeatures(store).push("of_customer", {"customer": WHO, "spent": 5, "visits": []}, now=NOW)
    for subject in (None, SUBJECT):
        left = verify_erasure(workspace, path, subject).left
        assert any("online store" in one and "of_customer: 1 rows" in one for one in left), left
        assert not any(WHO in one for one in left)


@pytest.mark.parametrize("workspace", ["sqlite"], indirect=True)
@pytest.mark.parametrize("is_whole", [True, False], ids=["everything", "what has changed"])
def test_who_fills_the_store_meanwhile_brings_nobody_back(
    workspace: Workspace, store: OnlineStore, monkeypatch: pytest.MonkeyPatch, is_whole: bool
) -> None:
    if not is_whole:
        fill(workspace, store)
        bring(workspace, rows(300, 350) + f"VISIT-90000,{WHO},x,1\n", "second.csv")
    reports = []
    before = type(store).put

    def put(self: OnlineStore, lane: str, rows: object) -> int:
        """What was read is written after the erasure has looked through the store."""
        held_up = list(rows)  # type: ignore[call-overload]
        if not reports:
            reports.append(None)
            reports.append(erase(workspace, SUBJECT, run="r", now=datetime.now(UTC)))
        return before(self, lane, held_up)

    monkeypatch.setattr(type(store), "put", put)
    done = materialize(workspace.lake, store, OF_CUSTOMER, now=NOW)
    assert (done.is_whole, done.why) == (True, "somebody was erased meanwhile")
    assert WHO.encode() not in held(store)
    assert reports[1].path is not None
    assert verify_erasure(workspace, reports[1].path, None).left == ()


@pytest.mark.parametrize("workspace", ["sqlite"], indirect=True)
def test_a_store_out_of_reach_is_told_as_left(workspace: Workspace) -> None:
    settings = workspace.settings.model_copy(update={"online_url": SecretStr("redis://user:hidden@127.0.0.1:1/0")})
    done = erase(Workspace(settings), SUBJECT, run="r", now=datetime.now(UTC))
    assert not done.is_clean
    assert any("redis://127.0.0.1:1/0" in one for one in done.document["left"])
    assert "hidden" not in str(done.document)


def test_an_entity_is_read_from_its_key() -> None:

    one, two = (Typed("a", "VARCHAR"),), (Typed("a", "VARCHAR"), Typed("b", "BIGINT"))
    for text in ("x", "1:2", "", "é:", "3:abc"):
        assert entity_of(one, key_of("v", one, {"a": text})) == (text,)
        assert entity_of(two, key_of("v", two, {"a": text, "b": 42})) == (text, "42")
    assert entity_of(two, b"nonsense") is None
    assert entity_of(one, b"\xff") is None
