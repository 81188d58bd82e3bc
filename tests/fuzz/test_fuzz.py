"""Thousands of files that nobody would send on purpose: each is accepted, quarantined or refused by name, and nothing breaks.

They are ingested in processes of their own, which are watched: one that ends, hangs or takes too much memory fails with its file.
"""

import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import PROJECT

MOST_MEMORY_BYTES = 2 * 1024**3
LONGEST_CASE_S = 60
CASES_IN_ALL = 10_000
WORKERS = 4


def _peak_bytes(process: int) -> int:
    try:
        status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    except OSError:
        return 0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found.group(1)) * 1024 if found else 0


def _began(case: Path) -> float:
    try:
        return case.stat().st_mtime
    except FileNotFoundError:
        # Between two cases there is none.
        return time.time()


def _about(case: Path) -> str:
    shown = [f"{path.name}: {path.read_bytes()[:2000]!r}" for path in case.iterdir() if path.is_file()]
    return "; ".join(shown) or "no file"


def fuzz(cases: int, seed: int, folder: Path) -> str:
    """Watch one process through its cases; returns what it says of them.

    Raises:
        AssertionError: a law did not hold, or the process ended, hung or took too much memory; names the file.
    """
    case = folder / "case"
    log = folder / "log"
    environment = {**os.environ, "LAKEHOUSE_HOME": str(folder / "home"), "LAKEHOUSE_PROJECT": str(PROJECT)}
    with log.open("wb") as out:
        command = [sys.executable, "-m", "tests.fuzz.worker", str(cases), str(seed), str(folder)]
        process = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=out, stderr=subprocess.STDOUT)
        try:
            while process.poll() is None:
                time.sleep(0.2)
                began = _began(case)
                assert time.time() - began < LONGEST_CASE_S, f"hangs: {_about(case)}"
                assert _peak_bytes(process.pid) < MOST_MEMORY_BYTES, f"takes too much memory: {_about(case)}"
        finally:
            process.kill()
            process.wait()
    said = log.read_text(encoding="utf-8", errors="replace")
    assert process.returncode == 0, f"exit code {process.returncode} on {_about(case)}\n{said[-6000:]}"
    assert "Exception ignored" not in said, said[-3000:]
    return said


def test_no_file_breaks_ingestion(tmp_path: Path) -> None:
    fuzz(30, 0, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(5400)
def test_no_file_of_ten_thousand_breaks_ingestion(tmp_path: Path) -> None:
    each = CASES_IN_ALL // WORKERS

    def work(seed: int) -> str:
        folder = tmp_path / str(seed)
        folder.mkdir()
        return fuzz(each, seed, folder)

    # They wait for the disk half of the time.
    with ThreadPoolExecutor(WORKERS) as pool:
        for said in pool.map(work, range(1, WORKERS + 1)):
            ingested, refused = (int(number) for number in re.findall(r"(\d+) (?:ingested|refused)", said))
            assert ingested + refused >= each
            assert min(ingested, refused) > each // 10
