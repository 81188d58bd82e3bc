"""A model's card: one content in three forms, with what people need before they trust an answer."""

from datetime import UTC, datetime

import pytest

from lakehouse.learning import Registry, train
from lakehouse.learning.card import Grid, Section, model_card
from lakehouse.learning.lifecycle.operations import Lifecycle
from lakehouse.learning.recipe import recipe_of
from tests.learning.conftest import model, write

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_the_card_says_what_for_how_good_from_what_and_where_not(shared, lake) -> None:
    write(lake, "staging.carded", "SELECT range AS id, range % 7 AS x, 1 AS same, if(range % 7 > 3, 'hi', 'lo') AS label FROM range(200)")
    contract = model(
        "carded",
        algorithms=("decision_tree",),
        folds=2,
        description="High or low.",
        intended_use="To test | nothing else.",
        limits=("Odd <rows>.",),
    )
    report = train(shared, lake, contract, run="r", now=NOW)
    registry = Registry(shared)
    shown = model_card(contract, report, recipe_of(registry, "carded", "1"), Lifecycle(registry, lake).history("carded"))
    text = shown.as_markdown()
    assert text.startswith("# carded 1\n")
    for part in (
        "To test | nothing else.",
        "- Odd <rows>.",
        "staging.carded",
        "| same | dropped |",
        "| promoted | production |",
        report.model_digest,
    ):
        assert part in text
    page = shown.as_html()
    assert "Odd &lt;rows&gt;." in page
    assert page.count("<section") == len(shown.sections)
    version = registry.registered("carded", "1")
    assert version is not None
    # It is kept as it was when the version was registered.
    assert registry.text_of(version, "card.md") == text
    assert registry.text_of(version, "card.html") == page
    # A version from before recipes were kept has a card all the same.
    assert "How to make it again" not in model_card(contract, report, None, ()).as_markdown()


@pytest.mark.parametrize("cell", ["a|b", "a\nb"])
def test_a_cell_stays_in_its_row(cell) -> None:
    lines = Section("one", grid=Grid(("head",), ((cell,),))).as_markdown().splitlines()
    assert len(lines) == 5
    assert lines[-1].replace("\\|", "").count("|") == 2
