"""Run ids: what groups the commits of one command."""

import secrets
from datetime import UTC, datetime


def new_run() -> str:
    """An id for a run started from the command line; ids sort by time."""
    return f"cli-{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
