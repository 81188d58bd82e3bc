"""A run's log, read as text."""

import pytest

from lakehouse.contracts import Contracts
from lakehouse.pipeline.dagster_log import WAITING, RunLog
from lakehouse.pipeline.dagster_run import command
from lakehouse.pipeline.events import Event, State
from lakehouse.pipeline.selection import Selection, select
from lakehouse.pipeline.workspace import Workspace
from lakehouse.settings import Settings

RUN = "39245297-453a-45b0-9440-6b5abbeb7f86"


def _line(kind: str, message: str, step: str | None = None, level: str = "DEBUG") -> str:
    return f"2026-11-21 02:40:32 +0000 - dagster - {level} - __ASSET_JOB - {RUN} - 4201 - {f'{step} - ' if step else ''}{kind} - {message}"


GOOD = [
    "  Welcome to Dagster!",
    _line("RUN_START", 'Started execution of run for "__ASSET_JOB".'),
    _line("STEP_START", 'Started execution of step "ingest_telco".', "ingest_telco"),
    f"2026-11-21 02:40:27 +0000 - dagster - INFO - __ASSET_JOB - {RUN} - ingest_telco - files: 1 ingested; rows: 3 read",
    _line("ASSET_MATERIALIZATION", "Materialized value raw telco.", "ingest_telco"),
    "\x1b[34m"
    + _line("ASSET_CHECK_EVALUATION", "Asset check 'every_row_fits' on 'raw/telco' passed. Description: 'it's fine'", "ingest_telco"),
    _line("ASSET_CHECK_EVALUATION", "Asset check 'seldom' on 'raw/telco' did not pass.", "ingest_telco"),
    _line("STEP_SUCCESS", 'Finished execution of step "ingest_telco" in 6.97s.', "ingest_telco"),
    _line("STEP_START", 'Started execution of step "models__telco_predictions".', "models__telco_predictions"),
    _line("STEP_SUCCESS", 'Finished execution of step "models__telco_predictions" in 417ms.', "models__telco_predictions"),
]
BAD = [
    _line("STEP_START", 'Started execution of step "ingest_telco".', "ingest_telco"),
    _line("ASSET_CHECK_EVALUATION", "Asset check 'kept' on 'raw/telco' did not pass. Description: 'one row is gone'", "ingest_telco"),
    _line("STEP_FAILURE", 'Execution of step "ingest_telco" failed.', "ingest_telco", "ERROR"),
    "",
    "dagster._core.errors.DagsterAssetCheckFailedError: 1 blocking asset check failed with ERROR severity:",
    "raw/telco: kept",
    "",
    "Stack Trace:",
    _line("STEP_FAILURE", 'Execution of step "train_telco" failed.', "train_telco", "ERROR"),
    "",
    "dagster._core.errors.DagsterExecutionStepExecutionError: Error occurred while executing op",
    "The above exception was caused by the following exception:",
    "lakehouse.errors.ModelError: model telco: has no rows",
    "Stack Trace:",
]


def _read(lines: list[str]) -> tuple[RunLog, list[Event]]:
    log, events = RunLog(), []
    log.read(lines, events.append)
    return log, events


def test_a_step_that_waits_for_another_process_says_so() -> None:
    said = (
        f"2026-11-21 02:40:27 +0000 - dagster - WARNING - __ASSET_JOB - {RUN} - train_telco - {WAITING} - another process is training telco"
    )
    _, events = _read([said])
    assert events == [Event("train", "telco", State.WAITING, "another process is training telco")]


def test_steps_become_progress_and_checks_outcomes() -> None:
    log, events = _read(GOOD)
    assert log.run == RUN
    assert log.materialized == ["raw.telco"]
    assert [(check.check, check.table, check.passed, check.description) for check in log.checks] == [
        ("every_row_fits", "raw.telco", True, "it's fine"),
        ("seldom", "raw.telco", False, ""),
    ]
    assert [(event.step, event.subject, event.state) for event in events] == [
        ("ingest", "telco", State.STARTED),
        ("ingest", "telco", State.FINISHED),
        ("write", "models.telco_predictions", State.STARTED),
        ("write", "models.telco_predictions", State.FINISHED),
    ]
    assert not log.failures
    assert not log.blocking


def test_a_failure_tells_which_check_stopped_it_or_what_went_wrong() -> None:
    log, events = _read(BAD)
    assert log.blocking == {("raw.telco", "kept")}
    assert log.stopped_by_checks == {"ingest_telco"}
    assert log.failures["train_telco"] == "model telco: has no rows"
    assert [event.subject for event in events if event.state is State.FAILED] == ["telco", "telco"]


def test_a_dataset_without_files_and_what_depends_on_it_have_not_failed() -> None:
    log, events = _read([_line("STEP_SKIPPED", "Skipping step train_guests due to skipped dependencies: ['dbt_added'].", "train_guests")])
    assert [(event.step, event.subject, event.state) for event in events] == [("train", "guests", State.SKIPPED)]
    assert not log.failures


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], "no output"),
        (["Traceback", "lakehouse.errors.ContractError: contracts/x.yaml: is wrong", "  File"], "contracts/x.yaml: is wrong"),
        (["something", "ended", ""], "ended"),
    ],
)
def test_a_run_that_never_started_says_why(lines: list[str], expected: str) -> None:
    log, _ = _read(lines)
    assert log.run is None
    assert log.error() == expected


def test_everything_is_the_job_and_names_are_selections(settings: Settings) -> None:
    contracts = Workspace(settings).contracts
    assert command(select(contracts, []))[2:6] == ["dagster", "job", "execute", "-j"]
    chosen = command(select(contracts, ["commits"]))
    assert 'key:"raw/commits"+' in chosen[chosen.index("--select") + 1]


def test_a_named_model_leaves_the_others_alone() -> None:
    from lakehouse.contracts import DatasetContract, ModelContract

    data = DatasetContract(name="d", version="1", columns=())
    models = {
        name: ModelContract(name=name, version="1", problem="regression", dataset="d", label_table="staging.d", target_column="t")
        for name in ("m", "n")
    }
    contracts = Contracts(datasets={"d": data}, models=models)
    by_model = select(contracts, ["m"])
    assert [model.name for model in by_model.models] == ["m"]
    assert by_model.only_for_models == {"d"}
    assert command(by_model)[-5] == '(+key:"models/m_predictions" and not key:"landing/*")'
    by_dataset = select(contracts, ["d"])
    assert {model.name for model in by_dataset.models} == {"m", "n"}
    assert select(contracts, ["m", "d"]).only_for_models == frozenset()
    assert select(contracts, []) == Selection((data,), tuple(models.values()), is_everything=True)
