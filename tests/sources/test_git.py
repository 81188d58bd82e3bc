"""The git source against real repositories."""

import json
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lakehouse.errors import SourceError
from lakehouse.ingest.sources import git_history


def landed(folder: Path) -> list[dict[str, Any]]:
    return [commit for path in sorted(folder.glob("[!.]*.json")) for commit in json.loads(path.read_text())]


def shas(folder: Path) -> list[str]:
    return [row["sha"] for row in landed(folder)]


def test_commit_has_the_shape_of_the_api(repository: Any, tmp_path: Path) -> None:
    first = repository.commit("feat: begin\n\nBody.\n", a__txt="1\n2\n", b__bin=b"\0\1\2" * 50)
    second = repository.commit("fix: gäp", a__txt="1\n3\n4\n", b__bin=None)
    report = git_history(repository.folder, tmp_path / "out")
    assert report.commits == 2
    older, newer = landed(tmp_path / "out")
    assert (older["sha"], newer["sha"]) == (first, second)
    assert older["commit"]["message"] == "feat: begin\n\nBody."
    assert older["commit"]["author"] == {"name": "Zoë Müller", "email": "7+zoe-m@users.noreply.github.com", "date": "2026-01-01T00:03:00Z"}
    assert older["author"] == {"login": "zoe-m", "type": "User", "site_admin": False}
    assert older["committer"]["type"] == "Bot"
    assert older["stats"] == {"total": 2, "additions": 2, "deletions": 0}
    assert older["html_url"] == f"https://localhost/local/granary/commit/{first}"
    binary = next(file for file in older["files"] if file["filename"] == "b.bin")
    assert binary["binary"] is True
    assert (binary["status"], binary["additions"], binary["deletions"]) == ("added", 0, 0)
    assert newer["parents"][0]["sha"] == first
    assert {file["filename"]: (file["status"], file["sha"] is None) for file in newer["files"]} == {
        "a.txt": ("modified", False),
        "b.bin": ("removed", True),
    }


def test_numbers_agree_with_git(repository: Any, tmp_path: Path) -> None:
    for n in range(12):
        repository.commit(f"c{n}", **{f"f{n % 4}__txt": "\n".join(str(i * n) for i in range(n * 3)), f"g{n}__txt": "x\n" * n})
    git_history(repository.folder, tmp_path / "out")
    for row in landed(tmp_path / "out"):
        lines = repository.git("show", "--numstat", "--format=", "-M", row["sha"]).splitlines()
        counts = {line.split("\t")[2]: (int(line.split("\t")[0]), int(line.split("\t")[1])) for line in lines}
        assert {file["filename"]: (file["additions"], file["deletions"]) for file in row["files"]} == counts
        assert row["stats"]["total"] == sum(map(sum, counts.values())) == sum(file["changes"] for file in row["files"])


def test_rename_names_both_paths(repository: Any, tmp_path: Path) -> None:
    repository.commit(old__txt="one\ntwo\nthree\nfour\n")
    repository.git("mv", "old.txt", 'with space\t"quote" é.txt')
    repository.commit("rename")
    git_history(repository.folder, tmp_path / "out")
    (file,) = landed(tmp_path / "out")[1]["files"]
    assert (file["status"], file["previous_filename"], file["filename"]) == ("renamed", "old.txt", 'with space\t"quote" é.txt')
    assert (file["additions"], file["deletions"], file["changes"]) == (0, 0, 0)


def test_merge_is_compared_with_its_first_parent(repository: Any, tmp_path: Path) -> None:
    repository.commit(a__txt="a\n")
    repository.git("switch", "-q", "-c", "topic")
    repository.commit(b__txt="b\nb\n")
    repository.git("switch", "-q", "main")
    repository.commit(c__txt="c\n")
    repository.git("merge", "-q", "--no-ff", "-m", "Merge topic", "topic")
    git_history(repository.folder, tmp_path / "out")
    rows = landed(tmp_path / "out")
    assert len(rows) == 4
    merge = rows[-1]
    assert len(merge["parents"]) == 2
    assert [file["filename"] for file in merge["files"]] == ["b.txt"]
    assert merge["stats"]["additions"] == 2


