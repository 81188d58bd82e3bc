"""`<dataset>_topic_has_messages`: messages that raw does not have yet start a run that reads them and builds all that depends on them."""

from collections.abc import Iterable
from datetime import UTC, datetime

import dagster as dg

from assets.jobs import data_downstream_of
from lakehouse.contracts import DatasetContract
from lakehouse.errors import SourceError
from lakehouse.pipeline.workspace import Workspace
from lakehouse.settings import Settings
from sensors.landing import decide, ended_runs, unfinished_run


def build_topic_sensors(datasets: Iterable[DatasetContract], settings: Settings) -> list[dg.SensorDefinition]:
    """One sensor per dataset that has a topic in this environment."""
    from lakehouse.pipeline.fetching import in_environment

    return [_topic_sensor(contract, settings) for contract in datasets if in_environment(contract.topics, settings)]


def _topic_sensor(contract: DatasetContract, settings: Settings) -> dg.SensorDefinition:
    names = ", ".join(topic.name for topic in contract.topics)

    @dg.sensor(
        name=f"{contract.name}_topic_has_messages",
        target=data_downstream_of(contract.raw, contract.quarantine),
        minimum_interval_seconds=max(1, round(settings.topic_interval_s)),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"{names} has messages that are not in raw.{contract.name}: reads them as one micro-batch and brings everything "
        "downstream up to date in one run. Where a process follows the topic (`lakehouse ingest --follow`), stop this sensor.",
    )
    def topic_has_messages(context: dg.SensorEvaluationContext, workspace: dg.ResourceParam[Workspace]) -> dg.RunRequest | dg.SkipReason:
        from lakehouse.pipeline.topics import lag_of

        try:
            lags = {place: lag for place, lag in lag_of(workspace, contract).items() if lag.messages}
        except SourceError as error:
            return dg.SkipReason(str(error))
        if not lags:
            return dg.SkipReason(f"No message of {names} is missing in {contract.raw}.")
        # A run that failed is repeated: three times in an hour, for as long as it gets no further.
        hour = f"{datetime.now(UTC):%Y%m%d%H}"
        positions = [f"{topic} {partition} {lag.offset} {hour}" for (topic, partition), lag in lags.items()]
        instance = context.instance
        return decide(
            contract.name,
            positions,
            waiting=0,
            history=ended_runs(instance, contract.name),
            busy=unfinished_run(instance, contract),
        )

    return topic_has_messages
