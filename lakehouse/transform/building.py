"""Build models, seeds and snapshots, run their tests, and say what happened to each."""

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lakehouse.contracts import Contracts
from lakehouse.durable import write_whole
from lakehouse.errors import TransformError
from lakehouse.openlineage import Assertion, Job, job
from lakehouse.openlineage.columns import column_sources
from lakehouse.settings import Settings
from lakehouse.tables import Lake, TableName
from lakehouse.transform.invocation import invoked, one_line
from lakehouse.transform.project import parsed, prepare

# What working out the columns' origins may add to a build.
_COLUMNS_S = 10.0
_BUILT = frozenset({"model", "seed", "snapshot"})
_TESTED = frozenset({"test", "unit_test"})
Status = Literal["success", "error", "skipped"]
TestStatus = Literal["pass", "warn", "fail", "error", "skipped"]


@dataclass(frozen=True, slots=True)
class NodeResult:
    """What happened to one table.

    Attributes:
        rows: rows that this build wrote.
        version: the table's version afterwards; None where it was not built.
        is_unchanged: the table was already what its SQL makes of these inputs, so nothing was written.
    """

    unique_id: str
    name: str
    table: TableName
    status: Status
    rows: int
    version: int | None
    is_unchanged: bool
    message: str
    seconds: float


@dataclass(frozen=True, slots=True)
class TestResult:
    """What one dbt test or unit test found.

    Attributes:
        models: unique ids of the tables it looks at.
        failures: rows that failed it.
    """

    __test__ = False

    unique_id: str
    name: str
    models: tuple[str, ...]
    column: str | None
    status: TestStatus
    failures: int
    message: str
    seconds: float


@dataclass(frozen=True, slots=True)
class TransformReport:
    """Everything one build did, in the order it was done."""

    nodes: tuple[NodeResult, ...]
    tests: tuple[TestResult, ...]

    @property
    def failed(self) -> tuple[NodeResult | TestResult, ...]:
        """What went wrong, without what was skipped because of it."""
        nodes = [node for node in self.nodes if node.status == "error"]
        return (*nodes, *(test for test in self.tests if test.status in {"fail", "error"}))

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON."""
        return {
            "tables": {
                str(node.table): {"status": node.status, "rows": node.rows, "version": node.version, "unchanged": node.is_unchanged}
                for node in self.nodes
            },
            "tests": {test.name: {"status": test.status, "failures": test.failures} for test in self.tests},
        }


class BuildFailed(TransformError):
    """A model could not be built, or a test did not pass.

    Attributes:
        report: what was done all the same.
    """

    def __init__(self, report: TransformReport) -> None:
        first = report.failed[0]
        subject = f"dbt {first.unique_id.split('.')[0]} {first.name}"
        others = len(report.failed) - 1
        found = f"{first.failures} rows" if isinstance(first, TestResult) and first.status == "fail" and first.failures else None
        more = f"; {others} more failed too" if others else ""
        if isinstance(first, TestResult):
            look_at = " and ".join(unique_id.rsplit(".", 1)[-1] for unique_id in first.models) or first.name
            fix = f"Look at the rows of {look_at}: dbt show --select {first.name}"
        else:
            fix = f"Correct it, then run: dbt build --select {first.name}+"
        super().__init__(subject, f"{first.message}{more}", found=found, fix=fix)
        self.report = report


def build(
    settings: Settings,
    *,
    run: str,
    contracts: Contracts | None = None,
    select: Sequence[str] = (),
    exclude: Sequence[str] = (),
    full_refresh: bool = False,
    indirect_selection: str | None = None,
    check: bool = True,
    progress: Callable[[str, str], None] | None = None,
) -> TransformReport:
    """Build what is selected (everything by default) in the order of its dependencies, with its tests.

    A table whose code and input versions are those of its newest commit is left as it is.

    Args:
        settings: of the home.
        run: stamped on every commit.
        contracts: those of the home, if they are loaded already.
        select: dbt selectors, such as `staging`, `+household_features`, `tag:commits`.
        exclude: dbt selectors of what to leave out.
        full_refresh: build incremental models from nothing.
        indirect_selection: which tests come along, as dbt has it: eager, cautious, buildable or empty.
        check: raise when something fails; otherwise the report tells.
        progress: called with the name and status of each table and test that is done.

    Raises:
        BuildFailed: a model or a test failed; its `report` has everything.
        TransformError: the project can't be parsed, or a selector is not one.
    """
    manifest = parsed(prepare(settings, contracts))
    arguments = ["build"]
    for option, values in (("--select", select), ("--exclude", exclude)):
        if values:
            arguments += [option, *values]
    if full_refresh:
        arguments.append("--full-refresh")
    if indirect_selection:
        arguments += ["--indirect-selection", indirect_selection]
    listen = None if progress is None else _listener(progress)
    lake = Lake.from_settings(settings)
    with (
        job(settings, lake, "dbt", "build", run=run) as told,
        invoked(settings, arguments, run=run, manifest=manifest, on_event=listen) as invocation,
    ):
        results = invocation.result.results if invocation.result is not None else ()
        report = _report(results)
        if told.is_told:
            _tell(told, settings, lake, results)
            _tell_tests(told, manifest, results)
    if check and report.failed:
        raise BuildFailed(report)
    return report


def _tell(told: Job, settings: Settings, lake: Lake, results: Iterable[Any]) -> None:
    """What the commits of a build don't say: which nodes failed, and where the columns of the others come from."""
    until = time.monotonic() + _COLUMNS_S
    made: dict[str, str] = {}
    for result in results:
        if str(result.node.resource_type) not in _BUILT:
            continue
        node = _node(result)
        if node.status == "error":
            told.failed(str(node.table), "could not be built")
        elif node.status == "success" and not node.is_unchanged and getattr(result.node, "compiled_code", None):
            made[str(node.table)] = str(result.node.compiled_code)
    for table, sql in sorted(made.items(), key=lambda one: len(one[1])):
        told.came_from(table, _columns(settings, lake, sql, budget_s=max(0.0, until - time.monotonic())))