def test_many_files_are_cut_and_counted(repository: Any, tmp_path: Path) -> None:
    repository.commit(**{f"f{n:04d}__txt": "x\n" for n in range(350)})
    git_history(repository.folder, tmp_path / "out")
    (row,) = landed(tmp_path / "out")
    assert len(row["files"]) == 300
    assert row["files_truncated_from"] == 350
    assert row["stats"]["additions"] == 350


def test_odd_encodings_become_text(repository: Any, tmp_path: Path) -> None:
    repository.git("config", "i18n.commitEncoding", "ISO-8859-1")
    (repository.folder / "x").write_text("x")
    repository.git("add", "-A")
    repository.git("commit", "-q", "-F", "-", stdin="grün".encode("latin-1"))
    # git itself would mend the next one, so it is written behind its back.
    raw = f"tree {repository.git('rev-parse', 'HEAD^{tree}')}\nparent {repository.git('rev-parse', 'HEAD')}\n"
    raw += "author A <a@b.org> 1700000000 +0000\ncommitter A <a@b.org> 1700000000 +0000\n\n"
    broken = repository.git("hash-object", "-t", "commit", "-w", "--stdin", stdin=raw.encode() + b"broken \xff\xfe bytes\n")
    repository.git("update-ref", "refs/heads/main", broken)
    git_history(repository.folder, tmp_path / "out")
    assert [row["commit"]["message"] for row in landed(tmp_path / "out")] == ["grün", "broken �� bytes"]


def test_message_that_looks_like_output_is_text(repository: Any, tmp_path: Path) -> None:
    message = ":100644 100644 0000 0000 M\n1\t2\tfile\ncommit abc"
    repository.commit(message, a="x\n")
    git_history(repository.folder, tmp_path / "out")
    (row,) = landed(tmp_path / "out")
    assert row["commit"]["message"] == message
    assert len(row["files"]) == 1


def test_only_new_commits_are_written(repository: Any, tmp_path: Path) -> None:
    for n in range(3):
        repository.commit(f"c{n}", a=f"{n}\n")
    out = tmp_path / "out"
    git_history(repository.folder, out)
    assert git_history(repository.folder, out).is_unchanged
    new = repository.commit("c3", a="3\n")
    report = git_history(repository.folder, out)
    assert report.commits == 1
    assert len(shas(out)) == 4
    assert shas(out).count(new) == 1


def test_pages_have_a_hundred_commits_and_the_same_bytes_again(repository: Any, tmp_path: Path) -> None:
    stream = b"".join(
        f"commit refs/heads/main\ncommitter A <a@b.org> {1_700_000_000 + n} +0000\ndata 2\nc\n\n".encode() for n in range(250)
    )
    repository.git("fast-import", "--quiet", stdin=stream)
    first = git_history(repository.folder, tmp_path / "one", refs=["main"])
    again = git_history(repository.folder, tmp_path / "two", refs=["main"])
    assert [len(json.loads(path.read_text())) for path in first.files] == [100, 100, 50]
    assert [(path.name, path.read_bytes()) for path in first.files] == [(path.name, path.read_bytes()) for path in again.files]


def test_rewritten_history_brings_the_new_commits_only(repository: Any, tmp_path: Path) -> None:
    base = repository.commit("base", a="1\n")
    repository.commit("lost", a="2\n")
    out = tmp_path / "out"
    git_history(repository.folder, out)
    repository.git("reset", "-q", "--hard", base)
    new = repository.commit("instead", a="3\n")
    assert git_history(repository.folder, out).commits == 1
    assert shas(out)[-1] == new or new in shas(out)


def test_forgotten_tip_falls_back_to_an_earlier_one(repository: Any, tmp_path: Path) -> None:
    base = repository.commit("base", a="1\n")
    out = tmp_path / "out"
    git_history(repository.folder, out)
    repository.commit("lost", a="2\n")
    git_history(repository.folder, out)
    repository.git("reset", "-q", "--hard", base)
    repository.git("reflog", "expire", "--expire=now", "--all")
    repository.git("gc", "-q", "--prune=now")
    repository.commit("instead", a="3\n")
    assert git_history(repository.folder, out).commits == 1
    assert len(shas(out)) == len(set(shas(out))) == 3


