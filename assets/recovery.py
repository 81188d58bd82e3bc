"""Backups, and the proof that everything is as it was written; only where LAKEHOUSE_BACKUP_URI says where backups go."""

from datetime import UTC, datetime
from typing import Any

import dagster as dg

from assets.jobs import RECOVERY_GROUP
from assets.metadata import records_table
from lakehouse.pipeline.workspace import Workspace
from lakehouse.settings import Settings

BACKUP = dg.AssetKey(["recovery", "backup"])
VERIFICATION = dg.AssetKey(["recovery", "verification"])
_SHOWN = 50


def build_recovery_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """The backup and the verification; nothing where no place for backups is set."""
    return [_backup(settings.backup_uri), _verification(settings.backup_uri)] if settings.backup_uri else []


def _backup(uri: str) -> dg.AssetsDefinition:
    @dg.asset(
        key=BACKUP,
        group_name=RECOVERY_GROUP,
        kinds={"deltalake"},
        tags={"layer": "recovery"},
        pool="recovery.backup",
        description=f"Tables, originals, contracts, model registry and Dagster's storage as they are at one instant, in {uri}. Reads and "
        "stores only what is new since the backup before; `lakehouse restore-backup --at` brings the home back as it was.",
    )
    def backup(workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
        from lakehouse.recovery.backing_up import back_up
        from lakehouse.recovery.pruning import prune

        settings, now = workspace.settings, datetime.now(UTC)
        report = back_up(settings, uri, now=now, keys_to=settings.backup_keys_uri)
        metadata: dict[str, Any] = {
            "backup/id": report.id,
            "backup/place": dg.MetadataValue.path(report.uri),
            "backup/tables": report.tables,
            "backup/files": report.files,
            "backup/size_bytes": report.size_bytes,
            "backup/files_read": report.files_read,
            "backup/objects_added": report.objects_added or 0,
            "backup/bytes_added": report.bytes_added or 0,
            "backup/not_in_it": dg.MetadataValue.md("\n".join(f"- {note}" for note in report.left_out) or "nothing is left out"),
        }
        if settings.backup_keep_last is not None or settings.backup_keep_days is not None:
            pruned = prune(settings, uri, keep_last=settings.backup_keep_last, keep_days=settings.backup_keep_days, now=now)
            metadata |= {"backup/backups_kept": len(pruned.kept), "backup/backups_removed": len(pruned.removed)}
            metadata |= {"backup/bytes_removed": pruned.bytes_removed}
        return dg.MaterializeResult(metadata=metadata)

    return backup


def _verification(uri: str) -> dg.AssetsDefinition:
    @dg.asset(
        key=VERIFICATION,
        group_name=RECOVERY_GROUP,
        kinds={"deltalake"},
        tags={"layer": "recovery"},
        pool="recovery.verification",
        check_specs=[
            dg.AssetCheckSpec(
                "everything_is_as_it_was_written",
                asset=VERIFICATION,
                description="Every log is whole, every file has the bytes it was written with, every row of every file is accounted for, "
                "every model is the one that was registered, and every backup can be restored.",
            )
        ],
        description=f"Reads the whole home and all backups in {uri}, and compares each file with its digest; each failure says what to do.",
    )
    def verification(workspace: dg.ResourceParam[Workspace]) -> dg.MaterializeResult:
        from lakehouse.recovery.verifying import verify_home

        report = verify_home(workspace.settings, backup=uri)
        failures = [
            {"check": one.check, "subject": one.subject, "path": one.path or "", "problem": one.problem, "fix": one.fix}
            for one in report.failures
        ]
        metadata: dict[str, Any] = {
            "verify/tables": len(report.tables),
            "verify/files_read": report.files,
            "verify/bytes_read": report.bytes_read,
            "verify/digests_compared": report.digests_compared,
            "verify/backups": len(report.backups.ids) if report.backups else 0,
            "verify/objects_read": report.backups.objects_read if report.backups else 0,
            "verify/failures": records_table(failures[:_SHOWN]),
        }
        what = f"{len(failures)} failures: {failures[0]['problem']} ({failures[0]['subject']})" if failures else "nothing is wrong"
        check = dg.AssetCheckResult(
            passed=report.is_green,
            asset_key=VERIFICATION,
            check_name="everything_is_as_it_was_written",
            severity=dg.AssetCheckSeverity.ERROR,
            description=what,
            metadata={"failures": records_table(failures[:_SHOWN])},
        )
        return dg.MaterializeResult(metadata=metadata, check_results=[check])

    return verification
