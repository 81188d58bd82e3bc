"""Everything Dagster knows, put together. Nothing is decided here: contracts and the dbt project say what there is."""

import dagster as dg

from assets.datasets import build_dataset_assets, landing_spec
from assets.drift import build_drift_asset
from assets.features import build_online_assets
from assets.jobs import build_jobs, build_recovery_jobs, executor
from assets.maintenance import build_maintenance_assets
from assets.models import build_model_assets
from assets.monitoring import build_monitoring_assets
from assets.outcomes import build_outcomes_asset
from assets.outliers import build_outlier_checks
from assets.privacy import build_privacy_assets
from assets.recovery import build_recovery_assets
from assets.references import build_reference_checks
from assets.transform import build_dbt_assets
from assets.versions import build_version_assets
from lakehouse.features import feature_views
from lakehouse.pipeline.workspace import Workspace
from lakehouse.settings import Settings
from resources.workspace import RESOURCE_KEY, workspace_resource
from sensors.alerts import build_alert_sensors
from sensors.landing import build_landing_sensors
from sensors.lost_runs import build_lost_run_sensor
from sensors.retraining import build_retraining_schedules, build_retraining_sensors
from sensors.rollouts import build_rollout_sensors
from sensors.schedules import build_fetch_schedules, build_schedules
from sensors.topics import build_topic_sensors


def build_definitions(settings: Settings) -> dg.Definitions:
    """The definitions of one home: assets of every contract found in it and of every dbt model."""
    from lakehouse.transform import prepare

    workspace = Workspace(settings)
    contracts = workspace.contracts
    datasets, models = contracts.datasets.values(), contracts.models.values()
    manifest = prepare(settings, contracts)
    views = feature_views(manifest, contracts)
    dbt_assets = build_dbt_assets(contracts, manifest)
    outlier_checks = build_outlier_checks(contracts)
    dataset_assets = [build_dataset_assets(dataset) for dataset in datasets]
    return dg.Definitions(
        assets=[
            *(landing_spec(dataset) for dataset in datasets),
            *dataset_assets,
            *dbt_assets,
            *build_online_assets(contracts, manifest, views.values()),
            *(asset for model in models for asset in build_model_assets(model, contracts, views)),
            *build_monitoring_assets(contracts),
            build_drift_asset(contracts),
            build_outcomes_asset(contracts),
            *build_maintenance_assets(),
            *build_version_assets(),
            *build_privacy_assets(),
            *build_recovery_assets(settings),
        ],
        asset_checks=[*build_reference_checks(contracts), *outlier_checks],
        jobs=[
            *build_jobs(table_checks=[check for step in (*dataset_assets, *dbt_assets, *outlier_checks) for check in step.check_keys]),
            *build_recovery_jobs(settings),
        ],
        schedules=[*build_schedules(settings), *build_fetch_schedules(datasets, settings), *build_retraining_schedules(models)],
        sensors=[
            *build_landing_sensors(datasets, settings),
            *build_topic_sensors(datasets, settings),
            *build_rollout_sensors(models),
            *build_retraining_sensors(models),
            *build_alert_sensors(settings),
            build_lost_run_sensor(settings),
        ],
        resources={RESOURCE_KEY: workspace_resource(workspace)},
        executor=executor(settings),
    )


@dg.definitions
def defs() -> dg.Definitions:
    """The definitions of this process's home, read from the settings when Dagster asks for them."""
    return build_definitions(Settings.load())
