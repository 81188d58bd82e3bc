"""Run a command that ends with its parent: `python -m lakehouse.pipeline.tethered PARENT COMMAND...`.

Linux sends the signal, even when the parent was killed by one it could not catch; nothing of this kind is known elsewhere, where a
child then goes on to its end. It may: whatever it writes is written once, whoever else is at work.
"""

import os
import signal
import sys
from collections.abc import Sequence

# From <sys/prctl.h>.
_PR_SET_PDEATHSIG = 1


def tethered(command: Sequence[str]) -> list[str]:
    """The command line that runs the command as long as this process lives, at the most; the command itself where there is no way to."""
    if sys.platform != "linux":
        return list(command)
    return [sys.executable, "-m", "lakehouse.pipeline.tethered", str(os.getpid()), *command]


def main() -> None:
    """Ask for a polite end with the parent, then become the command."""
    import ctypes

    parent, *command = sys.argv[1:]
    # Both pass from process to process: under a parent that holds the signal back, the command would never hear of its end.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    # It may have ended before the kernel was asked.
    if os.getppid() == int(parent):
        os.execvp(command[0], command)  # noqa: S606


if __name__ == "__main__":
    main()
