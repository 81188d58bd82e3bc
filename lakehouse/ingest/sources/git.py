"""The history of a local git repository, as pages in the shape of the GitHub API."""

import os
import re
import secrets
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

from lakehouse.errors import SourceError
from lakehouse.ingest.sources.pages import MOST_FILES, PAGE_ROWS, SourceReport, iso, only_reader, read_state, slug, write_json

_STATUS = {"A": "added", "M": "modified", "D": "removed", "R": "renamed", "C": "copied", "T": "changed"}
_HEADER = ("%H", "%P", "%T", "%an", "%ae", "%at", "%cn", "%ce", "%ct", "%B")
_READ_BYTES = 1 << 16
_TIPS_KEPT = 200
_NOREPLY = re.compile(r"^(?:\d+\+)?([A-Za-z0-9-]+(?:\[bot\])?)@users\.noreply\.github\.com$")
_REMOTE = re.compile(r"^(?:[a-z+]+://)?(?:[^@/]*@)?(?P<host>[^/:]+)(?::\d+)?[/:](?P<path>.+?)(?:\.git)?/*$")


def git_history(
    repository: Path,
    out: Path,
    *,
    refs: Sequence[str] = ("HEAD",),
    name: str | None = None,
    since: datetime | None = None,
    cursor: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> SourceReport:
    """Write the commits that are new since the last look as JSON pages into `out`, oldest first.

    A page appears when it is complete. The cursor moves when all pages are there: after a crash the same pages are written again under
    the same names. Merges are compared with their first parent; beyond 300 files the list is cut and `files_truncated_from` gives their
    number. When the history was rewritten, everything that can't be reached from commits already seen is new.

    Args:
        repository: a working tree, a bare repository, or a folder inside one.
        out: landing folder of the pages.
        refs: branches, tags or commits whose histories are read.
        name: owner/name for the addresses; else taken from the remote, else local/<folder>.
        since: leave out commits that were made earlier.
        cursor: file that remembers what was seen; a hidden file in `out` unless told.
        progress: called with the number of commits written since the last call.

    Raises:
        SourceError: no repository, an unknown ref, or git failed; pages written so far stay, and are written again next time.
    """
    git = _Git(repository)
    git.check()
    home, full_name = _address(git, name)
    state_file = cursor or out / f".{slug(full_name)}.git.json"
    with only_reader(state_file, full_name):
        seen = read_state(state_file)
        tips = {ref: git.commit(ref) for ref in refs} if not git.is_empty() else {}
        if not tips or seen.get("refs") == tips:
            return SourceReport(full_name, (), 0)
        known = git.present([*seen.get("refs", {}).values(), *seen.get("tips", ())])
        files: list[Path] = []
        written = 0
        tip = next(iter(tips.values()))
        for page in _pages(git.log(sorted(set(tips.values())), known, since), home, full_name, git.cut_off()):
            files.append(write_json(out / f"{slug(full_name)}_{tip[:16]}_page-{len(files) + 1:05d}.json", page))
            written += len(page)
            if progress:
                progress(len(page))
        earlier = [*seen.get("refs", {}).values(), *seen.get("tips", ())]
        write_json(state_file, {"refs": tips, "tips": list(dict.fromkeys(earlier))[:_TIPS_KEPT]})
        return SourceReport(full_name, tuple(files), written)


def _pages(commits: "Iterator[_Commit]", home: str, name: str, cut_off: frozenset[str]) -> Iterator[list[dict[str, Any]]]:
    page: list[dict[str, Any]] = []
    for commit in commits:
        page.append(commit.as_github(home, name, is_cut_off=commit.header[0] in cut_off))
        if len(page) == PAGE_ROWS:
            yield page
            page = []
    if page:
        yield page


def _address(git: "_Git", name: str | None) -> tuple[str, str]:
    """(https://host, owner/name) of the repository; never the credentials that a remote's address may hold."""
    remote = _REMOTE.match(git.remote())
    host = remote["host"] if remote else "localhost"
    if name is None and remote and "/" in remote["path"].strip("/"):
        name = "/".join(remote["path"].strip("/").split("/")[-2:])
    if name is None:
        name, host = f"local/{git.folder.resolve().name.removesuffix('.git')}", "localhost"
    if not re.fullmatch(r"[^/\s]+/[^/\s]+", name):
        raise SourceError(f"repository name {name!r}", "is not valid", expected="owner/name")
    return f"https://{host}", name


@dataclass(slots=True)
class _Commit:
    """One commit while its diff is being read."""

    header: list[str]
    files: list[dict[str, Any]] = field(default_factory=list)
    file_count: int = 0
    counted: int = 0
    additions: int = 0
    deletions: int = 0

    def add_file(self, raw: str, paths: list[str]) -> None:
        """`:100644 100644 <old> <new> M` and its one path, or two for a rename or copy."""
        self.file_count += 1
        if len(self.files) < MOST_FILES:
            *_, new, status = raw.split(" ")
            entry: dict[str, Any] = {
                "sha": new if new.strip("0") else None,
                "filename": paths[-1],
                "status": _STATUS.get(status[:1], "changed"),
            }
            if len(paths) > 1:
                entry["previous_filename"] = paths[0]
            self.files.append(entry)

    def add_count(self, added: str, deleted: str) -> None:
        """The counts come in the files' order; binary files have dashes."""
        is_binary = added == "-"
        plus, minus = (0, 0) if is_binary else (int(added), int(deleted))
        self.additions += plus
        self.deletions += minus
        if self.counted < len(self.files):
            self.files[self.counted].update(additions=plus, deletions=minus, changes=plus + minus)
            if is_binary:
                self.files[self.counted]["binary"] = True
        self.counted += 1

    def as_github(self, home: str, name: str, *, is_cut_off: bool) -> dict[str, Any]:
        """The commit as the API gives it."""
        sha, parents, tree, author, author_email, authored, committer, committer_email, committed, message = self.header
        api = f"{home.replace('//github.com', '//api.github.com')}/repos/{name}/commits"
        record: dict[str, Any] = {
            "sha": sha,
            "commit": {
                "author": {"name": author, "email": author_email, "date": _instant(authored)},
                "committer": {"name": committer, "email": committer_email, "date": _instant(committed)},
                "message": message.rstrip("\n"),
                "tree": {"sha": tree},
                "comment_count": 0,
            },
            "url": f"{api}/{sha}",
            "html_url": f"{home}/{name}/commit/{sha}",
            "author": _account(author, author_email),
            "committer": _account(committer, committer_email),
            "parents": [{"sha": parent, "url": f"{api}/{parent}"} for parent in parents.split()],
        }
        # Where a shallow clone ends git compares with nothing: such numbers would be wrong, so there are none.
        if not is_cut_off:
            record["stats"] = {"total": self.additions + self.deletions, "additions": self.additions, "deletions": self.deletions}
            record["files"] = self.files
            if self.file_count > len(self.files):
                record["files_truncated_from"] = self.file_count
        return record


def _account(name: str, email: str) -> dict[str, Any] | None:
    """The account, where the address tells it; else none, as the API does for addresses it doesn't know."""
    found = _NOREPLY.match(email)
    login = found[1] if found else name if name.endswith("[bot]") else None
    return {"login": login, "type": "Bot" if login.endswith("[bot]") else "User", "site_admin": False} if login else None


def _instant(seconds: str) -> str:
    """The instant; a date that no calendar has stays as it is, for ingestion to reject."""
    try:
        return iso(datetime.fromtimestamp(int(seconds), UTC))
    except (ValueError, OverflowError, OSError):
        return seconds


class _Git:
    """Questions to one repository; its own configuration can't make git start other programs or reach the network."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def check(self) -> None:
        if not self.folder.is_dir():
            raise SourceError(f"git repository {self.folder}", "does not exist", fix="Give the folder of a clone")
        self._ask("rev-parse", "--git-dir", problem="is not a git repository")

    def is_empty(self) -> bool:
        return not self._ask("rev-list", "--all", "HEAD", "--max-count=1", allow=(0, 128)).strip()

    def commit(self, ref: str) -> str:
        text = self._ask("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}", allow=(0, 1, 128)).strip()
        if not text:
            raise SourceError(f"git ref {ref!r}", f"is not in {self.folder}", fix="`git branch --all` lists what is")
        return text

    def present(self, commits: Sequence[str]) -> list[str]:
        """Those of the commits that the repository still has."""
        asked = "".join(f"{commit}^{{commit}}\n" for commit in dict.fromkeys(commits))
        answers = self._ask("cat-file", "--batch-check=%(objectname)", stdin=asked).splitlines()
        return [answer for answer in answers if re.fullmatch(r"[0-9a-f]{40,64}", answer)]

    def remote(self) -> str:
        return self._ask("config", "--get", "remote.origin.url", allow=(0, 1)).strip()

    def cut_off(self) -> frozenset[str]:
        """The commits behind which a shallow clone has nothing."""
        path = Path(self._ask("rev-parse", "--git-path", "shallow").strip())
        path = self.folder / path
        return frozenset(path.read_text(encoding="ascii").split()) if path.is_file() else frozenset()

    def log(self, tips: Sequence[str], known: Sequence[str], since: datetime | None) -> Iterator[_Commit]:
        """The commits reachable from the tips and not from what is known, oldest first, as git prints them."""
        marker = f"commit {secrets.token_hex(16)}"
        form = "%x00".join(("", marker, *_HEADER, ""))
        options = [
            "--reverse",
            "--topo-order",
            "--raw",
            "--numstat",
            "-z",
            "-M",
            "-l2000",
            "--no-abbrev",
            "--root",
            "--diff-merges=first-parent",
        ]
        options += ["--no-ext-diff", "--no-textconv", "--no-color", "--no-notes", "--encoding=UTF-8", f"--format=tformat:{form}"]
        if since:
            options.append(f"--since-as-filter={iso(since)}")
        revisions = [*tips, *(f"^{commit}" for commit in known)]
        with tempfile.TemporaryFile() as errors:
            # The revisions go through stdin: there may be more than a command line holds.
            command = self._command("log", *options, "--stdin")
            with subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=_environment(), cwd=self.folder
            ) as process:
                try:
                    assert process.stdin is not None  # noqa: S101  (it is a pipe)
                    assert process.stdout is not None  # noqa: S101
                    process.stdin.write("".join(f"{revision}\n" for revision in revisions).encode())
                    process.stdin.close()
                    yield from _parse(_tokens(process.stdout), marker)
                finally:
                    if process.poll() is None and process.stdout and not process.stdout.closed:
                        process.stdout.close()
                        process.terminate()
            if process.returncode:
                errors.seek(0)
                raise self._failed(errors.read().decode("utf-8", "replace"))

    def _ask(self, *arguments: str, stdin: str = "", allow: tuple[int, ...] = (0,), problem: str = "can't be read") -> str:
        command = self._command(*arguments)
        try:
            answer = subprocess.run(command, input=stdin.encode(), capture_output=True, check=False, env=_environment(), cwd=self.folder)
        except OSError as error:
            raise SourceError("git", "can't be started", found=error.strerror, fix="Install git and put it on the PATH") from error
        if answer.returncode not in allow:
            raise self._failed(answer.stderr.decode("utf-8", "replace"), problem)
        return answer.stdout.decode("utf-8", "replace")

    def _failed(self, said: str, problem: str = "can't be read") -> SourceError:
        lines = [line for line in said.splitlines() if line.strip()]
        fix = f"Run `git config --global --add safe.directory {self.folder}` if you trust it" if "dubious ownership" in said else None
        return SourceError(f"git repository {self.folder}", problem, found=lines[0] if lines else "git failed and said nothing", fix=fix)

    @staticmethod
    def _command(*arguments: str) -> list[str]:
        safe = (
            "core.fsmonitor=false",
            "core.hooksPath=/dev/null",
            "log.showSignature=false",
            "core.quotePath=false",
            "protocol.allow=never",
        )
        return ["git", *(part for setting in safe for part in ("-c", setting)), "--no-pager", *arguments]


def _environment() -> dict[str, str]:
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    return {**inherited, "LC_ALL": "C.UTF-8", "GIT_TERMINAL_PROMPT": "0", "GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1"}


def _tokens(stream: BinaryIO | Any) -> Iterator[str]:
    """What lies between NUL bytes; bytes that are not UTF-8 become the replacement character."""
    rest = b""
    while data := stream.read(_READ_BYTES):
        *whole, rest = (rest + data).split(b"\0")
        for token in whole:
            yield token.decode("utf-8", "replace")
    if rest:
        yield rest.decode("utf-8", "replace")


def _parse(tokens: Iterator[str], marker: str) -> Iterator[_Commit]:
    """Commits from git's NUL-separated output: marker, header fields, raw entries, then counts."""
    commit: _Commit | None = None
    for token in tokens:
        if token == marker:
            if commit:
                yield commit
            commit = _Commit([next(tokens) for _ in _HEADER])
            continue
        line = token.lstrip("\n")
        if commit is None or not line:
            continue
        if line.startswith(":"):
            paths = [next(tokens)]
            if line.rpartition(" ")[2][:1] in {"R", "C"}:
                paths.append(next(tokens))
            commit.add_file(line, paths)
        else:
            added, deleted, path = line.split("\t", maxsplit=2)
            if not path:  # A rename: its two names follow.
                next(tokens)
                next(tokens)
            commit.add_count(added, deleted)
    if commit:
        yield commit
