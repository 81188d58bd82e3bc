"""Commit pages in the shape of the GitHub REST API, for demonstrations without a network.

The model: each commit has a type (feat, fix, docs, ...) drawn from its author's habits. The type decides which words its
subject is made of, which files it touches and how many lines it changes. As in real histories the three say less than one would
like: four subjects in ten tell what was touched and not why, one in ten borrows the words of another type, a third of the files are
such as any commit touches, and one author in twelve writes another type than most would. So a good model reaches a macro F1 of
about 0.75. Nine subjects in ten carry the Conventional Commits prefix, which gives the type away: strip it before training.
"""

import hashlib
import json
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakehouse.errors import SourceError
from lakehouse.sampling.commit_words import (
    FILES,
    MISTAKEN,
    NEUTRAL,
    PEOPLE,
    REPOSITORIES,
    SHARED_FILES,
    SIZE,
    SUBJECTS,
    TYPE_SHARES,
    WORDS,
)
from lakehouse.sampling.files import SampleReport, SampleWriter, report

if TYPE_CHECKING:
    import numpy as np

PAGE_ROWS = 100
_FIRST = datetime(2025, 1, 1, 6, tzinfo=UTC)
_DAYS = 600
_HABITS = 0.45
_NEUTRAL = 0.4
_BORROWED = 0.1
_SHARED = 0.35
_MISTAKEN = 0.08
_PREFIXED = 0.9

Record = dict[str, Any]


