"""Every command that README.md and docs/ show is run, in order, as a reader would: in a project with a home that `make demo` filled."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
PAGES = [PROJECT / "README.md", PROJECT / "CONTRIBUTING.md", *sorted((PROJECT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(?:sh|bash|console|shell)\n(.*?)^```", re.MULTILINE | re.DOTALL)

# Run to their end elsewhere; here only their names are checked.
SERVERS = {
    "lakehouse dev": "tests/dagster drives the real daemon",
    "pip install 'lakehouse[s3]'": "the environment of the tests has every extra",
    "pip install 'lakehouse[serving]'": "the environment of the tests has every extra",
    "lakehouse features serve": "tests/serving starts it",
    "export LAKEHOUSE_URI=s3://": "tests/servers has a real S3 server",
    "export LAKEHOUSE_LANDING=s3://": "tests/servers has a real S3 server",
    "lakehouse quarantine replay": "tests/cli/test_documents.py: a row that still waits, as all of these do, is exit code 1",
    "lakehouse ingest sales ": "tests/quarantine/test_replacing.py repairs files",
    "vi ": "an editor waits for a person",
    "dagster dev": "tests/dagster drives the real daemon",
}


@dataclass(frozen=True, slots=True)
class Shown:
    """One command of one page."""

    page: str
    command: str


def commands_of(text: str) -> list[str]:
    """The commands in a page's fenced blocks, comments and printed output left out."""
    found: list[str] = []
    for block in FENCE.findall(text):
        lines = block.replace("\\\n", " ").splitlines()
        is_session = any(line.startswith("$ ") for line in lines)
        for line in lines:
            if is_session and not line.startswith("$ "):
                continue
            command = line.removeprefix("$ ").strip()
            if command and not command.startswith("#"):
                found.append(command)
    return found


SHOWN = [Shown(page.name, command) for page in PAGES for command in commands_of(page.read_text(encoding="utf-8"))]


def test_pages_show_commands() -> None:
    assert {"make demo", "make test"} <= {shlex.join(shlex.split(shown.command, comments=True)) for shown in SHOWN}


@pytest.mark.parametrize("shown", [shown for shown in SHOWN if shown.command.startswith("make ")], ids=lambda shown: shown.command)
def test_make_target_exists(shown: Shown) -> None:
    target = shlex.split(shown.command, comments=True)
    done = subprocess.run([*target, "--dry-run"], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that looks like the project, with a filled home and the files that the pages mention."""
    folder = tmp_path_factory.mktemp("workplace")
    for entry in PROJECT.iterdir():
        if entry.name not in {"data", ".venv", ".git"} and not entry.name.startswith(".coverage"):
            (folder / entry.name).symlink_to(entry)
    (folder / "customers.csv").write_text(
        "customer_id,tenure,plan,churned\n"
        + "".join(f"c{i:04d},{i % 70},{'gold' if i % 3 else 'basic'},{'yes' if i % 70 < 20 else 'no'}\n" for i in range(600))
    )
    for name in ("survey_2026Q1.csv", "survey.csv"):
        (folder / name).write_text("interview_id\n")
    subprocess.run([sys.executable, "-m", "lakehouse", "demo"], cwd=folder, env=environment(folder), check=True, capture_output=True)
    return folder


def environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("LAKEHOUSE_", "DAGSTER_", "DBT_"))}
    home = {"LAKEHOUSE_HOME": str(folder / "data"), "LAKEHOUSE_PROJECT": str(PROJECT)}
    return {**kept, **home, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", [page.name for page in PAGES])
def test_every_command_of_the_page_runs(page: str, workplace: Path) -> None:
    bash = shutil.which("bash")
    assert bash
    commands = [
        shown.command
        for shown in SHOWN
        if shown.page == page and not shown.command.startswith(("make ", "source ", ".venv/bin/pre-commit"))
    ]
    script = ["set -euo pipefail"]
    for command in commands:
        if not any(command.startswith(server) for server in SERVERS):
            script += [f"echo {shlex.quote('$ ' + command)}", command]
    done = subprocess.run(
        [bash, "-c", "\n".join(script)], cwd=workplace, env=environment(workplace), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout[-1500:]}\n{done.stderr[-3000:]}"
    assert "Traceback (most recent call last)" not in done.stdout + done.stderr
