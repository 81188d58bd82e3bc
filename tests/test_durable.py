"""Files that are whole or as they were. What a killed writer leaves is tested with the storage, which writes the same way."""

import os
import stat
from pathlib import Path

import pytest

from lakehouse.durable import PRIVATE, new_file, write_whole


@pytest.mark.parametrize("content", [b"", b"\x00\xff", "", "grüße\n"])
def test_what_was_written_is_there(tmp_path: Path, content: bytes | str) -> None:
    target = tmp_path / "new" / "folder" / "file"
    write_whole(target, "before")
    write_whole(target, content)
    assert target.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert [file.name for file in target.parent.iterdir()] == ["file"]


def test_a_mode_is_meant_and_without_one_the_umask_decides(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "usual", "")
        write_whole(tmp_path / "private", "", mode=PRIVATE)
        write_whole(tmp_path / "shared", "", mode=0o666)
    finally:
        os.umask(before)
    modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
    assert modes == {"usual": 0o640, "private": 0o600, "shared": 0o666}


def test_a_file_that_was_not_finished_leaves_nothing(tmp_path: Path) -> None:
    def fail(target: Path) -> None:
        with new_file(target) as (file, draft):
            file.write(b"half of it")
            assert draft.name.startswith(".")
            raise RuntimeError

    target = tmp_path / ("long" * 60)
    target.write_text("before")
    with pytest.raises(RuntimeError):
        fail(target)
    assert [file.read_text() for file in tmp_path.iterdir()] == ["before"]
