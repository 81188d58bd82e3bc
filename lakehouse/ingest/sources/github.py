"""The commits of a GitHub repository, walked page by page into a landing folder."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from lakehouse.errors import SourceError
from lakehouse.ingest.sources.github_api import Answer, GitHub
from lakehouse.ingest.sources.pages import MOST_FILES, PAGE_ROWS, SourceReport, iso, only_reader, read_state, shaped, slug, write_json
from lakehouse.settings import Settings

OVERLAP = timedelta(days=14)
_NAME = re.compile(r"^[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?/(?!\.{1,2}$)[A-Za-z0-9._-]+$")
_INSTANT = re.compile(r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$")
_MOST_FILE_PAGES = 30


@dataclass(slots=True)
class _Walk:
    """A walk over the pages, newest commit first; saved after every page, so that it can be gone on with."""

    first: str
    next: str | None
    started: str
    page: int = 0
    etag: str | None = None
    newest: str = ""


def github_commits(
    repository: str,
    out: Path,
    *,
    settings: Settings,
    now: datetime,
    branch: str | None = None,
    since: datetime | None = None,
    overlap: timedelta = OVERLAP,
    details: bool = False,
    max_wait_s: float = 900.0,
    cursor: Path | None = None,
    client: GitHub | None = None,
    progress: Callable[[int], None] | None = None,
) -> SourceReport:
    """Write the commits that are new since the last complete walk as JSON pages into `out`.

    A page appears when it is complete, and the walk's state is saved behind it: killed at any instant and started again, the walk goes on
    where it was, and no commit is left out. When nothing changed, the API answers 304 and nothing is written.

    The API selects by commit date, and a branch that is merged late brings old dates: every walk therefore begins `overlap` before
    the newest commit seen, and leaves out what it knows.

    Args:
        repository: owner/name.
        out: landing folder of the pages.
        settings: the API's address and token.
        now: names the pages of a new walk.
        branch: branch, tag or commit to begin with; the default branch unless told.
        since: leave out older commits; only for the first walk.
        overlap: how far back a later walk looks again.
        details: ask for each commit's statistics and files too, one request each; the list does not have them.
        max_wait_s: how long to wait for the rate limit before giving up.
        cursor: file that holds the state; a hidden file in `out` unless told.
        client: the client to ask; one is made unless given.
        progress: called with the number of commits written since the last call.

    Raises:
        SourceError: the name is not valid, the API refuses or fails, or the wait would be too long; what was written stays and counts.
    """
    if not _NAME.fullmatch(repository):
        raise SourceError(f"repository {repository!r}", "is not valid", expected="owner/name")
    state_file = cursor or out / f".{slug(repository)}.github.json"
    with only_reader(state_file, repository), client or GitHub(settings, max_wait_s=max_wait_s) as api:
        state = _State(state_file, repository, branch=branch, overlap=overlap, now=now)
        walk = state.walk or state.begin(api.base, since=since)
        files: list[Path] = []
        written = 0
        while walk.next:
            answer = api.get(api.own(walk.next), etag=state.etag(walk))
            if answer.data is None:
                return SourceReport(repository, (), 0, api.requests)
            page = _page(answer, walk.next)
            fresh = [commit for commit in page if not state.has(commit["sha"])]
            if details:
                fresh = [_detailed(api, repository, commit["sha"]) for commit in fresh]
            if fresh:
                # The first commit is part of the name: another walk's page never takes the place of one that still waits.
                name = f"{slug(repository)}_{walk.started}_page-{walk.page + 1:05d}_{fresh[0]['sha'][:12]}.json"
                files.append(write_json(out / name, fresh))
                written += len(fresh)
                if progress:
                    progress(len(fresh))
            state.advance(walk, answer, page)
        state.finish(walk)
        return SourceReport(repository, tuple(files), written, api.requests)


def _page(answer: Answer, url: str) -> list[dict[str, Any]]:
    if not isinstance(answer.data, list) or not all(isinstance(item, dict) for item in answer.data):
        raise SourceError(url, "did not give a list of commits", found=str(answer.data)[:200])
    return [shaped(item) for item in answer.data]


def _detailed(api: GitHub, repository: str, sha: str) -> dict[str, Any]:
    """The commit with its statistics and files; the list of files is cut, and its true length kept."""
    answer = api.get(f"{api.base}/repos/{repository}/commits/{sha}?per_page={PAGE_ROWS}")
    if not isinstance(answer.data, dict):
        raise SourceError(f"commit {sha}", "has another shape than the API describes", found=str(answer.data)[:200])
    raw: dict[str, Any] = answer.data
    files: list[Any] = list(raw.get("files") or ())
    count = len(files)
    for _ in range(_MOST_FILE_PAGES):
        if not answer.next_url:
            break
        answer = api.get(answer.next_url)
        more = answer.data.get("files") or () if isinstance(answer.data, dict) else ()
        count += len(more)
        files.extend(more if len(files) < MOST_FILES else ())
    record = shaped({**raw, "files": files})
    if count > MOST_FILES:
        record["files_truncated_from"] = count
    return record


class _State:
    """What is remembered between looks, in one file that is replaced as a whole."""

    def __init__(self, path: Path, repository: str, *, branch: str | None, overlap: timedelta, now: datetime) -> None:
        self._path = path
        self._repository = repository
        self._branch = branch
        self._overlap = overlap
        self._now = now
        saved = read_state(path)
        # Another branch is another history: its commits are not known.
        same = saved.get("branch") == branch
        self.newest: str = saved.get("newest", "") if same else ""
        self._etags: dict[str, str] = saved.get("etags", {}) if same else {}
        self._known: dict[str, str] = saved.get("known", {}) if same else {}
        self._seen: dict[str, str] = saved.get("seen", {}) if same else {}
        self.walk: _Walk | None = _Walk(**saved["walk"]) if same and saved.get("walk") else None

    def begin(self, base: str, *, since: datetime | None) -> _Walk:
        if self.newest:
            since = datetime.fromisoformat(self.newest) - self._overlap
        query = {"per_page": str(PAGE_ROWS)}
        if self._branch:
            query["sha"] = self._branch
        if since:
            query["since"] = iso(since)
        first = f"{base}/repos/{self._repository}/commits?{urlencode(query)}"
        self.walk = _Walk(first=first, next=first, started=self._now.strftime("%Y%m%dT%H%M%SZ"))
        self._seen = {}
        return self.walk

    def has(self, sha: str) -> bool:
        """The commit was written already, by this walk or one before."""
        return sha in self._known or sha in self._seen

    def etag(self, walk: _Walk) -> str | None:
        """Only a walk's first page is asked for conditionally: it changes whenever anything does."""
        return self._etags.get(walk.first) if walk.next == walk.first else None

    def advance(self, walk: _Walk, answer: Answer, page: list[dict[str, Any]]) -> None:
        dates = {commit["sha"]: str((commit["commit"]["committer"] or {}).get("date", "")) for commit in page}
        # A commit can claim to be from the future; believing it would hide everything until then.
        walk.newest = max(walk.newest, *(min(date, iso(self._now)) for date in dates.values() if _INSTANT.match(date)), "")
        self._seen = self._recent({**self._seen, **dates}, walk.newest)
        walk.etag = answer.etag if walk.page == 0 else walk.etag
        walk.page += 1
        walk.next = answer.next_url
        self._save()

    def finish(self, walk: _Walk) -> None:
        """The walk is complete: later ones begin where it did, less the overlap."""
        self.newest = max(self.newest, walk.newest)
        self._etags = {walk.first: walk.etag} if walk.etag else {}
        self._known = self._recent({**self._known, **self._seen}, self.newest)
        self.walk, self._seen = None, {}
        self._save()

    def _recent(self, dates: dict[str, str], newest: str) -> dict[str, str]:
        """The commits that a later walk will be shown again: there are never more of them to remember."""
        if not newest:
            return dates
        oldest = iso(datetime.fromisoformat(newest) - self._overlap)
        return {sha: date for sha, date in dates.items() if date >= oldest}

    def _save(self) -> None:
        walk = self.walk
        write_json(
            self._path,
            {
                "repository": self._repository,
                "branch": self._branch,
                "newest": self.newest,
                "etags": self._etags,
                "known": self._known,
                "seen": self._seen,
                "walk": {name: getattr(walk, name) for name in walk.__slots__} if walk else None,
            },
        )