def _tell_tests(told: Job, manifest: Any, results: Iterable[Any]) -> None:
    """What the tests found, told of each table that they look at."""
    for result in results:
        if str(result.node.resource_type) not in _TESTED or (test := _test(result)).status == "skipped":
            continue
        kind = getattr(getattr(result.node, "test_metadata", None), "name", None) or str(result.node.resource_type)
        blocks = str(getattr(result.node.config, "severity", "error")).lower() == "error"
        found = Assertion(test.name, kind, test.status == "pass", blocks, test.failures, test.column)
        for node in (manifest.nodes.get(one) or manifest.sources.get(one) for one in test.models):
            if node is not None:
                told.found(f"{node.schema}.{getattr(node, 'alias', None) or node.identifier}", [found])


def _columns(settings: Settings, lake: Lake, sql: str, *, budget_s: float) -> dict[str, list[tuple[str, str]]]:
    """Where the columns of a SELECT come from, worked out once: a long one takes a second."""
    kept = settings.dbt_home / "columns" / f"{hashlib.sha256(sql.encode()).hexdigest()[:32]}.json"
    if kept.is_file():
        return {column: [(table, name) for table, name in sources] for column, sources in json.loads(kept.read_text("utf-8")).items()}
    began = time.monotonic()
    found = column_sources(sql, lake.schema, budget_s=budget_s)
    if found and time.monotonic() - began < budget_s:
        write_whole(kept, json.dumps(found))
    return found


def _listener(progress: Callable[[str, str], None]) -> Callable[[Any], None]:
    def listen(event: Any) -> None:
        if event.info.name == "NodeFinished":
            node = event.data.node_info
            progress(node.node_name, node.node_status)

    return listen


def _report(results: Iterable[Any]) -> TransformReport:
    nodes: list[NodeResult] = []
    tests: list[TestResult] = []
    for result in results:
        if str(result.node.resource_type) in _BUILT:
            nodes.append(_node(result))
        elif str(result.node.resource_type) in _TESTED:
            tests.append(_test(result))
    return TransformReport(tuple(nodes), tuple(tests))


def _node(result: Any) -> NodeResult:
    node, answer = result.node, result.adapter_response or {}
    outcome, _, version = str(answer.get("code") or "").partition(" ")
    status: Status = "success" if result.status == "success" else "skipped" if result.status == "skipped" else "error"
    return NodeResult(
        unique_id=node.unique_id,
        name=node.name,
        table=TableName(node.schema, node.alias),
        status=status,
        rows=int(answer.get("rows_affected") or 0),
        version=int(version) if version.isdigit() else None,
        is_unchanged=outcome == "unchanged",
        message=one_line(result.message or ""),
        seconds=result.execution_time,
    )


def _test(result: Any) -> TestResult:
    statuses: Mapping[str, TestStatus] = {"pass": "pass", "warn": "warn", "fail": "fail", "skipped": "skipped"}
    node = result.node
    attached = getattr(node, "attached_node", None)
    return TestResult(
        unique_id=node.unique_id,
        name=node.name,
        models=(attached,) if attached else tuple(node.depends_on.nodes),
        column=getattr(node, "column_name", None),
        status=statuses.get(str(result.status), "error"),
        failures=int(result.failures or 0),
        message=one_line(result.message or ""),
        seconds=result.execution_time,
    )
