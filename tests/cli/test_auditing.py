"""What commands tell the audit."""

from typing import Any

import pytest

from lakehouse.cli.auditing import Auditor
from lakehouse.privacy.audit import Audit
from lakehouse.settings import Settings


@pytest.mark.parametrize(
    ("command", "arguments", "document", "tables"),
    [
        ("as-of", {"table": "raw.people", "point": "3"}, {"versions": {"raw.people": 3}}, {"raw.people": 3}),
        ("profile", {"subject": "raw.people", "version": None}, {"columns": []}, {"raw.people": None}),
        ("profile", {"subject": "/home/ann/ann@example.org.csv"}, {"columns": []}, {}),
        ("quarantine show", {"dataset": "people", "rule": "age.type"}, {"dataset": "people", "rows": []}, {"quarantine.people": None}),
        ("lineage", {"reference": "raw.people@2"}, None, {"raw.people": 2}),
        ("maintain", {"tables": ["raw.people", "raw.visits"]}, None, {"raw.people": None, "raw.visits": None}),
    ],
)
def test_the_tables_that_were_asked_for_are_named_and_no_value_is(
    settings: Settings,
    command: str,
    arguments: dict[str, Any],
    document: Any,
    tables: dict[str, int | None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings.home_dir.mkdir(parents=True, exist_ok=True)
    monkeypatch.setenv("LAKEHOUSE_HOME", str(settings.home_dir))
    Auditor(command, arguments).tell(document)
    (entry,) = Audit(settings).entries()
    assert (entry.action, dict(entry.tables)) == (command, tables)
    assert "ann@" not in str(entry)
