"""The versions of the tables: which there are, which have a name, and what the kept ones are kept for."""

from typing import Any

import dagster as dg

from assets.jobs import MAINTENANCE_GROUP
from assets.metadata import records_table
from assets.naming import asset_key
from lakehouse.pipeline.workspace import Workspace

VERSIONS = "monitoring.versions"
_SHOWN = 200


def build_version_assets() -> list[dg.AssetsDefinition]:
    """The overview, made after each vacuum."""

    @dg.asset(
        key=asset_key(VERSIONS),
        deps=[asset_key("monitoring.vacuum")],
        group_name=MAINTENANCE_GROUP,
        kinds={"monitoring"},
        tags={"layer": "monitoring"},
        pool=VERSIONS,
        description="The newest version of every table, and the versions that vacuum keeps because a tag, a registered model or a prediction "
        "points to them. `lakehouse history`, `diff`, `as-of` and `restore` take any of them. Writes nothing.",
    )
    def versions(workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
        from lakehouse.pipeline.pins import version_overview

        lake = workspace.lake
        tables = version_overview(workspace.settings, lake)
        newest: list[dict[str, Any]] = [
            {"table": str(one.table), "version": one.newest, "last change": one.changed, "kept versions": len(one.kept)} for one in tables
        ]
        kept: list[dict[str, Any]] = [
            {"table": str(one.table), "version": version, "for": ", ".join(reasons), "can be read": one.gone.get(version, "yes")}
            for one in tables
            for version, reasons in one.kept.items()
        ]
        tags: list[dict[str, Any]] = [
            {
                "table": str(tag.table),
                "version": tag.version,
                "tag": tag.name,
                "since": f"{tag.created_at:%Y-%m-%d %H:%M}",
                "note": tag.note,
            }
            for tag in lake.tags()
        ]
        return dg.MaterializeResult(
            metadata={
                "lakehouse/tables": records_table(newest[:_SHOWN]),
                "lakehouse/kept": records_table(kept[:_SHOWN]),
                "lakehouse/tags": records_table(tags[:_SHOWN]),
                "lakehouse/kept_versions": len(kept),
                "lakehouse/kept_and_gone": sum(len(one.gone) for one in tables),
            }
        )

    return [versions]
