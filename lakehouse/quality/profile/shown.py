"""Numbers, shares and instants as people read them."""

import math
from datetime import UTC, datetime, timedelta

NOTHING = "\u2013"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def number_text(value: float | None) -> str:
    """A number in few digits: 12,346, 0.0123, 1.2e+20."""
    if value is None or not math.isfinite(value):
        return NOTHING
    if value == int(value) and abs(value) < 1e15:
        return f"{int(value):,}"
    if abs(value) >= 1e12 or abs(value) < 1e-4:
        return f"{value:.3g}"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.1f}"


def moment_text(seconds: float | None) -> str:
    """Seconds since 1970 as a day, or as a minute where they are within one; years that no calendar here has as a number."""
    if seconds is None or not math.isfinite(seconds):
        return NOTHING
    try:
        moment = _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        return f"year {1970 + seconds / 31556952:,.0f}"
    return f"{moment:%Y-%m-%d}" if seconds % 86400 == 0 else f"{moment:%Y-%m-%d %H:%M}"


def percent(share: float) -> str:
    """A share that never says 0 % of something or 100 % of nearly everything."""
    if 0 < share < 0.001:
        return "<0.1 %"
    if 0.999 < share < 1:
        return ">99.9 %"
    return f"{share:.1%}".replace("%", " %").replace(".0 %", " %")


def score_text(value: float | None) -> str:
    """A score with two decimals, never rounded up to 1."""
    if value is None:
        return NOTHING
    return f"{math.floor(value * 100) / 100:.2f}" if value < 1 else "1.00"
