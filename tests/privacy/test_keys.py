"""The secret key of a home."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from lakehouse.errors import PrivacyError
from lakehouse.privacy import Key, key
from lakehouse.settings import Settings


def test_key_is_made_once_and_for_its_owner_only(settings: Settings) -> None:
    first = key(settings)
    assert key(settings) == first
    assert stat.S_IMODE(settings.key_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(settings.key_file.parent.stat().st_mode) == 0o700
    assert [path.name for path in settings.key_file.parent.iterdir()] == ["secret.key"]


def test_processes_that_ask_at_the_same_time_get_the_same_key(settings: Settings) -> None:
    code = "from lakehouse.privacy.keys import key; from lakehouse.settings import Settings; print(key(Settings.load()).id)"
    environment = {**os.environ, **settings.child_environment()}
    children = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment) for _ in range(4)]
    assert {child.communicate()[0].strip() for child in children} == {key(settings).id}


def test_secret_is_not_shown() -> None:
    secret = b"0123456789abcdef0123456789abcdef"
    shown = repr(Key.from_secret(secret))
    assert secret.hex() not in shown
    assert "0123456789" not in shown


def test_purposes_share_no_key_material() -> None:
    made = Key.from_secret(b"k" * 32)
    assert len({made.derive("pseudonym"), made.derive("vault"), made.derive("seal mac"), made.secret}) == 4


@pytest.mark.parametrize("text", ["", "not hexadecimal", "ab" * 31, "ab" * 33, "é"])
def test_damaged_key_file_is_an_error_and_is_kept(settings: Settings, text: str) -> None:
    settings.key_file.parent.mkdir(parents=True)
    settings.key_file.write_text(text)
    with pytest.raises(PrivacyError, match=r"key"):
        key(settings)
    assert settings.key_file.read_text() == text


def test_key_file_can_live_elsewhere(settings: Settings, tmp_path: Path) -> None:
    elsewhere = settings.model_copy(update={"secret_key_file": tmp_path / "mounted" / "key"})
    assert key(elsewhere) != key(settings)
    assert (tmp_path / "mounted" / "key").is_file()
