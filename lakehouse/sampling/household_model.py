"""The generative model of the household panel, in numpy, a block of households at a time.

A household has a latent wealth `w`, the sum of its district's level, the advantage of a town and a normal part of its own.
Everything it owns follows from `w` with noise: education, rooms, water, fuel, electricity, roof, land, livestock, size.
Its fortune `s` moves from wave to wave as an AR(1) process with persistence 0.6, and takes a blow from shocks, which
depend on the district (droughts in the north, floods along the river), on the season, and on chance (illness, job loss).

    log income       = 5.0 + 0.30 w + 0.16 education + 0.20 urban + 0.30 s + season - blow(shock) + N(0, 0.32)
    log expenditure  = 1.9 + 0.64 log income + 0.08 w + N(0, 0.38)
    food share       = 0.58 - 0.07 w - 0.03 education + N(0, 0.06), within 0.15..0.92
    need             = - log(expenditure per head) + 0.5 blow + 0.2 children - 0.25 education + own part
    food shortage    ~ Poisson(exp(0.1 + 0.75 need)); meals fall with need
    vulnerable       ~ Bernoulli(1 / (1 + exp(-2.3 (need - 0.65)))), assessed a quarter later

`need` is standardised. A perfect model of `vulnerable` reaches a ROC AUC of about 0.9 and of `monthly_income` an R2 of about 0.6:
both can be learned and neither is given away. `shift` moves the population: incomes fall, shocks and large households become more frequent.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Booleans = NDArray[np.bool_]

DISTRICTS = ("Amani", "Baraka", "Chamwe", "Dunda", "Elimu", "Faraja", "Gorofa", "Heshima", "Imara", "Jabali", "Kilimo", "Lulanga")
EDUCATION = ("none", "primary", "secondary", "tertiary")
WATER = ("surface", "spring", "well", "piped")
FUEL = ("firewood", "charcoal", "gas", "electricity")
ROOF = ("thatch", "metal", "tile")
SHOCKS = ("none", "drought", "flood", "illness", "job_loss")
SEX = ("female", "male")

_DISTRICT_WEALTH = np.array([0.5, -0.2, 0.1, -0.5, 0.3, -0.1, -0.7, 0.2, 0.6, -0.4, 0.0, -0.3])
_DISTRICT_URBAN = np.array([0.7, 0.2, 0.35, 0.1, 0.5, 0.25, 0.1, 0.4, 0.75, 0.15, 0.3, 0.2])
_DISTRICT_DROUGHT = np.array([0.02, 0.08, 0.04, 0.22, 0.03, 0.06, 0.26, 0.03, 0.02, 0.18, 0.05, 0.10])
_DISTRICT_FLOOD = np.array([0.02, 0.10, 0.03, 0.01, 0.12, 0.05, 0.01, 0.09, 0.02, 0.01, 0.14, 0.06])
_SEASON_DROUGHT = np.array([0.5, 0.4, 1.8, 1.3])
_SEASON_FLOOD = np.array([1.4, 1.9, 0.3, 0.4])
_SEASON_INCOME = np.array([-0.06, 0.04, 0.08, -0.04])
_BLOW = np.array([0.0, 0.40, 0.32, 0.26, 0.48])
_PERSISTENCE = 0.6


@dataclass(slots=True)
class Households:
    """What stays the same for the households of a block, one array element each."""

    generation: Ints
    district: Ints
    urban: Booleans
    wealth: Floats
    name: Ints
    phone: Ints
    age: Ints
    sex: Ints
    education: Ints
    size: Ints
    children: Ints
    rooms: Ints
    water: Ints
    fuel: Ints
    electricity: Booleans
    roof: Ints
    land: Floats
    livestock: Floats
    distance: Floats
    own_need: Floats

    def take_over(self, moved: Booleans, others: "Households") -> None:
        """Where `moved`, another household lives in the place from now on."""
        for name in self.__slots__:
            getattr(self, name)[moved] = getattr(others, name)


@dataclass(frozen=True, slots=True)
class Wave:
    """What one wave of interviews found, one array element per household."""

    shock: Ints
    income: Floats
    income_known: Booleans
    total_expenditure: Floats
    food_expenditure: Floats
    meals: Ints
    months_short: Ints
    vulnerable: Booleans
    day: Ints
    start_s: Ints
    minutes: Ints
    delay_s: Ints
    enumerator: Ints


def draw_households(rng: np.random.Generator, count: int, *, generation: int, shift: float, names: int) -> Households:
    """`count` households of the population."""
    district = rng.integers(0, len(DISTRICTS), count)
    urban = rng.random(count) < _DISTRICT_URBAN[district]
    wealth = 0.8 * rng.standard_normal(count) + _DISTRICT_WEALTH[district] + 0.5 * urban
    noise = rng.standard_normal((7, count))
    education = _ordered(wealth + 0.8 * noise[0], (-0.9, 0.4, 1.5))
    size = 1 + rng.poisson(np.clip(3.9 - 0.55 * wealth + 0.8 * shift, 0.8, None)).clip(0, 12)
    rural = 1.0 - urban
    walk = np.where(urban, rng.gamma(1.5, 0.9, count), rng.gamma(2.2, 4.5, count)).astype(np.float64)
    return Households(
        generation=np.full(count, generation),
        district=district,
        urban=urban,
        wealth=wealth,
        name=rng.integers(0, names, count),
        phone=np.where(rng.random(count) < 0.78 + 0.1 * urban, rng.integers(100_000_000, 1_000_000_000, count), 0),
        age=np.clip(18 + rng.gamma(3.2, 8.5, count), 18, 97).astype(np.int64),
        sex=(rng.random(count) < 0.72).astype(np.int64),
        education=education,
        size=size,
        children=np.minimum(rng.binomial(size - 1, 0.2), 6),
        rooms=np.clip(np.rint(1.6 + 0.35 * size + 0.7 * wealth + 0.6 * noise[1]), 1, 14).astype(np.int64),
        water=_ordered(wealth + 0.9 * urban + 0.8 * noise[2], (-0.9, -0.1, 1.0)),
        fuel=_ordered(wealth + 1.0 * urban + 0.7 * noise[3], (0.2, 1.5, 2.2)),
        electricity=wealth + 1.1 * urban + 0.6 * noise[4] > 0.6,
        roof=_ordered(wealth + 0.6 * noise[5], (-0.6, 1.3)),
        land=np.round(rural * rng.gamma(1.4, 1.1, count) * np.exp(0.15 * wealth), 2),
        livestock=np.round(rural * rng.gamma(0.9, 1.6, count) * np.exp(0.35 * wealth), 2),
        distance=np.round(walk, 2),
        own_need=0.25 * noise[6],
    )


def draw_wave(rng: np.random.Generator, who: Households, fortune: Floats, *, quarter: int, shift: float) -> Wave:
    """One interview of each household; `fortune` moves on in place.

    Args:
        rng: draws of this block and wave.
        who: the households, first to last as in `fortune`.
        fortune: the AR(1) state of each household.
        quarter: season, 0..3.
        shift: how far the population has moved.
    """
    count = len(fortune)
    fortune *= _PERSISTENCE
    fortune += np.sqrt(1 - _PERSISTENCE**2) * rng.standard_normal(count)
    shock = _draw_shocks(rng, who, quarter=quarter, shift=shift)
    blow = _BLOW[shock] * (1.2 - 0.25 * np.clip(who.wealth, -1, 2))
    noise = rng.standard_normal((5, count))
    log_income = (
        5.0 + 0.30 * who.wealth + 0.16 * who.education + 0.20 * who.urban + 0.30 * fortune + _SEASON_INCOME[quarter] - blow
        - 0.25 * shift + 0.32 * noise[0]
    )  # fmt: skip
    log_spent = 1.9 + 0.64 * log_income + 0.08 * who.wealth + 0.38 * noise[1]
    total = np.round(np.exp(log_spent), 2)
    share = np.clip(0.58 - 0.07 * who.wealth - 0.03 * who.education + 0.06 * noise[2], 0.15, 0.92)
    per_head = log_spent - np.log(who.size)
    need = (
        -(per_head - 3.9) / 0.75 + 0.5 * (blow - 0.06) / 0.15 * 0.6 + 0.2 * who.children - 0.25 * (who.education - 1.2) + who.own_need
    ) / 1.15
    seconds = rng.integers(7 * 3600, 17 * 3600, count)
    return Wave(
        shock=shock,
        income=np.round(np.exp(log_income), 2),
        income_known=rng.random(count) > 0.05 + 0.04 * (who.wealth > 0.8),
        total_expenditure=total,
        food_expenditure=np.round(share * total, 2),
        meals=np.clip(np.rint(2.7 - 0.35 * need + 0.4 * noise[3]), 1, 4).astype(np.int64),
        months_short=np.minimum(rng.poisson(np.exp(np.clip(0.1 + 0.75 * need, -4, 2.6))), 12),
        vulnerable=rng.random(count) < 1 / (1 + np.exp(-2.3 * (need - 0.65))),
        day=rng.integers(0, 84, count),
        start_s=seconds,
        minutes=np.clip(np.rint(42 + 11 * noise[4]), 8, 150).astype(np.int64),
        delay_s=rng.exponential(4 * 3600, count).astype(np.int64) + 60,
        enumerator=who.district * 40 + rng.integers(0, 40, count),
    )


def _draw_shocks(rng: np.random.Generator, who: Households, *, quarter: int, shift: float) -> Ints:
    more = 1.0 + max(shift, -0.9)
    chances = np.stack(
        [
            _DISTRICT_DROUGHT[who.district] * _SEASON_DROUGHT[quarter] * np.where(who.urban, 0.3, 1.2) * more,
            _DISTRICT_FLOOD[who.district] * _SEASON_FLOOD[quarter] * more,
            np.where(who.age > 60, 0.10, 0.05),
            np.where(who.urban, 0.06, 0.02) * more,
        ]
    )
    # Never certain, however far the population was shifted.
    chances *= np.minimum(1.0, 0.8 / chances.sum(axis=0))
    drawn = rng.random(len(who.district))
    past = (drawn >= np.cumsum(chances, axis=0)).sum(axis=0)
    return np.where(past == len(chances), 0, past + 1)


def _ordered(score: Floats, cuts: tuple[float, ...]) -> Ints:
    """An ordered category from a score and the places where it is cut."""
    return np.searchsorted(np.array(cuts), score).astype(np.int64)
