"""What is recorded of comparisons of the online store with its tables, and that upkeep keeps it small."""

from datetime import UTC, datetime

from lakehouse.features import FeatureView
from lakehouse.pipeline.features import PARITY_TABLE, compare_view, materialize_view, online
from lakehouse.pipeline.maintenance import Operation, maintain
from lakehouse.pipeline.workspace import Workspace
from lakehouse.settings import Settings
from lakehouse.tables import Stamp

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def test_a_row_for_each_comparison_in_few_files(settings: Settings) -> None:
    workspace = Workspace(settings)
    lake = workspace.lake
    view = FeatureView("people", "features.people", ("id",), online=True)
    with lake.connect(()) as session:
        lake.overwrite(session.con, view.table, "SELECT i AS id, i * 2 AS twice FROM range(20) t(i)", stamp=Stamp("test", "r"))
    with online(workspace) as features:
        materialize_view(workspace, features, view, now=NOW)
        found = [compare_view(workspace, features, view, now=NOW, run=f"r{number}") for number in range(3)]
    assert all(one.passed for one in found)
    assert lake.detail(PARITY_TABLE).files == 3
    report = maintain(workspace, operations=[Operation.COMPACT], run="m", now=NOW)
    assert PARITY_TABLE in {one.table for one in report.done if one.changed}
    assert not report.failed
    assert (lake.detail(PARITY_TABLE).files, lake.detail(PARITY_TABLE).rows) == (1, 3)
