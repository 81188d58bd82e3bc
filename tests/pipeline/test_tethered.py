"""A child process that ends with its parent, however the parent ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lakehouse.pipeline.orchestrator import output_lines
from lakehouse.settings import Settings

PROJECT = Path(__file__).resolve().parents[2]
CHILD = "import os, sys, time; print(os.getpid(), os.getcwd(), flush=True); time.sleep(600)"
PARENT = f"""
import sys
from lakehouse.pipeline.orchestrator import output_lines
from lakehouse.settings import Settings
with output_lines(Settings.load(), [sys.executable, "-c", {CHILD!r}]) as child:
    for line in child.lines():
        print(line, flush=True)
"""
HOLD_BACK = "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})\n"
IGNORE = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    # Nobody may be there to take its exit code.
    return state != "Z"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent was killed")
@pytest.mark.parametrize("before", ["", HOLD_BACK, IGNORE], ids=["plain", "held back", "ignored"])
def test_the_child_of_a_killed_process_ends(settings: Settings, before: str):
    with subprocess.Popen([sys.executable, "-c", before + PARENT], cwd=PROJECT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline().split()[0])
        assert is_alive(child)
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        limit = time.monotonic() + 60
        while is_alive(child) and time.monotonic() < limit:
            time.sleep(0.05)
        assert not is_alive(child), Path(f"/proc/{child}/status").read_text()


def test_a_command_runs_in_the_project_and_its_exit_code_and_lines_are_its_own(settings: Settings):
    command = [sys.executable, "-c", "import os, sys; print(os.getcwd()); sys.stderr.write('said\\n'); sys.exit(7)"]
    with output_lines(settings, command) as child:
        lines = list(child.lines())
        assert child.exit_code() == 7
    assert sorted(lines) == sorted([str(settings.project), "said"])
