"""The process that holds a server while a test run lasts: `python -m tests.servers.supervisor s3 FOLDER PID`.

It starts the server, writes what a client needs (or why there is none) to FOLDER/answer.json, and stops the server when the process
PID has ended, in whatever way.
"""

import json
import os
import select
import shutil
import signal
import sys
from contextlib import suppress
from pathlib import Path

from tests.servers.catalogue import SERVERS
from tests.servers.server import Server, ServerUnavailable

ANSWER = "answer.json"
# Another program may take a port between the moment it is chosen and the moment it is used.
_TRIES = 3


def main() -> None:
    """Hold one server."""
    name, place, pid = sys.argv[1:]
    folder = Path(place)
    # Interrupting the tests interrupts this process as well; what ends it is the end of the run.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    run_of_tests = os.pidfd_open(int(pid))
    server, answer = _start(name, folder)
    try:
        draft = folder / "answer.tmp"
        draft.write_text(json.dumps(answer), encoding="utf-8")
        draft.rename(folder / ANSWER)
        if "unavailable" not in answer:
            select.select([run_of_tests], [], [])
    finally:
        server.stop()
        for data in folder.glob("data-*"):
            shutil.rmtree(data, ignore_errors=True)


def _start(name: str, folder: Path) -> tuple[Server, dict[str, str]]:
    reason = ""
    for number in range(_TRIES):
        server = SERVERS[name]()
        data = folder / f"data-{number}"
        data.mkdir()
        try:
            return server, server.start(data)
        except ServerUnavailable as error:
            reason = str(error)
            print(f"try {number + 1}: {reason}", flush=True)  # noqa: T201
            server.stop()
    return server, {"unavailable": reason}


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        main()
