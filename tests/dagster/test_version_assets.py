"""Versions in Dagster: what there is, and what it is kept for."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg

from assets.versions import build_version_assets
from lakehouse.pipeline.workspace import Workspace
from lakehouse.tables import Stamp


def test_tables_tags_and_kept_versions_are_shown(workspace: Workspace, instance: dg.DagsterInstance) -> None:
    lake, now = workspace.lake, datetime(2026, 1, 1, tzinfo=UTC)
    con = lake.open_connection()
    for number in range(3):
        lake.overwrite(con, "raw.numbers", f"SELECT {number} AS n", stamp=Stamp("test", "run"))
    con.close()
    lake.tag("raw.numbers", "first", version=0, note="a | b", now=now, run="r")
    lake.tag("raw.numbers", "second", version=1, now=now + timedelta(hours=1), run="r")

    def shown() -> dict[str, str]:
        done = dg.materialize(build_version_assets(), instance=instance, resources={"workspace": workspace})
        (made,) = done.get_asset_materialization_events()
        return {name: str(value.value) for name, value in made.materialization.metadata.items()}

    found = shown()
    assert "| raw.numbers | 2 | 2 | 2 |" in found["lakehouse/tables"]
    assert "| raw.numbers | 0 | tag first | yes |" in found["lakehouse/kept"]
    assert "| raw.numbers | 0 | first | 2026-01-01 00:00 | a \\| b |" in found["lakehouse/tags"]
    assert (found["lakehouse/kept_versions"], found["lakehouse/kept_and_gone"]) == ("2", "0")
    lake.checkpoint("raw.numbers")
    Path(lake.storage.address("raw", "numbers", "_delta_log", f"{0:020d}.json")).unlink()
    found = shown()
    assert "| raw.numbers | 0 | tag first | raw.numbers" in found["lakehouse/kept"]
    assert found["lakehouse/kept_and_gone"] == "2"
