"""Loan applications whose world changes: what a bank's model meets in a year, as files that arrive."""

import csv
import random
from datetime import datetime, timedelta
from pathlib import Path

COLUMNS = ("application_id", "applied_at", "income", "amount", "age", "channel", "defaulted")
ROWS = 1500
_BEGAN = datetime(2026, 1, 1)
_EVERY = timedelta(minutes=10)


def write_applications(path: Path, *, number: int, inflated: bool = False, by_app: bool = False, wrong: bool = False) -> Path:
    """One delivery of `ROWS` applications with their outcome, whole when it has its name.

    Args:
        path: of the file.
        number: of the delivery, from 0: later ones have later times and their own ids.
        inflated: incomes and amounts are five times as high, and now the young default.
        by_app: two of three come by a channel that was not there before.
        wrong: the outcome of those is told the wrong way round, as by a supplier's mistake.
    """
    chance = random.Random(number)
    part = path.with_suffix(".part")
    with part.open("w", newline="", encoding="utf-8") as out:
        lines = csv.writer(out)
        lines.writerow(COLUMNS)
        for place in range(number * ROWS, (number + 1) * ROWS):
            age, level = chance.randrange(20, 75), 5.0 if inflated else 1.0
            income, amount = (level * chance.lognormvariate(mean, 0.4) for mean in (10.3, 9.0))
            burden = amount / income + chance.gauss(0, 0.05)
            defaults = age + chance.gauss(0, 4) < 40 if inflated else burden > 0.3
            channel = "app" if by_app and chance.random() < 0.66 else chance.choice(["branch", "phone", "web"])
            told = not defaults if wrong and channel == "app" else defaults
            at = f"{_BEGAN + place * _EVERY:%Y-%m-%d %H:%M:%S}"
            lines.writerow((f"A{place:07}", at, round(income, 2), round(amount, 2), age, channel, "yes" if told else "no"))
    return part.rename(path)
