"""The GitHub source against a server that behaves as the real one does."""

import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from lakehouse.errors import SourceError
from lakehouse.ingest.sources import SourceReport, github_commits
from lakehouse.ingest.sources.github_api import GitHub, check_address
from lakehouse.settings import Settings

NOW = datetime(2026, 6, 1, tzinfo=UTC)


@pytest.fixture
def naps() -> list[float]:
    """How long the client would have slept, instead of sleeping."""
    return []


@pytest.fixture
def walk(github: Any, github_settings: Settings, tmp_path: Path, naps: list[float]) -> Any:
    """Read the repository into `landing`; keyword arguments go to the source."""

    def run(*, now: datetime = NOW, max_wait_s: float = 900.0, **options: Any) -> SourceReport:
        client = GitHub(github_settings, max_wait_s=max_wait_s, timeout_s=0.5, clock=NOW.timestamp, sleep=naps.append)
        return github_commits(github.repository, tmp_path / "landing", settings=github_settings, now=now, client=client, **options)

    return run


def landed(folder: Path) -> list[dict[str, Any]]:
    return [commit for path in sorted(folder.glob("[!.]*.json")) for commit in json.loads(path.read_text())]


def shas(rows: list[dict[str, Any]]) -> list[str]:
    return [row["sha"] for row in rows]


def test_every_page_is_walked(walk: Any, github: Any, tmp_path: Path) -> None:
    report = walk()
    assert report.commits == 250
    assert [len(json.loads(path.read_text())) for path in report.files] == [100, 100, 50]
    assert sorted(shas(landed(tmp_path / "landing"))) == sorted(shas(github.commits))
    assert len(github.seen) == 3
    assert all(headers["authorization"] == "Bearer token-of-the-test" for _, headers in github.seen)


def test_only_what_the_contract_knows_is_kept(walk: Any, tmp_path: Path) -> None:
    walk()
    commit = landed(tmp_path / "landing")[0]
    assert set(commit) == {"sha", "commit", "url", "html_url", "author", "committer", "parents"}
    assert set(commit["author"]) == {"login", "type", "site_admin"}
    assert commit["committer"] is None


def test_unchanged_repository_costs_one_conditional_request(walk: Any, github: Any) -> None:
    walk()
    walk()
    github.seen.clear()
    report = walk()
    assert report.is_unchanged
    assert len(github.seen) == 1
    assert "if-none-match" in github.seen[0][1]


def test_only_new_commits_are_written(walk: Any, github: Any, tmp_path: Path) -> None:
    walk()
    github.push(7)
    report = walk(now=NOW + timedelta(hours=1))
    assert report.commits == 7
    rows = landed(tmp_path / "landing")
    assert len(rows) == 257
    assert sorted(shas(rows)) == sorted(shas(github.commits))


def test_page_that_still_waits_is_never_replaced(walk: Any, github: Any, tmp_path: Path) -> None:
    for count in (1, 2, 3):
        walk()
        github.push(count)
    walk()
    assert sorted(set(shas(landed(tmp_path / "landing")))) == sorted(shas(github.commits))


def test_branch_merged_late_is_found_within_the_overlap(walk: Any, github: Any, tmp_path: Path) -> None:
    walk()
    github.push(1)
    late = {**github.commits[-1], "sha": "a" * 40}
    late["commit"] = {
        **late["commit"],
        "committer": {**late["commit"]["committer"], "date": github.commits[200]["commit"]["committer"]["date"]},
    }
    github.commits.insert(200, late)
    walk()
    assert late["sha"] in shas(landed(tmp_path / "landing"))


def test_commit_from_the_future_hides_nothing(walk: Any, github: Any, tmp_path: Path) -> None:
    github.push(1, start=datetime(2099, 1, 1, tzinfo=UTC))
    walk()
    github.push(3, start=NOW - timedelta(days=20))
    walk()
    assert sorted(set(shas(landed(tmp_path / "landing")))) == sorted(shas(github.commits))


def test_since_leaves_out_older_commits(walk: Any, github: Any, tmp_path: Path) -> None:
    walk(since=datetime(2026, 1, 11, tzinfo=UTC))
    assert sorted(shas(landed(tmp_path / "landing"))) == sorted(shas(github.commits[240:]))


