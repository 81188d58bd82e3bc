"""The online store: each view that is meant for it as an asset, with the checks that it may be served."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from json import loads
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.metadata import records_table
from assets.naming import asset_key, owners
from assets.transform import domains_of, table_of
from lakehouse.contracts import Contracts
from lakehouse.features.views import FeatureView
from lakehouse.pipeline.features import PARITY, ROOM
from lakehouse.pipeline.workspace import Workspace

if TYPE_CHECKING:
    from lakehouse.features.online import Materialized, Occupancy, Parity


def build_online_assets(contracts: Contracts, manifest_path: Path, views: Iterable[FeatureView]) -> list[dg.AssetsDefinition]:
    """One step per feature view that says `online: true`."""
    manifest = loads(manifest_path.read_bytes())
    nodes = {node: domain for node, domain in domains_of(manifest, contracts).items() if node in manifest["nodes"]}
    groups = {table_of(manifest["nodes"][node]): domain for node, domain in nodes.items()}
    return [_online(view, groups.get(view.table)) for view in views if view.online]


def _online(view: FeatureView, group: str | None) -> dg.AssetsDefinition:
    key = dg.AssetKey(["online", view.name])
    spec = dg.AssetSpec(
        key,
        deps=[asset_key(view.table)],
        group_name=group,
        owners=owners(view.owner),
        tags={"layer": "online"},
        kinds={"online"},
        description=f"The newest features of every {', '.join(view.entity)} in the online store, from {view.table}. Only what has changed is written; "
        "a view that is not what its table says is not served.",
    )

    @dg.multi_asset(
        name=f"online_{view.name}",
        specs=[spec],
        check_specs=[
            dg.AssetCheckSpec(
                PARITY,
                asset=key,
                blocking=True,
                description="Sampled entities have the same features in the online store as in the version of the table that it was filled from. "
                "Else the view is not served.",
            ),
            dg.AssetCheckSpec(ROOM, asset=key, description="The online store takes less than four fifths of what it may."),
        ],
        # One after the other: they share a store and its limit.
        pool="online_store",
    )
    def online_view(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> Iterator[Any]:
        from lakehouse.pipeline.features import compare_view, materialize_view, measured, online

        now = datetime.now(UTC)
        with online(workspace) as features:
            done = materialize_view(workspace, features, view, now=now)
            parity = compare_view(workspace, features, view, now=now, run=context.run.run_id)
            store = measured(workspace, features)
        yield dg.MaterializeResult(
            asset_key=key, metadata=_metadata(done, parity, store), data_version=dg.DataVersion(f"{done.version:020d}")
        )
        yield dg.AssetCheckResult(
            asset_key=key,
            check_name=PARITY,
            passed=parity.passed,
            severity=dg.AssetCheckSeverity.ERROR,
            description=parity.claim,
            metadata={"lakehouse/skew": parity.skew, "lakehouse/entities_that_differ": parity.differing},
        )
        yield dg.AssetCheckResult(
            asset_key=key,
            check_name=ROOM,
            passed=not store.is_alarming,
            severity=dg.AssetCheckSeverity.WARN,
            description=f"{store.used_bytes / 1e6:,.1f} MB of {(store.limit_bytes or 0) / 1e6:,.0f} MB are used",
        )

    return online_view


def _metadata(done: "Materialized", parity: "Parity", store: "Occupancy") -> dict[str, Any]:
    skewed = [
        {"feature": name, "served otherwise": f"{share:.2%}", "mean off by (sd)": round(parity.shift_by_feature.get(name, 0.0), 3)}
        for name, share in sorted(parity.skew_by_feature.items(), key=lambda item: -item[1])
    ]
    return {
        "online/table_version": done.version,
        "online/version_before": dg.MetadataValue.text("none" if done.since is None else str(done.since)),
        "online/entities_changed": done.entities,
        "online/entities_removed": done.removed,
        "online/rows_written": done.written,
        "online/why": done.why,
        "online/skew": parity.skew,
        "online/skewed_features": records_table(skewed),
        "online/store_bytes": store.used_bytes,
        "online/store_rows": sum(lane.rows for lane in store.lanes.values()),
    }
