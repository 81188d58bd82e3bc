"""When Dagster looks at sources that nothing tells it about: databases, and exports to buckets."""

import pytest

from lakehouse.contracts.schedules import is_cron
from lakehouse.errors import ContractError
from lakehouse.pipeline.workspace import Workspace
from lakehouse.settings import Settings
from sensors.schedules import build_fetch_schedules

CONTRACT = """
apiVersion: v3.1.0
kind: DataContract
id: exported
name: exported
version: 1.0.0
status: active
servers:
  - server: crm
    type: s3
    location: s3://exports/crm/
    format: csv
    customProperties: [EXPORTS]
  - server: shop
    type: postgres
    host: db.example.org
    port: 5432
    database: shop
    schema: public
    customProperties: [DATABASE]
schema:
  - name: exported
    properties:
      - {name: id, logicalType: integer, required: true, primaryKey: true, primaryKeyPosition: 1}
"""
EXPORTS, DATABASE = "{property: lakehouse.delimiter, value: ';'}", "{property: lakehouse.table, value: exports}"


def schedules(settings: Settings, *, exports: str = EXPORTS, database: str = DATABASE, only: str = "") -> list[tuple[object, str]]:
    text = CONTRACT.replace("EXPORTS", exports).replace("DATABASE", database)
    if only == "crm":
        text = text[: text.index("  - server: shop")] + text[text.index("schema:\n") :]
    folder = settings.home_dir / "contracts" / "datasets"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "exported.odcs.yaml").write_text(text, encoding="utf-8")
    contract = Workspace(settings).contracts.dataset("exported")
    return [(one.cron_schedule, one.description or "") for one in build_fetch_schedules([contract], settings)]


def test_exports_to_a_bucket_are_looked_at_every_four_hours(settings: Settings) -> None:
    ((cron, description),) = schedules(settings, only="crm")
    assert cron == "0 */4 * * *"
    assert "s3://exports/crm/" in description


def test_a_source_says_itself_when(settings: Settings) -> None:
    ((cron, _),) = schedules(settings)
    assert cron == ["*/15 * * * *", "0 */4 * * *"]
    own = "{property: lakehouse.schedule, value: '5 6,18 * * mon-fri'}"
    assert [cron for cron, _ in schedules(settings, exports=own, database=own)] == ["5 6,18 * * mon-fri"]
    by_settings = settings.model_copy(update={"schedule_fetch": "1 * * * *", "schedule_exports": "2 * * * *"})
    assert [cron for cron, _ in schedules(by_settings, database=own)] == [["5 6,18 * * mon-fri", "2 * * * *"]]


@pytest.mark.parametrize("server", ["exports", "database"])
def test_a_schedule_that_cannot_be_understood_is_refused_with_the_contract(settings: Settings, server: str) -> None:
    with pytest.raises(ContractError, match="has a schedule that can't be understood"):
        schedules(settings, **{server: "{property: lakehouse.schedule, value: every 4 hours}"})


@pytest.mark.parametrize("text", ["* * * * *", "0 */4 * * *", "5,10-20/2 0-23 1 jan-Mar sun", "0 0 31 12 7"])
def test_what_cron_understands(text: str) -> None:
    assert is_cron(text)


@pytest.mark.parametrize(
    "text", ["", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "*/0 * * * *", "5-1 * * * *"]
)
def test_what_cron_does_not_understand(text: str) -> None:
    assert not is_cron(text)
