"""What Dagster's log lines say, as events: the log is text in every version, while its Python API is not ours to import."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from lakehouse.pipeline.events import Event, Progress, State

# Ahead of what a step says when it waits for another process: the log has no event for that.
WAITING = "WAITING"
_LINE = re.compile(
    r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \S+ - \S+ - (?P<level>[A-Z]+) - (?P<job>\S+) - (?P<run>[0-9a-f]{8}-[0-9a-f-]{27})"
    r"(?: - \d+)?(?: - (?P<step>[\w\[\].]+))?? - (?P<kind>[A-Z][A-Z_]+) - (?P<message>.*)$"
)
_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_CHECK = re.compile(
    r"Asset check '(?P<check>[^']*)' on '(?P<asset>[^']*)' (?P<verdict>passed|did not pass)\.(?: Description: '(?P<text>.*)')?", re.DOTALL
)
_STEP = re.compile(r'step "(?P<step>[^"]+)"(?: in (?P<took>[\d.]+ ?[a-z]+))?')
_BLOCKING = re.compile(r"blocking asset checks? failed with ERROR severity")
_FAILED_CHECKS = re.compile(r"^(?P<asset>[a-z][\w/]*): (?P<checks>[\w,]+)$")
_ERROR = re.compile(
    r"^(?:[\w.]+\.)?(?P<name>\w*(?:Error|Exception|Refused|NotFound|Violat\w*|Rejected|Mismatch|Write|Extra)): (?P<text>.+)$"
)


@dataclass(frozen=True, slots=True)
class CheckLine:
    """One evaluated check, as the log tells it; how severe it is, it does not tell."""

    check: str
    table: str
    passed: bool
    description: str


@dataclass
class RunLog:
    """What a run's log has told so far."""

    run: str | None = None
    checks: list[CheckLine] = field(default_factory=list[CheckLine])
    blocking: set[tuple[str, str]] = field(default_factory=set[tuple[str, str]])
    materialized: list[str] = field(default_factory=list[str])
    failures: dict[str, str] = field(default_factory=dict[str, str])
    stopped_by_checks: set[str] = field(default_factory=set[str])
    tail: list[str] = field(default_factory=list[str])
    _failing: str | None = None
    _listing: bool = False

    def read(self, lines: Iterable[str], progress: Progress) -> None:
        """Read lines until they end, and tell progress of each step."""
        for raw in lines:
            line = _ANSI.sub("", raw)
            self.tail = [*self.tail[-39:], line]
            matched = _LINE.match(line)
            if matched is None:
                self._continue(line)
            else:
                self._failing, self._listing = None, False
                self.run = matched["run"]
                self._event(matched["kind"], matched["step"], matched["message"], progress)

    def error(self) -> str:
        """The best single line about why the process ended."""
        found = [one for one in map(_ERROR.match, reversed(self.tail)) if one]
        if found:
            return found[0]["text"]
        return next((line.strip() for line in reversed(self.tail) if line.strip()), "no output")

    def _event(self, kind: str, step: str | None, message: str, progress: Progress) -> None:
        if kind == "ASSET_MATERIALIZATION":
            self.materialized.append(message.removeprefix("Materialized value ").rstrip(".").replace(" ", "."))
        elif kind == "ASSET_CHECK_EVALUATION" and (found := _CHECK.match(message)):
            passed = found["verdict"] == "passed"
            self.checks.append(CheckLine(found["check"], _table(found["asset"]), passed=passed, description=found["text"] or ""))
        elif kind == WAITING:
            self._step(kind, step, message, progress)
        elif kind in ("STEP_START", "STEP_SUCCESS", "STEP_FAILURE", "STEP_SKIPPED"):
            self._step(kind, step, message, progress)

    def _step(self, kind: str, step: str | None, message: str, progress: Progress) -> None:
        found = _STEP.search(message)
        name = step or (found["step"] if found else "step")
        verb, _, subject = ("write", "", name.replace("__", ".", 1)) if "__" in name else name.partition("_")
        if kind == "STEP_START":
            progress(Event(verb, subject, State.STARTED))
        elif kind == WAITING:
            progress(Event(verb, subject, State.WAITING, message))
        elif kind == "STEP_SUCCESS":
            progress(Event(verb, subject, State.FINISHED, f"in {found['took']}" if found and found["took"] else ""))
        elif kind == "STEP_FAILURE":
            self.failures[name] = message
            self._failing = name
            progress(Event(verb, subject, State.FAILED))
        else:
            # What depends on a failed step is not skipped but never begun: this is for want of rows, such as of a dataset without files.
            progress(Event(verb, subject, State.SKIPPED, "nothing has arrived for it"))

    def _continue(self, line: str) -> None:
        """The lines after a failure are its traceback: the error it is caused by comes last, with the checks that block."""
        listed = _FAILED_CHECKS.match(line.strip()) if self._listing else None
        if listed:
            self.blocking |= {(_table(listed["asset"]), check) for check in listed["checks"].split(",")}
            return
        self._listing = _BLOCKING.search(line) is not None
        if self._listing and self._failing is not None:
            self.stopped_by_checks.add(self._failing)
        found = _ERROR.match(line.strip())
        if self._failing is not None and found:
            self.failures[self._failing] = found["text"] if "Dagster" not in found["name"] else f"{found['name']}: {found['text']}"


def _table(asset: str) -> str:
    return asset.replace("/", ".").replace(" ", ".")
