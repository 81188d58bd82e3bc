"""A home with one tiny lake in it, and the command line inside this process."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from typer.testing import CliRunner

from lakehouse.cli.main import app
from lakehouse.pipeline.workspace import Workspace
from lakehouse.settings import Settings
from lakehouse.tables import Lake, Stamp, Transaction


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def lakehouse(home: object) -> Callable[..., Outcome]:
    """Run a command in this process."""

    def run(*arguments: object, stdin: str | None = None) -> Outcome:
        result = CliRunner().invoke(app, [str(one) for one in arguments], input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Outcome(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def small_lake(settings: Settings) -> Lake:
    """Three batches of interviews, two of them staged, and what was made of them, as the real writers stamp it."""
    lake = Workspace(settings).lake
    raw, staging = "raw.household_survey", "staging.household_survey"
    features, training = "features.household_features", "models.household_vulnerability_training_set"
    predictions = "models.household_vulnerability_predictions"
    with lake.connect(()) as session:
        for batch in (1, 2, 3):
            source = {
                "batch": batch,
                "files": [
                    {
                        "file": f"wave_{batch}.csv",
                        "sha256": f"{batch}" * 64,
                        "bytes": 9,
                        "rows_read": 11,
                        "rows_accepted": 10,
                        "rows_quarantined": 1,
                    }
                ],
            }
            transaction = Transaction("ingest.household_survey", batch)
            stamp = Stamp(f"raw/household_survey", f"run-{batch}", {}, "contract-1", source)  # noqa: F541
            where = f"{batch}::BIGINT AS _batch, 'wave_{batch}.csv' AS _file, repeat('{batch}', 64) AS _sha256"
            lake.append(
                session.con,
                "quarantine.household_survey",
                f"SELECT {where}, 11::BIGINT AS _row, TIMESTAMPTZ '2026-01-0{batch} 00:00:00Z' AS _ingested_at, "
                "'{\"head_age\": \"old\"}' AS record, 'structural' AS level, ['head_age.type', 'rooms.range'] AS rules, "
                "['head_age: \"old\" is not a whole number', 'rooms: 99 is above 30'] AS reasons, 'waiting' AS status",
                stamp=stamp,
                transaction=transaction,
            )
            lake.append(
                session.con,
                raw,
                f"SELECT format('HS-2024Q{batch}-{{:08d}}', i) AS interview_id, format('HH{{:08d}}', i % 5) AS household_id, "
                f"(20 + i)::INTEGER AS head_age, {where}, (i + 1)::BIGINT AS _row, "
                f"TIMESTAMPTZ '2026-01-0{batch} 00:00:00Z' AS _ingested_at FROM range(10) numbers(i)",
                stamp=stamp,
                transaction=transaction,
            )
    _derive(lake, staging, f"SELECT * FROM {raw} WHERE NOT (_batch = 1 AND _row > 5)", [raw])
    _derive(lake, features, f"SELECT household_id, count(*) AS interviews FROM {staging} GROUP BY household_id", [staging])
    _derive(lake, training, f"SELECT *, interviews > 1 AS label FROM {features}", [features])
    _derive(
        lake,
        predictions,
        f"SELECT household_id, true AS prediction, 'household_vulnerability' AS model_name, '1' AS model_version FROM {features}",
        [features],
    )
    return lake


def _derive(lake: Lake, table: str, sql: str, inputs: list[str]) -> None:
    with lake.connect(inputs) as session:
        lake.overwrite(session.con, table, sql, stamp=Stamp(table, "run-9", dict(session.versions), "code-1"))
