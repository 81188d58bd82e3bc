"""A reference between datasets on the whole way: `lakehouse run` stops behind it until the parent has arrived."""

import os
import time
from pathlib import Path

import pytest

from tests.end_to_end.conftest import Cli
from tests.quality.test_references import CITIES, PEOPLE


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_parent_that_arrives_later_lets_the_run_pass(lakehouse: Cli, home: Path) -> None:
    folder = home / "contracts" / "datasets"
    folder.mkdir(parents=True)
    for name, text in (("people", PEOPLE.replace("SEVERITY", "error")), ("cities", CITIES)):
        (folder / f"{name}.odcs.yaml").write_text(text, encoding="utf-8")
    land(home, "people", "id,city,country,born_in\n1,7,de,7\n2,8,de,7\n")
    stopped = lakehouse("run", "people", "cities", "--json", code=1).json
    failed = next(one for one in stopped["checks"]["failed"] if one["check"] == "city_is_known_in_cities")
    assert (failed["subject"], failed["severity"]) == ("raw.people", "error")
    assert "2 rows refer to 2 that are not there" in failed["detail"]
    assert any("born_in" in one["detail"] for one in stopped["checks"]["warnings"])
    assert not (home / "tables" / "staging" / "people").exists()
    land(home, "cities", "country,code\nde,7\nde,8\n")
    passed = lakehouse("run", "people", "cities", "--json").json
    assert passed["checks"]["failed"] == []
    assert (home / "tables" / "staging" / "people").exists()


def land(home: Path, dataset: str, text: str) -> None:
    path = home / "landing" / dataset / f"{dataset}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    os.utime(path, (time.time() - 60, time.time() - 60))
