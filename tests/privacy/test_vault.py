"""Encrypted files."""

import io
import random
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakehouse.errors import PrivacyError
from lakehouse.privacy import Key, decrypt_file, decrypted_copy, encrypt_file, open_decrypted, vault

KEY = Key.from_secret(b"v" * 32)
OTHER = Key.from_secret(b"w" * 32)
HEADER = 36
CHUNK = 64


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many chunks from little data."""
    monkeypatch.setattr(vault, "_CHUNK_BYTES", CHUNK)


def encrypted(tmp_path: Path, plain: bytes) -> Path:
    (tmp_path / "plain").write_bytes(plain)
    encrypt_file(tmp_path / "plain", tmp_path / "file.enc", KEY)
    return tmp_path / "file.enc"


@given(size=st.integers(0, 5 * CHUNK + 3), seed=st.integers(0, 2**32))
@settings(max_examples=60)
def test_bytes_come_back(tmp_path_factory: pytest.TempPathFactory, size: int, seed: int) -> None:
    folder = tmp_path_factory.mktemp("vault")
    plain = random.Random(seed).randbytes(size)
    path = encrypted(folder, plain)
    assert decrypt_file(path, folder / "back", KEY) == size
    assert (folder / "back").read_bytes() == plain


def test_large_file_in_usual_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    plain = random.Random(1).randbytes((5 << 19) + 17)
    path = encrypted(tmp_path, plain)
    with open_decrypted(path, KEY) as reader:
        assert reader.read() == plain


def test_file_shows_nothing_and_belongs_to_its_owner(tmp_path: Path) -> None:
    path = encrypted(tmp_path, b"ada@example.org\n" * 100)
    assert b"ada" not in path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.read_bytes() != encrypted(tmp_path, b"ada@example.org\n" * 100).read_bytes(), "every file has a key of its own"


@given(data=st.data())
@settings(max_examples=80)
def test_any_change_is_noticed(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("vault")
    whole = encrypted(folder, bytes(range(256))).read_bytes()
    how = data.draw(st.sampled_from(["flip", "cut", "extend", "swap", "repeat", "drop"]))
    piece = CHUNK + 16
    chunks = [whole[at : at + piece] for at in range(HEADER, len(whole), piece)]
    if how == "flip":
        place = data.draw(st.integers(0, len(whole) - 1))
        changed = whole[:place] + bytes([whole[place] ^ data.draw(st.integers(1, 255))]) + whole[place + 1 :]
    elif how == "cut":
        changed = whole[: data.draw(st.integers(0, len(whole) - 1))]
    elif how == "extend":
        changed = whole + data.draw(st.binary(min_size=1, max_size=200))
    else:
        first, second = data.draw(st.lists(st.integers(0, len(chunks) - 1), min_size=2, max_size=2, unique=True))
        if how == "swap":
            chunks[first], chunks[second] = chunks[second], chunks[first]
        elif how == "repeat":
            chunks.insert(first, chunks[second])
        else:
            del chunks[first]
        changed = whole[:HEADER] + b"".join(chunks)
    (folder / "changed.enc").write_bytes(changed)
    with pytest.raises(PrivacyError):
        decrypt_file(folder / "changed.enc", folder / "back", KEY)
    assert sorted(path.name for path in folder.iterdir()) == ["changed.enc", "file.enc", "plain"], "nothing half-read stays"


def test_cut_at_a_chunk_is_noticed_by_the_reader(tmp_path: Path) -> None:
    path = encrypted(tmp_path, b"x" * CHUNK * 4)
    path.write_bytes(path.read_bytes()[: HEADER + 2 * (CHUNK + 16)])
    with open_decrypted(path, KEY) as reader, pytest.raises(PrivacyError, match="cut or changed"):
        reader.read()


def test_another_key_is_named(tmp_path: Path) -> None:
    path = encrypted(tmp_path, b"text")
    with pytest.raises(PrivacyError, match=f"another key.*{OTHER.id}.*{KEY.id}"):
        decrypt_file(path, tmp_path / "back", OTHER)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"LAKEVLT1", b"x" * 100])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(PrivacyError, match="not an encrypted file"):
        decrypt_file(tmp_path / "other", tmp_path / "back", KEY)


def test_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(PrivacyError, match="absent"):
        encrypt_file(tmp_path / "absent", tmp_path / "file.enc", KEY)
    with pytest.raises(PrivacyError, match="absent"):
        decrypt_file(tmp_path / "absent", tmp_path / "back", KEY)
    assert list(tmp_path.iterdir()) == []


def test_plain_copy_is_gone_afterwards(tmp_path: Path) -> None:
    path = encrypted(tmp_path, b"a,b\n1,2\n")
    with decrypted_copy(path, KEY, folder=tmp_path / "spill", suffix=".csv") as copy:
        assert copy.read_bytes() == b"a,b\n1,2\n"
        assert copy.suffix == ".csv"
        assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with pytest.raises(RuntimeError, match="reader"), decrypted_copy(path, KEY, folder=tmp_path / "spill"):
        raise RuntimeError("reader failed")
    assert list((tmp_path / "spill").iterdir()) == []


def test_stream_that_gives_little_at_a_time(tmp_path: Path) -> None:
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(size or 0, 7))

    plain = bytes(200)
    sealed = io.BytesIO()
    assert vault.encrypt_stream(Slow(plain), sealed, KEY) == 200
    (tmp_path / "file.enc").write_bytes(sealed.getvalue())
    with open_decrypted(tmp_path / "file.enc", KEY) as reader:
        assert b"".join(iter(lambda: reader.read(9), b"")) == plain
