"""`lakehouse ingest NAME --follow`: a line for every micro-batch, until somebody ends it."""

import json
import signal
import threading
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lakehouse.cli.screen import Screen, counted, json_value
from lakehouse.errors import LakehouseError

if TYPE_CHECKING:
    from lakehouse.contracts import DatasetContract
    from lakehouse.ingest import IngestReport
    from lakehouse.pipeline.topics import MicroBatch
    from lakehouse.pipeline.workspace import Workspace


def follow(screen: Screen, workspace: "Workspace", contract: "DatasetContract", *, every_s: float, with_build: bool) -> None:
    """Follow the dataset's topics, and build what depends on it after each batch if that is wanted.

    Raises:
        SourceError: the contract names no topic for this environment, or one can't be read at the first look.
    """
    from lakehouse.pipeline.runs import build_and_serve, new_run
    from lakehouse.pipeline.topics import follow_topics

    def told(batch: "MicroBatch") -> None:
        if screen.json:
            screen.write(json.dumps(json_value(batch.as_dict())) + "\n")
        elif batch.error is not None:
            screen.say(f"Batch {batch.number}: {batch.error}; trying again")
        elif batch.report is not None and (batch.report.rows_read or batch.number == 1):
            report = batch.report
            lag = sum(topic.lag for topic in report.topics)
            parts = [f"{report.rows_accepted:,} accepted", f"{report.rows_quarantined:,} quarantined", f"{lag:,} behind"]
            own = counted(batch.partitions, "partition")
            screen.write(f"{datetime.now(UTC):%H:%M:%S} batch {batch.number} of {own}: {', '.join(parts)}, {batch.seconds:.1f} s\n")
        for warning in warnings_of(batch.report):
            screen.say(f"Warning: {warning}")

    def built(report: "IngestReport") -> None:
        try:
            checks = build_and_serve(workspace, contract, run=new_run(), now=datetime.now(UTC))
        except LakehouseError as error:
            # What could not be built is built with the next batch; the messages go on coming.
            screen.say(f"Not built: {error}")
            return
        for check in (one for one in checks if not one.passed):
            screen.say(f"Check {check.id} of {check.subject}: {check.detail}")

    with _ended_by_signals() as stopped:
        follow_topics(workspace, contract, every_s=every_s, stopped=stopped, told=told, new_run=new_run, then=built if with_build else None)


def warnings_of(report: "IngestReport | None") -> list[str]:
    """What is odd about the files, messages that are lost, and rows whose removal can't be shown."""
    if report is None:
        return []
    lost = [
        f"topic {topic.topic}, partition {one.partition}: {one.lost:,} messages before offset {one.offset:,} had been removed before they were read"
        for topic in report.topics
        for one in topic.partitions
        if one.lost
    ]
    removed = [
        f"table {table.table} was emptied by TRUNCATE: without lakehouse.deletedAs its rows stay in raw as they were"
        for table in report.slots
        if table.replicated is not None and table.replicated.truncates
    ]
    return [*lost, *removed, *(warning for file in report.files for warning in file.warnings)]


@contextmanager
def _ended_by_signals() -> "Generator[threading.Event]":
    """SIGTERM and Ctrl-C let the batch that is under way end; a second Ctrl-C does not."""
    stopped = threading.Event()

    def stop(number: int, _: object) -> None:
        if stopped.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        stopped.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