def test_shallow_clone_has_no_numbers_where_it_ends(repository: Any, tmp_path: Path) -> None:
    for n in range(4):
        repository.commit(f"c{n}", a=f"{n}\n")
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", "--depth", "2", repository.folder.as_uri(), str(clone)], check=True, capture_output=True)
    git_history(clone, tmp_path / "out")
    older, newer = landed(tmp_path / "out")
    assert "stats" not in older
    assert "files" not in older
    assert newer["stats"]["total"] == 2


@pytest.mark.parametrize(
    ("remote", "page"),
    [
        ("https://github.com/openfields/granary.git", "https://github.com/openfields/granary/commit/"),
        ("git@github.com:openfields/granary.git", "https://github.com/openfields/granary/commit/"),
        ("https://me:secret@git.example.org/team/sub/granary", "https://git.example.org/sub/granary/commit/"),
        ("ssh://git@git.example.org:2222/team/granary/", "https://git.example.org/team/granary/commit/"),
    ],
)
def test_remote_names_the_repository_without_credentials(repository: Any, tmp_path: Path, remote: str, page: str) -> None:
    repository.commit(a="1\n")
    repository.git("remote", "add", "origin", remote)
    git_history(repository.folder, tmp_path / "out")
    (row,) = landed(tmp_path / "out")
    assert row["html_url"].startswith(page)
    assert "secret" not in json.dumps(row)


def test_since_and_refs(repository: Any, tmp_path: Path) -> None:
    repository.commit("old", a="1\n")
    repository.git("tag", "v1")
    new = repository.commit("new", a="2\n")
    since = datetime.fromtimestamp(int(repository.git("show", "-s", "--format=%ct", new)), UTC)
    git_history(repository.folder, tmp_path / "since", since=since)
    assert shas(tmp_path / "since") == [new]
    git_history(repository.folder, tmp_path / "tag", refs=["v1"])
    assert [row["commit"]["message"] for row in landed(tmp_path / "tag")] == ["old"]


def test_empty_repository_has_nothing(repository: Any, tmp_path: Path) -> None:
    assert git_history(repository.folder, tmp_path / "out").is_unchanged


def test_bare_repository_is_read(repository: Any, tmp_path: Path) -> None:
    repository.commit(a="1\n")
    bare = tmp_path / "bare.git"
    subprocess.run(["git", "clone", "-q", "--bare", str(repository.folder), str(bare)], check=True, capture_output=True)
    assert git_history(bare, tmp_path / "out", name="team/granary").repository == "team/granary"


def test_what_is_no_repository_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist"):
        git_history(tmp_path / "absent", tmp_path / "out")
    (tmp_path / "plain").mkdir()
    with pytest.raises(SourceError, match="not a git repository"):
        git_history(tmp_path / "plain", tmp_path / "out")


@pytest.mark.parametrize("ref", ["nowhere", "--output=/tmp/x", "--upload-pack=x", ""])
def test_unknown_ref_is_an_error(repository: Any, tmp_path: Path, ref: str) -> None:
    repository.commit(a="1\n")
    with pytest.raises(SourceError, match="git ref"):
        git_history(repository.folder, tmp_path / "out", refs=[ref])


def test_damaged_repository_is_an_error_and_keeps_the_cursor(repository: Any, tmp_path: Path) -> None:
    repository.commit(a="1\n")
    tree = repository.git("rev-parse", "HEAD^{tree}")
    shutil.rmtree(repository.folder / ".git" / "objects" / tree[:2])
    with pytest.raises(SourceError, match="can't be read"):
        git_history(repository.folder, tmp_path / "out")
    assert not list((tmp_path / "out").glob(".*.git.json"))


def test_configuration_of_the_repository_starts_no_program(repository: Any, tmp_path: Path) -> None:
    repository.commit(a__txt="1\n")
    trap = tmp_path / "ran"
    for key in ("core.fsmonitor", "diff.external", "diff.x.textconv", "core.pager", "gpg.program"):
        repository.git("config", key, f"touch {trap};")
    (repository.folder / ".git" / "info" / "attributes").write_text("*.txt diff=x\n")
    git_history(repository.folder, tmp_path / "out")
    assert not trap.exists()
