"""The command line as its user has it: a process, its exit code and what it printed."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True, slots=True)
class Ran:
    """One finished process."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Cli = Callable[..., Ran]


@pytest.fixture
def lakehouse(home: Path) -> Cli:
    """Run `lakehouse ARGS...` as a process in a home of its own; no traceback, ever."""

    def run(*args: str | Path, timeout: float = 300, code: int | None = 0, env: dict[str, str] | None = None) -> Ran:
        import os

        command = [sys.executable, "-m", "lakehouse", *map(str, args)]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(env or {})},
        )
        assert "Traceback (most recent call last)" not in done.stdout + done.stderr, done.stdout[-2000:] + done.stderr[-4000:]
        if code is not None:
            assert done.returncode == code, f"exit {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return Ran(done.returncode, done.stdout, done.stderr)

    return run
