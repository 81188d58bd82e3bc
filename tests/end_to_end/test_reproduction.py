"""Every model that is shipped, made again after weeks of new data, compaction and vacuum: the same to the last bit."""

from pathlib import Path

import pytest

from tests.end_to_end.conftest import Cli

MODELS = ("household_vulnerability", "household_income", "commit_type", "customer_churn", "purchase_next_7_days")
SAMPLES = {"households": ("household_survey",), "commits": ("commits",), "commerce": ("customers", "orders", "payments", "web_events")}


def arrive(lakehouse: Cli, folder: Path, *, rows: int, seed: int) -> None:
    """Take samples of every domain in."""
    for sample, datasets in SAMPLES.items():
        out = folder / f"{sample}-{seed}"
        size = ["--customers", str(rows // 10), "--days", "365"] if sample == "commerce" else ["--rows", str(rows)]
        lakehouse("sample", sample, *size, "--seed", str(seed), "--out", out)
        for dataset in datasets:
            files = out / dataset if len(datasets) > 1 else out
            # Some rows of the samples are bad on purpose.
            lakehouse("ingest", dataset, files, code=None)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_shipped_model_is_the_same_after_weeks_of_new_data_and_maintenance(lakehouse: Cli, tmp_path: Path) -> None:
    arrive(lakehouse, tmp_path, rows=3000, seed=1)
    lakehouse("run", "--direct", timeout=1700, code=None)
    for seed in range(2, 6):
        arrive(lakehouse, tmp_path, rows=200, seed=seed)
    lakehouse("run", "--direct", timeout=1700, code=None)
    lakehouse("maintain", "--compact", "--checkpoint", "--vacuum", "--orphans", "--retention", "0", "--force")
    for model in MODELS:
        found = lakehouse("model", "reproduce", f"{model}@1", "--json", timeout=600).json
        assert found["equal"], found
        assert found["environment"] == []