def commits(
    *,
    rows: int,
    out: Path,
    seed: int = 0,
    bad_rate: float = 0.004,
    planted: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> SampleReport:
    """Write exactly `rows` commits of a few repositories, newest first, at most 100 a page; the same arguments give the same bytes.

    Args:
        rows: commits over all repositories.
        out: folder of the pages.
        seed: chooses the commits.
        bad_rate: share of records that break one rule of the contract.
        planted: a CSV file to list the bad records in: file, row (1-based place in the page), kind.
        progress: called with the number of commits written since the last call.

    Raises:
        SourceError: an argument is out of its range.
    """
    if rows < 1 or seed < 0:
        raise SourceError("sample", "needs at least one row and a seed from 0", found=f"{rows} rows, seed {seed}")
    if not 0 <= bad_rate <= 1:
        raise SourceError("bad rate", "is out of range", expected="0..1", found=str(bad_rate))
    writers: list[SampleWriter] = []
    drawn = spoiled = 0
    with ExitStack() as stack:
        ledger = stack.enter_context(SampleWriter(planted)) if planted else None
        if ledger:
            ledger.write(b"file,row,kind\n")
        for place, repository in enumerate(REPOSITORIES):
            total = (rows + place) // len(REPOSITORIES)
            for number, newest in enumerate(range(total, 0, -PAGE_ROWS), start=1):
                page = _page(repository, newest, min(newest, PAGE_ROWS), total=total, seed=seed)
                with SampleWriter(out / f"{repository.replace('/', '__')}_page-{number:05d}.json") as writer:
                    drawn += len(page)
                    bad_count, spoiled = int(drawn * bad_rate) - spoiled, int(drawn * bad_rate)
                    for kind, at in _spoil(page, bad_count, turn=spoiled):
                        writer.bad[kind] += 1
                        if ledger:
                            ledger.write(f"{writer.path.name},{at + 1},{kind}\n".encode())
                    writer.write(json.dumps(page, indent=1, ensure_ascii=False).encode() + b"\n")
                    writer.rows = len(page)
                writers.append(writer)
                if progress:
                    progress(len(page))
    return report(writers)


def _page(repository: str, newest: int, count: int, *, total: int, seed: int) -> list[Record]:
    """Commits `newest`, `newest - 1`, ... of the repository; each has random numbers of its own."""
    import numpy as np

    home = REPOSITORIES.index(repository)
    step = timedelta(days=_DAYS) / total
    page: list[Record] = []
    for index in range(newest, newest - count, -1):
        rng = np.random.default_rng([seed, home, index])
        when = _FIRST + step * (index - 1) + step * float(rng.random()) * 0.9
        page.append(_commit(rng, repository, index, when.replace(microsecond=0), seed=seed))
    return page


def _commit(rng: "np.random.Generator", repository: str, index: int, when: datetime, *, seed: int) -> Record:
    person = int(rng.integers(0, len(PEOPLE)))
    name, login, habit = PEOPLE[person]
    kinds = list(TYPE_SHARES)
    kind = habit if rng.random() < _HABITS else str(rng.choice(kinds, p=list(TYPE_SHARES.values())))
    files = _files(rng, kind)
    sha = _sha(seed, repository, index)
    identity = {"name": name, "email": _address(login), "date": _iso(when - timedelta(minutes=int(rng.exponential(90))))}
    squashed = bool(rng.random() < 0.7)
    committer = {"name": "GitHub", "email": "noreply@github.com"} if squashed else {"name": name, "email": _address(login)}
    additions, deletions = (sum(file[side] for file in files) for side in ("additions", "deletions"))
    return {
        "sha": sha,
        "commit": {
            "author": identity,
            "committer": {**committer, "date": _iso(when)},
            "message": _message(rng, kind, person, index),
            "tree": {"sha": _sha(seed, repository, index, "tree")},
            "comment_count": int(rng.poisson(0.1)),
        },
        "url": f"https://api.github.com/repos/{repository}/commits/{sha}",
        "html_url": f"https://github.com/{repository}/commit/{sha}",
        "author": {"login": login, "type": "Bot" if login.endswith("[bot]") else "User", "site_admin": False},
        "committer": {"login": "web-flow" if squashed else login, "type": "User", "site_admin": False},
        "parents": [{"sha": _sha(seed, repository, index - 1)}] if index > 1 else [],
        "stats": {"total": additions + deletions, "additions": additions, "deletions": deletions},
        "files": files,
    }


def _message(rng: "np.random.Generator", kind: str, person: int, index: int) -> str:
    voice = kind if rng.random() > _BORROWED else str(rng.choice(list(SUBJECTS)))
    verb, tail = (str(rng.choice(part)) for part in (NEUTRAL if rng.random() < _NEUTRAL else SUBJECTS[voice]))
    thing, scope = str(rng.choice(WORDS)), str(rng.choice(WORDS)).split(" ", maxsplit=1)[0]
    subject = f"{verb} {thing} {tail}".strip()
    if rng.random() < _PREFIXED:
        written = kind if rng.random() > _MISTAKEN else str(rng.choice(MISTAKEN[kind]))
        subject = f"{written}{f'({scope})' if rng.random() < 0.35 else ''}{'!' if rng.random() < 0.03 else ''}: {subject}"
    elif rng.random() < 0.5:
        subject = subject.capitalize()
    message = f"{subject} (#{index + 100})"
    if rng.random() < 0.25:
        message += f"\n\n{str(rng.choice(SUBJECTS[voice][0])).capitalize()} the {rng.choice(WORDS)} as well."
        if rng.random() < 0.2:
            message += f" Thanks to @{PEOPLE[int(rng.integers(0, len(PEOPLE)))][1]} for the report."
    if rng.random() < 0.15:
        name, login, _ = PEOPLE[(person + 1 + int(rng.integers(0, len(PEOPLE) - 1))) % len(PEOPLE)]
        message += f"\n\n{rng.choice(('Co-authored-by', 'Signed-off-by', 'Reviewed-by'))}: {name} <{_address(login)}>"
    return message


def _file_name(rng: "np.random.Generator", kind: str) -> str:
    pattern = str(rng.choice(SHARED_FILES if rng.random() < _SHARED else FILES[kind]))
    return pattern.replace("*", str(rng.choice(WORDS)).replace(" ", "_"))


def _files(rng: "np.random.Generator", kind: str) -> list[Record]:
    lines, deleted_share, spread = SIZE[kind]
    names = sorted({_file_name(rng, kind) for _ in range(1 + int(rng.poisson(spread)))})
    files: list[Record] = []
    for name in names:
        changed = 1 + int(rng.lognormal(lines, 0.9) / len(names))
        deletions = int(rng.binomial(changed, deleted_share))
        status = "added" if deletions == 0 and rng.random() < 0.4 else "modified"
        sha = hashlib.sha1(f"{name}/{changed}".encode(), usedforsecurity=False).hexdigest()
        files.append(
            {"sha": sha, "filename": name, "status": status, "additions": changed - deletions, "deletions": deletions, "changes": changed}
        )
    return files


def _spoil(page: list[Record], count: int, *, turn: int) -> list[tuple[str, int]]:
    """Break one rule in each of `count` records of the page; gives the kinds and the places."""
    whole = count == len(page)
    planted: list[tuple[str, int]] = []
    for index in range(count):
        # The first record stays good while there is room, so that a key can be taken from it.
        at = index if whole else 1 + index * (len(page) - 1) // count
        kinds = _ways_to_spoil(page[at], page[0])
        names = [name for name in kinds if not (whole and name == "duplicate_key")]
        kind = names[(turn + index) % len(names)]
        kinds[kind]()
        planted.append((kind, at))
    return planted


def _ways_to_spoil(record: Record, first: Record) -> dict[str, Callable[[], object]]:
    commit, stats = record["commit"], record["stats"]
    return {
        "missing_required": lambda: commit.update(message=None),
        "impossible_time": lambda: commit["committer"].update(date="2025-02-30T10:00:00Z"),
        "wrong_pattern": lambda: record.update(sha=record["sha"][:7]),
        "out_of_range": lambda: stats.update(additions=-5, total=stats["deletions"] - 5),
        "text_in_number": lambda: stats.update(total="many"),
        "totals_disagree": lambda: stats.update(total=stats["total"] + 3),
        "duplicate_key": lambda: record.update(sha=first["sha"], html_url=first["html_url"]),
    }


def _sha(seed: int, repository: str, index: int, what: str = "commit") -> str:
    return hashlib.sha1(f"{seed}/{repository}/{index}/{what}".encode(), usedforsecurity=False).hexdigest()


def _address(login: str) -> str:
    return f"{login}@users.noreply.github.com" if login.endswith("[bot]") else f"{login}@example.org"


def _iso(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")
