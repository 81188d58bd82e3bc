"""What is said to people, and that the same is said once."""

from lakehouse.quality.profile.advice import advise
from lakehouse.quality.profile.facts import Association, Duplicates


def findings(*associations: Association) -> list[str]:
    told = advise((), Duplicates(0, 0, 0), associations, (), None, rows=10, rows_quarantined=0, dataset=None)
    return [one.finding for one in told]


def test_columns_that_say_the_same_are_named_together() -> None:
    assert findings(
        Association("a", "b", "spearman", 1.0),
        Association("x", "y", "cramers_v", 0.99),
        Association("c", "d", "spearman", -0.985),
        Association("d", "b", "spearman", 1.0),
        Association("a", "x", "spearman", 0.9),
        Association("a", "y", "eta", 1.0),
    ) == ["x and y say nearly the same (0.99 of 1).", "a, b, c and d say nearly the same (0.98 of 1)."]


def test_many_of_them_are_counted() -> None:
    (told,) = findings(*(Association("c0", f"c{number}", "spearman", 1.0) for number in range(1, 10)))
    assert told.startswith("c0, c1, c2, c3, c4, c5 and 4 more say nearly the same")