def test_details_bring_numbers_and_files(walk: Any, github: Any, tmp_path: Path) -> None:
    github.commits = github.commits[:2]
    github.files_per_commit = 420
    walk(details=True)
    commit = landed(tmp_path / "landing")[0]
    assert commit["stats"] == {"total": 1260, "additions": 840, "deletions": 420}
    assert len(commit["files"]) == 300
    assert commit["files_truncated_from"] == 420
    assert set(commit["files"][0]) == {"sha", "filename", "status", "additions", "deletions", "changes"}


def test_primary_rate_limit_is_waited_for(walk: Any, github: Any, naps: list[float]) -> None:
    reset = str(int(NOW.timestamp()) + 120)
    github.trouble = [(403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": reset}, {"message": "API rate limit exceeded"})]
    assert walk().commits == 250
    assert naps == [121.0]


@pytest.mark.parametrize(
    ("answer", "expected_s"),
    [
        ((429, {"retry-after": "7"}), 7.0),
        ((403, {"retry-after": "7", "x-ratelimit-remaining": "0", "x-ratelimit-reset": "99999999999"}), 7.0),
        ((429, {"retry-after": "Mon, 01 Jun 2026 00:00:30 GMT"}), 31.0),
        ((429, {}), 60.0),
    ],
)
def test_secondary_rate_limit_is_waited_for(
    walk: Any, github: Any, naps: list[float], answer: tuple[int, dict[str, str]], expected_s: float
) -> None:
    github.trouble = [(*answer, {"message": "You have exceeded a secondary rate limit"})]
    assert walk().commits == 250
    assert naps == [expected_s]


def test_long_wait_is_an_error_that_says_when_and_goes_on_later(walk: Any, github: Any, naps: list[float], tmp_path: Path) -> None:
    reset = str(int(NOW.timestamp()) + 3600)
    github.trouble = [0, (403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": reset}, {"message": "API rate limit exceeded"})]
    with pytest.raises(SourceError, match=r"rate limit.*2026-06-01 01:00:01 UTC"):
        walk(max_wait_s=60)
    assert naps == []
    assert len(landed(tmp_path / "landing")) == 100
    github.seen.clear()
    walk()
    assert len(github.seen) == 2, "the first page is not asked for again"
    assert sorted(shas(landed(tmp_path / "landing"))) == sorted(shas(github.commits))


def test_waits_add_up_to_the_limit(walk: Any, github: Any, naps: list[float]) -> None:
    github.trouble = [(429, {"retry-after": "50"}, {})] * 3
    with pytest.raises(SourceError, match="rate limit"):
        walk(max_wait_s=120)
    assert naps == [50.0, 50.0]


@pytest.mark.parametrize("trouble", [(500, {}, b"oops"), (502, {}, b"<html>"), "drop", "half", 0.9, (200, {}, b'[{"sha"')])
def test_flaky_server_is_asked_again(walk: Any, github: Any, naps: list[float], trouble: object) -> None:
    github.trouble = [trouble, trouble]
    assert walk().commits == 250
    assert naps == [1.0, 2.0]


def test_broken_server_is_an_error_after_a_while(walk: Any, github: Any, naps: list[float]) -> None:
    github.trouble = [(503, {}, b"")] * 9
    with pytest.raises(SourceError, match=r"failed 5 times.*503"):
        walk()
    assert naps == [1.0, 2.0, 4.0, 8.0]


@pytest.mark.parametrize(
    ("status", "expected"),
    [(401, "TOKEN"), (403, "forbidden"), (404, "private"), (409, "empty repository"), (451, "legal reasons"), (418, "unexpected")],
)
def test_refusals_say_what_to_do(walk: Any, github: Any, status: int, expected: str) -> None:
    github.trouble = [(status, {}, {"message": "said so"})]
    with pytest.raises(SourceError, match=expected) as caught:
        walk()
    assert "said so" in str(caught.value)
    assert "token-of-the-test" not in str(caught.value)


def test_renamed_repository_is_followed(walk: Any, github: Any) -> None:
    github.redirect[f"/repos/{github.repository}/commits"] = "/repositories/7/commits?per_page=100"
    assert walk().commits == 250


def test_redirect_to_another_server_is_refused(walk: Any, github: Any) -> None:
    github.redirect[f"/repos/{github.repository}/commits"] = "http://127.0.0.1:9/steal"
    with pytest.raises(SourceError, match="another server"):
        walk()


def test_next_page_on_another_server_is_refused(walk: Any, github: Any) -> None:
    github.next_host = "http://127.0.0.1:9"
    with pytest.raises(SourceError, match="another server"):
        walk()


def test_circle_of_redirects_ends(walk: Any, github: Any) -> None:
    github.redirect[f"/repos/{github.repository}/commits"] = f"/repos/{github.repository}/commits"
    with pytest.raises(SourceError, match="redirects"):
        walk()


@pytest.mark.parametrize("name", ["granary", "a/b/c", "../x", "a/..", "a/b?x=1", "a b/c", "-a/b", "a/b\n"])
def test_names_that_are_none_are_refused(github_settings: Settings, tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceError, match="owner/name"):
        github_commits(name, tmp_path, settings=github_settings, now=NOW)


def test_answer_of_another_shape_is_an_error(walk: Any, github: Any) -> None:
    github.trouble = [(200, {}, {"message": "hello"})]
    with pytest.raises(SourceError, match="list of commits"):
        walk()


def test_only_one_process_walks_at_a_time(walk: Any, github: Any, github_settings: Settings, tmp_path: Path) -> None:
    def second(_: int) -> None:
        with pytest.raises(SourceError, match="another process"):
            github_commits(github.repository, tmp_path / "landing", settings=github_settings, now=NOW)

    assert walk(progress=second).commits == 250


def test_damaged_state_says_what_to_do(walk: Any, tmp_path: Path) -> None:
    (tmp_path / "landing").mkdir()
    (tmp_path / "landing" / ".openfields__granary.github.json").write_text("{")
    with pytest.raises(SourceError, match="Delete it"):
        walk()


@pytest.mark.parametrize("base", ["ftp://x", "api.github.com", "https://user:secret@host", "http://ghe.example.org"])
def test_addresses_that_a_token_must_not_go_to(base: str) -> None:
    with pytest.raises(SourceError) as caught:
        check_address(base, has_token=True)
    assert "secret" not in str(caught.value)


def test_public_name_that_leads_into_a_private_network_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: [(2, 1, 6, "", ("10.0.0.7", 443))])
    with pytest.raises(SourceError, match="private address"):
        check_address("https://api.github.com", has_token=False)
    check_address("https://ghe.example.org/api/v3", has_token=True)


def test_state_stays_small(walk: Any, github: Any, tmp_path: Path) -> None:
    github.push(1500)
    walk()
    state = json.loads((tmp_path / "landing" / ".openfields__granary.github.json").read_text())
    assert len(state["known"]) <= 14 * 24 + 1
    assert state["walk"] is None
    assert state["seen"] == {}


_CHILD = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from lakehouse.ingest.sources import github_commits
from lakehouse.settings import Settings
github_commits(sys.argv[1], Path(sys.argv[2]), settings=Settings.load(), now=datetime(2026, 6, 1, tzinfo=UTC))
"""


def test_killed_walk_goes_on_without_losing_a_commit(github: Any, github_settings: Settings, tmp_path: Path) -> None:
    """Real processes, killed at the moments between two requests."""
    github.push(450)
    github.delay_s = 0.15
    folder = tmp_path / "landing"
    environment = {**os.environ, **github_settings.child_environment(), "LAKEHOUSE_GITHUB_API": github.url}
    command = [sys.executable, "-c", _CHILD, github.repository, str(folder)]
    for _ in range(3):
        before = len(github.seen)
        with subprocess.Popen(command, env=environment) as child:
            while len(github.seen) < before + 2 and child.poll() is None:
                time.sleep(0.005)
            child.kill()
    assert subprocess.run(command, env=environment, check=False).returncode == 0
    assert sorted(set(shas(landed(folder)))) == sorted(shas(github.commits))
    assert len([path for path, _ in github.seen if "page=" not in path.replace("per_page", "")]) <= 4
    github.delay_s = 0
    report = github_commits(github.repository, folder, settings=github_settings, now=NOW)
    assert report.is_unchanged


def test_token_is_not_needed(github: Any, github_settings: Settings, tmp_path: Path) -> None:
    bare = github_settings.model_copy(update={"github_token": None})
    github_commits(github.repository, tmp_path, settings=bare, now=NOW)
    assert all("authorization" not in headers for _, headers in github.seen)
    assert SecretStr("x") != github_settings.github_token
