"""Named instants at which a test can have the process killed.

Each stands between two steps that another process could see apart. Where `LAKEHOUSE_TEST_CRASH_AT` names one, the process that
reaches it ends there and then, as in a power cut: no handler runs and nothing is cleaned up. Without the variable they do nothing.
"""

import os
import signal
from enum import StrEnum

VARIABLE = "LAKEHOUSE_TEST_CRASH_AT"


class Point(StrEnum):
    """Where a process can be killed, in the order of an operation's steps."""

    ORIGINALS_ARCHIVED = "originals_archived"
    BEFORE_DATA_FILES = "before_data_files"
    AFTER_DATA_FILES = "after_data_files"
    MID_EVOLUTION = "mid_evolution"
    MID_WIDENING = "mid_widening"
    MID_MERGE = "mid_merge"
    BEFORE_CHANGES = "before_changes"
    BEFORE_COMMIT = "before_commit"
    AFTER_COMMIT = "after_commit"
    QUARANTINE_COMMITTED = "quarantine_committed"
    BEFORE_RECORD = "before_record"
    BEFORE_INDEX = "before_index"
    MID_REPLAY = "mid_replay"
    MODEL_COMMITTED = "model_committed"
    MODEL_REGISTERED = "model_registered"
    BEFORE_TRANSITION = "before_transition"
    TRANSITION_COMMITTED = "transition_committed"
    MID_ALIASES = "mid_aliases"
    BEFORE_TRAINING_RECORD = "before_training_record"
    MID_COMPACTION = "mid_compaction"
    MID_VACUUM = "mid_vacuum"
    MID_CHECKPOINT = "mid_checkpoint"
    MID_ARCHIVE = "mid_archive"
    MID_RESTORE = "mid_restore"
    MID_BACKUP = "mid_backup"
    MID_ERASE = "mid_erase"
    BEFORE_CURSOR = "before_cursor"
    AFTER_CURSOR = "after_cursor"
    BEFORE_SLOT = "before_slot"
    MID_MATERIALIZE = "mid_materialize"
    VIEW_REPLACED = "view_replaced"


_reached: dict[str, int] = {}


def reached(point: Point) -> None:
    """Kill this process if the variable says so: `before_commit`, or `before_commit:3` for the third time it comes here."""
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return
    _reached[point] = _reached.get(point, 0) + 1
    name, _, time = wanted.partition(":")
    if name == point and _reached[point] == int(time or 1):
        os.kill(os.getpid(), signal.SIGKILL)


def counted() -> dict[str, int]:
    """How often this process has come to each point; it counts only where the variable is set, to whatever."""
    return dict(_reached)
