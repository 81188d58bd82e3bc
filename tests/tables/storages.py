"""What holds for every storage, whatever is behind it; each law takes an empty one and a folder to work in."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lakehouse.errors import StorageError
from lakehouse.tables.storage import Storage

Law = Callable[[Storage, Path], None]


def what_is_written_is_read(storage: Storage, work: Path) -> None:
    assert storage.read("a/b") is None
    assert storage.size("a/b") is None
    storage.write("a/b", b"first")
    storage.write("a/b", b"second one")
    assert storage.read("a/b") == b"second one"
    assert storage.size("a/b") == 10
    assert storage.read("a") is None
    assert storage.size("a") is None
    storage.write("empty", b"")
    assert storage.read("empty") == b""
    assert storage.size("empty") == 0


def a_file_is_created_by_one_alone(storage: Storage, work: Path) -> None:
    for number in range(5):
        with ThreadPoolExecutor(8) as pool:
            made = list(pool.map(lambda i, number=number: storage.create(f"locks/{number}", str(i).encode()), range(8)))
        assert sum(made) == 1
        assert storage.read(f"locks/{number}") == str(made.index(True)).encode()
    assert len(list(storage.walk("locks"))) == 5


def a_walk_sees_everything_below(storage: Storage, work: Path) -> None:
    before = datetime.now(UTC) - timedelta(minutes=5)
    assert list(storage.walk()) == []
    for path in ("b/x", "a/.hidden/y", "a/z", "a.b", ".top"):
        storage.write(path, b"123")
    walked = list(storage.walk())
    assert [file.path for file in walked] == [".top", "a.b", "a/.hidden/y", "a/z", "b/x"]
    assert all(file.size_bytes == 3 and before < file.modified < before + timedelta(minutes=10) for file in walked)
    assert [file.path for file in storage.walk("a")] == [file.path for file in storage.walk("a/")] == ["a/.hidden/y", "a/z"]
    assert list(storage.walk("nowhere")) == []
    assert storage.folders() == ["a", "b"]
    assert storage.files("a") == ["z"]


def names_may_be_odd(storage: Storage, work: Path) -> None:
    names = ["é ü/%20 x", "a+b&c=d/#1", "x=%2Fy/part {1} [2]*?.parquet", "~'\"/日本"]
    for name in names:
        storage.write(name, name.encode())
    assert [file.path for file in storage.walk()] == sorted(names, key=str.encode)
    assert [storage.read(name) for name in names] == [name.encode() for name in names]
    storage.delete(names)
    assert list(storage.walk()) == []


def files_go_in_and_come_out_whole(storage: Storage, work: Path) -> None:
    large = work / "large.bin"
    large.write_bytes(bytes(range(256)) * 80_000)
    storage.put(large, "deep/er/large")
    storage.get("deep/er/large", work / "copy")
    assert (work / "copy").read_bytes() == large.read_bytes()
    large.write_bytes(b"small now")
    assert storage.size("deep/er/large") == 256 * 80_000
    storage.put(large, "deep/er/large")
    storage.get("deep/er/large", work / "copy")
    assert (work / "copy").read_bytes() == b"small now"
    with pytest.raises(StorageError, match="is not there"):
        storage.get("nothing", work / "copy")
    assert (work / "copy").read_bytes() == b"small now"
    assert sorted(file.path for file in storage.walk()) == ["deep/er/large"]
    assert not list(work.glob(".*"))


def deleting_twice_is_no_error(storage: Storage, work: Path) -> None:
    for number in range(3):
        storage.write(f"f/{number}", b"x")
    storage.delete(["f/0", "f/1", "nothing"])
    storage.delete(iter(["f/0", "f/1", "nothing"]))
    storage.delete([])
    assert storage.files("f") == ["2"]


def nothing_leads_out_of_the_root(storage: Storage, work: Path) -> None:
    for path in ("../x", "a/../../x", "/etc/passwd", "a//b", "./x", "a\0b"):
        with pytest.raises(StorageError, match="not one inside the root"):
            storage.write(path, b"x")
        with pytest.raises(StorageError, match="not one inside the root"):
            storage.delete([path])
    assert list(storage.walk()) == []


STORAGE_LAWS: tuple[Law, ...] = (
    what_is_written_is_read,
    a_file_is_created_by_one_alone,
    a_walk_sees_everything_below,
    names_may_be_odd,
    files_go_in_and_come_out_whole,
    deleting_twice_is_no_error,
    nothing_leads_out_of_the_root,
)
