"""What every command shares: --json, --help, exit codes, one line instead of a traceback."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from lakehouse.cli.command import command
from lakehouse.cli.main import app
from lakehouse.cli.screen import Screen, human_size, json_value
from lakehouse.errors import FileRefused, LakehouseError, TableNotFound
from tests.cli.conftest import Outcome

EXECUTABLE = [sys.executable, "-c", "from lakehouse.cli.main import main; main()"]
GROUPS = {
    "audit": ("list", "verify"),
    "contract": ("accept", "diff"),
    "features": ("list", "show", "history", "get", "materialize", "parity", "search", "serve", "register", "unregister"),
    "keys": ("rotate",),
    "model": (
        *("promote", "rollback", "approve", "archive", "threshold", "history", "compare"),
        *("retrain", "preview", "reproduce", "card", "explain"),
    ),
    "quarantine": ("list", "show", "edit", "replay", "discard"),
    "sample": ("households", "commits", "commerce"),
    "tag": ("add", "list", "remove"),
}
SINGLE = (
    *("demo", "add", "ingest", "run", "query", "tables", "train", "predict", "drift", "lineage", "doctor", "dev", "profile"),
    *("history", "diff", "as-of", "restore", "maintain", "unarchive"),
    *("backup", "backups", "prune-backups", "verify", "restore-backup"),
    *("erase", "retention"),
)
COMMANDS = [(name,) for name in SINGLE] + [(group, name) for group, names in GROUPS.items() for name in names]


def _registered() -> Iterator[tuple[str, ...]]:
    for one in app.registered_commands:
        yield (str(one.name),)
    for group in app.registered_groups:
        assert group.typer_instance is not None
        for one in group.typer_instance.registered_commands:
            yield (str(group.typer_instance.info.name), str(one.name))


def test_every_promised_command_is_there() -> None:
    assert sorted(_registered()) == sorted(COMMANDS)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_explains_itself_and_has_json(words: tuple[str, ...], lakehouse: Callable[..., Outcome]) -> None:
    shown = lakehouse(*words, "--help")
    assert shown.code == 0
    assert "--json" in shown.out
    assert "--debug" in shown.out


def test_importing_the_command_line_stays_cheap() -> None:
    heavy = ["duckdb", "deltalake", "pyarrow", "pandas", "sklearn", "mlflow", "dbt", "pydantic", "dagster", "rich.progress"]
    program = f"import sys, lakehouse.cli.main; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def _program(behaviour: Callable[[], None]) -> typer.Typer:
    program = typer.Typer()

    @program.callback()
    def _root() -> None: ...

    @command(program, "act")
    def act(screen: Screen, *, word: str = "w") -> None:
        """Act."""
        print("chatter of a library")  # noqa: T201
        behaviour()
        screen.emit({"word": word}, lambda out: out.print(word))

    return program


def _raise(error: BaseException) -> Callable[[], None]:
    def behaviour() -> None:
        raise error

    return behaviour


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (TableNotFound("raw.x", "does not exist", fix="Look"), 2),
        (FileRefused("x.csv", "has too many bad rows"), 1),
        (ZeroDivisionError("first\nsecond"), 2),
        (KeyboardInterrupt(), 130),
        (typer.Exit(1), 1),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("flags", [[], ["--json"]], ids=["text", "json"])
def test_errors_become_one_line_and_an_exit_code(error: BaseException, code: int, flags: list[str]) -> None:
    result = CliRunner().invoke(_program(_raise(error)), ["act", *flags])
    assert result.exit_code == code
    assert "Traceback" not in result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("lakehouse:")]
    if isinstance(error, KeyboardInterrupt | typer.Exit):
        assert not lines
        return
    assert len(lines) == 1
    if flags:
        assert set(json.loads(result.stdout)) >= {"error", "message", "fix"}
    else:
        assert result.stdout == ""


def test_unexpected_errors_ask_for_a_report_and_debug_shows_the_traceback() -> None:
    program = _program(_raise(ZeroDivisionError("first\nsecond")))
    quiet = CliRunner().invoke(program, ["act"])
    assert "unexpected ZeroDivisionError: first second" in quiet.stderr
    assert "--debug" in quiet.stderr
    loud = CliRunner().invoke(program, ["act", "--debug"])
    assert "Traceback" in loud.stderr
    assert loud.exit_code == 2


@pytest.mark.parametrize("flags", [[], ["--json"]], ids=["text", "json"])
def test_what_libraries_print_never_reaches_stdout(flags: list[str]) -> None:
    result = CliRunner().invoke(_program(lambda: None), ["act", "--word", "result", *flags])
    assert result.stdout == ('{\n  "word": "result"\n}\n' if flags else "result\n")
    assert "chatter" in result.stderr


@pytest.mark.parametrize("flags", [[], ["--json"]], ids=["text", "json"])
def test_half_a_character_is_shown_as_what_it_is(flags: list[str]) -> None:
    word = "a \ud800 b \udfff \u20ac"
    result = CliRunner().invoke(_program(lambda: sys.stderr.write(word)), ["act", "--word", word, *flags])
    assert result.exit_code == 0
    assert "a \\ud800 b \\udfff \u20ac" in result.stdout
    assert "a \\ud800 b" in result.stderr
    if flags:
        assert json.loads(result.stdout) == {"word": word}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (float("nan"), None),
        (float("inf"), None),
        (b"\x00\xff", "00ff"),
        (Path("/a"), "/a"),
        ({1: {"b"}}, {"1": ["b"]}),
        ((1, True, None, 1.5), [1, True, None, 1.5]),
    ],
)
def test_json_has_only_json_types(value: object, expected: object) -> None:
    assert json_value(value) == expected


def test_sizes_read_well() -> None:
    assert [human_size(size) for size in (0, 1023, 1024, 1536, 3 * 1024**3, 2**50)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "1.5 KiB",
        "3.0 GiB",
        "1024.0 TiB",
    ]


def _process(*arguments: str, **options: object) -> "subprocess.CompletedProcess[str]":
    command_line = [*EXECUTABLE, *arguments]
    return subprocess.run(command_line, capture_output=True, check=False, text=True, timeout=60, **options)  # type: ignore[call-overload]


@pytest.mark.parametrize("arguments", [["query"], ["nonsense"], ["tables", "--nonsense"]], ids=" ".join)
def test_a_wrong_command_line_is_an_error_in_json_too(arguments: list[str], home: Path) -> None:
    text, document = _process(*arguments), _process(*arguments, "--json")
    assert (text.returncode, document.returncode) == (2, 2)
    assert text.stdout == ""
    error = json.loads(document.stdout)
    assert error["error"] == "UsageError"
    assert set(error) == set(LakehouseError("x", "y").as_dict())
    assert all(error[name] for name in ("subject", "problem", "expected", "fix", "message"))
    assert "Traceback" not in text.stderr + document.stderr


def test_the_process_reports_errors_and_results(home: Path) -> None:
    missing = _process("query", "select * from raw.nothing", "--json")
    assert missing.returncode == 2
    assert json.loads(missing.stdout)["error"] == "QueryError"
    fine = _process("query", "select 1 as one", "--json")
    assert fine.returncode == 0
    assert json.loads(fine.stdout)["rows"] == [{"one": 1}]


def test_a_home_that_cannot_be_made_is_named_with_its_setting(tmp_path: Path) -> None:
    csv_file = tmp_path / "ages.csv"
    csv_file.write_text("id,age\n1,30\n2,40\n")
    below_a_file = tmp_path / "file" / "home"
    (tmp_path / "file").touch()
    for home in (Path("/proc/nowhere"), below_a_file):
        environment = {**os.environ, "LAKEHOUSE_HOME": str(home)}
        done = subprocess.run([*EXECUTABLE, "add", str(csv_file), "--json"], capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 2
        error = json.loads(done.stdout)
        assert error["error"] == "MachineError"
        assert str(home) in error["subject"]
        assert "LAKEHOUSE_HOME" in error["fix"]


def test_an_unknown_dataset_is_told_before_what_is_missing(home: Path, lakehouse: Callable[..., Outcome]) -> None:
    assert "has no contract" in lakehouse("ingest", "no_such_dataset").err
    assert "nothing to ingest" in lakehouse("ingest", "commits").err


def test_outside_a_project_without_a_checkout_says_so(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEHOUSE_THREADS", "many")
    wrong = _process("tables")
    assert wrong.returncode == 2
    assert "LAKEHOUSE_THREADS" in wrong.stderr
    assert len(wrong.stderr.splitlines()) == 1


def test_a_reader_that_goes_away_is_no_error(home: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command_line = [*EXECUTABLE, "query", "--csv", "select 1"]
    found = subprocess.run(command_line, check=False, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=60)
    os.close(writer)
    assert found.returncode == 141
    assert found.stderr == ""


def _wait_until_busy(process: int, cpu_s: float = 1.5) -> None:
    """Until the process has worked for so long that it is past its start, however busy the machine is."""
    while sum(int(ticks) for ticks in Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[11:13]) < cpu_s * os.sysconf(
        "SC_CLK_TCK"
    ):
        time.sleep(0.1)


def test_interrupting_ends_quietly(home: Path) -> None:
    # A shell starts its background jobs deaf to SIGINT, and the suite may be one of them.
    listening = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); " + EXECUTABLE[-1]
    process = subprocess.Popen(
        [*EXECUTABLE[:-1], listening, "query", "select count(*) from range(100000000) a, range(100000) b"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "LAKEHOUSE_THREADS": "1"},
    )
    _wait_until_busy(process.pid)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "Interrupted" in err


def test_no_colour_reaches_a_pipe_or_a_terminal_that_asks_for_none(small_lake: object) -> None:
    plain = _process("tables")
    assert "\x1b[" not in plain.stdout
    assert "raw" in plain.stdout
    forced = _process("tables", env={**os.environ, "FORCE_COLOR": "1", "NO_COLOR": "1"})
    assert "\x1b[3" not in forced.stdout
