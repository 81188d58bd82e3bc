"""A process that trains in children of its own: importing what a training needs takes longer than the training.

Each line on stdin is a JSON document: `{"home", "model", ...}` starts a child and answers with its pid, `{"wait": pid}` answers with its
exit status and what it said. With `dies_at` the child is killed right after the first call of that function.
"""

import contextlib
import importlib
import json
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CLIENT = "mlflow.tracking.client.MlflowClient."
BOARD = "lakehouse.learning.boards.SqliteBoard."
LAKE = "lakehouse.tables.lake.Lake."
DATABASE = "mlflow.store.db.utils._upgrade_db"


def die_after(target: str) -> None:
    """Kill this process when the function has returned; `name@table` waits for a call about that table."""
    target, _, table = target.partition("@")
    owner_name, _, name = target.rpartition(".")
    try:
        owner: Any = importlib.import_module(owner_name)
    except ModuleNotFoundError:
        module, _, attribute = owner_name.rpartition(".")
        owner = getattr(importlib.import_module(module), attribute)
    whole = getattr(owner, name)

    def killed(*arguments: Any, **more: Any) -> Any:
        result = whole(*arguments, **more)
        if not table or any(str(one).endswith(table) for one in arguments):
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, killed)


def train_here(order: dict[str, Any]) -> dict[str, Any]:
    from lakehouse.learning import predict_batch, train
    from lakehouse.settings import Settings
    from lakehouse.tables import Lake
    from tests.learning.conftest import PROJECT, model

    if order.get("dies_at"):
        die_after(order["dies_at"])
    settings = Settings(project=PROJECT, home=Path(order["home"]), threads=1)
    contract = model(order["model"], algorithms=("decision_tree",), folds=2)
    said: list[str] = []
    lake, run = Lake.from_settings(settings), f"process {os.getpid()}"
    report = train(settings, lake, contract, run=run, now=NOW, force=order.get("force", False), waiting=said.append)
    predictions = predict_batch(settings, lake, contract, run=run, now=NOW, waiting=said.append).version if order.get("predict") else None
    return {"version": report.version, "skipped": report.skipped, "said": said, "predictions": predictions}


def child(order: dict[str, Any], answers: Path) -> None:
    code = 1
    try:
        answer = train_here(order)
        (answers / str(os.getpid())).write_text(json.dumps(answer))
        code = 0
    finally:
        with contextlib.suppress(BrokenPipeError):
            sys.stderr.flush()
        os._exit(code)


def main() -> None:
    for module in ("mlflow.sklearn", "mlflow.store.tracking.sqlalchemy_store", "sklearn.tree", "skops.io", "pandas", "duckdb", "deltalake"):
        importlib.import_module(module)
    answers = Path(sys.argv[1])
    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:
            pid, status = os.waitpid(order["wait"], 0)
            told = answers / str(pid)
            answer = {"status": os.waitstatus_to_exitcode(status), **(json.loads(told.read_text()) if told.is_file() else {})}
        else:
            sys.stdout.flush()
            pid = os.fork()
            if pid == 0:
                child(order, answers)
            answer = {"pid": pid}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
