"""A process that runs operations in children of its own: importing what they need takes longer than they do.

Each line on stdin is a JSON document. `{"environment": {...}, "operation": NAME, "part": "prepare" | "act" | "whole"}` starts a child and
answers with its pid; `{"wait": pid}` answers with its exit status, and where it ended by itself with the seconds it took and how often
it came to each crash point.
"""

import contextlib
import importlib
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

# What the operations import, but nothing that starts a thread: it would not be there in a child.
LIGHT = (
    "deltalake",
    "duckdb",
    "lakehouse.ingest",
    "lakehouse.contracts",
    "lakehouse.sampling",
    "lakehouse.transform",
    "tests.crash.operations",
    "obstore.store",
)
HEAVY = (
    "dbt.cli.main",
    "dbt.adapters.duckdb.impl",
    "lakehouse.transform.plugin",
    "lakehouse.learning",
    "mlflow.sklearn",
    "mlflow.store.tracking.sqlalchemy_store",
    "sklearn.tree",
    "skops.io",
)


def work_here(order: dict[str, Any]) -> dict[str, Any]:
    from lakehouse import crashpoints
    from lakehouse.settings import Settings
    from lakehouse.tables import Lake
    from tests.crash.operations import OPERATIONS, TOGETHER, Work

    for name in [name for name in os.environ if name.startswith("LAKEHOUSE_")]:
        del os.environ[name]
    os.environ.update(order["environment"])
    settings = Settings.load()
    began = time.monotonic()
    getattr((OPERATIONS | TOGETHER)[order["operation"]], order["part"])(Work(settings, Lake.from_settings(settings)))
    return {"seconds": time.monotonic() - began, "reached": crashpoints.counted()}


def child(order: dict[str, Any], answers: Path) -> None:
    code = 1
    try:
        answer = work_here(order)
        code = 0
    except BaseException:
        answer = {"said": traceback.format_exc()}
    finally:
        with contextlib.suppress(OSError):
            (answers / str(os.getpid())).write_text(json.dumps(answer))
        os._exit(code)


def main() -> None:
    answers = Path(sys.argv[1])
    for module in (*LIGHT, *(HEAVY if "all" in sys.argv[2:] else ())):
        importlib.import_module(module)
    for line in sys.stdin:
        order = json.loads(line)
        if "wait" in order:
            pid, status = os.waitpid(order["wait"], 0)
            told = answers / str(pid)
            answer = {"status": os.waitstatus_to_exitcode(status), **(json.loads(told.read_text()) if told.is_file() else {})}
            told.unlink(missing_ok=True)
        else:
            sys.stdout.flush()
            pid = os.fork()
            if pid == 0:
                # Nothing of a child may get between the answers.
                os.dup2(2, 1)
                child(order, answers)
            answer = {"pid": pid}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
