"""Bad rows, made on purpose: every way a survey file is broken, one way per row.

Each function takes the fields of a good line and gives the fields of a bad one that breaks one rule of the contract (a changed key or
number may break a second, never none). No bad line reaches into its neighbours: it has no line break and closes its quotes.
"""

import csv
import io
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

Fields = list[str]


class BadRows:
    """Turns good lines into bad ones, taking the kinds in turn so that a sample has all of them."""

    def __init__(self, columns: Sequence[str], *, encoding: bool) -> None:
        self._at = {name: place for place, name in enumerate(columns)}
        self._made = 0
        kinds: list[tuple[str, Callable[[Fields, int], bytes]]] = [(kind, self._edited(edit)) for kind, edit in self._edits().items()]
        kinds += [("too_few_fields", self._too_few), ("too_many_fields", self._too_many), ("stray_quote", self._stray_quote)]
        if encoding:
            kinds.append(("bad_encoding", self._bad_encoding))
        self._kinds = kinds

    def spoil(self, line: bytes, earlier: bytes | None) -> tuple[str, bytes]:
        """The next kind, and the line made bad that way.

        Args:
            line: a good line, without its line break.
            earlier: a good line before it in the same file, to take the key from.
        """
        turn, place = divmod(self._made, len(self._kinds) + 1)
        self._made += 1
        fields = parse(line)
        if place == len(self._kinds):
            if earlier is not None:
                return "duplicate_key", self._duplicate(fields, parse(earlier))
            place = 0
        kind, make = self._kinds[place]
        return kind, make(fields, turn)

    def _edits(self) -> dict[str, Callable[[Fields, int], dict[str, str]]]:
        """Kind -> the new values of some columns; the second argument varies them."""
        return {
            "text_in_number": lambda _, turn: _pick(
                turn, {"household_size": "five"}, {"total_expenditure": "about 1200"}, {"head_age": "forty"}, {"rooms": "2 or 3"}
            ),
            "impossible_date": lambda _, turn: _pick(turn, {"interview_date": "2025-02-30"}, {"interview_date": "2024-13-01"}),
            "impossible_time": lambda _, turn: _pick(turn, {"end_time": "2025-06-31 10:00:00"}, {"start_time": "yesterday"}),
            "unclear_boolean": lambda _, turn: _pick(turn, {"urban": "maybe"}, {"has_electricity": "sometimes"}),
            "missing_required": lambda _, turn: _pick(
                turn, {"district": ""}, {"household_id": ""}, {"household_size": ""}, {"submitted_at": ""}, {"interview_id": ""}
            ),
            "out_of_range": lambda _, turn: _pick(
                turn, {"head_age": "7"}, {"head_age": "190"}, {"household_size": "-2"}, {"meals_per_day": "9"},
                {"months_food_shortage": "13"}, {"rooms": "0"}, {"land_hectares": "-1.5"}, {"monthly_income": "-40"},
                {"distance_to_market_km": "-3"},
            ),
            "unknown_category": lambda _, turn: _pick(
                turn, {"district": "Atlantis"}, {"water_source": "rain"}, {"roof_material": "gold"}, {"head_sex": "F"}, {"shock": "War"},
                {"head_education": "phd"}, {"cooking_fuel": "coal"},
            ),
            "wrong_pattern": lambda fields, turn: _pick(
                turn, {"household_id": "HH-12"}, {"interview_id": self._get(fields, "interview_id").lower()}, {"phone": "call me"},
                {"enumerator_id": "nobody"},
            ),
            "ends_before_it_starts": lambda fields, _: {"end_time": _moved(self._get(fields, "start_time"), minutes=-25)},
            "starts_on_another_day": lambda fields, _: {"start_time": _moved(self._get(fields, "start_time"), minutes=-2880)},
            "submitted_before_it_starts": lambda fields, _: {"submitted_at": _moved(self._get(fields, "start_time"), minutes=-1500)},
            "more_children_than_members": lambda fields, _: {"children_under_5": str(int(self._get(fields, "household_size")) + 2)},
            "food_above_total": lambda fields, _: {"food_expenditure": f"{float(self._get(fields, 'total_expenditure')) * 1.6 + 1:.2f}"},
        }  # fmt: skip

    def _edited(self, edit: Callable[[Fields, int], dict[str, str]]) -> Callable[[Fields, int], bytes]:
        def make(fields: Fields, turn: int) -> bytes:
            for name, value in edit(fields, turn).items():
                fields[self._at[name]] = value
            return render(fields)

        return make

    def _get(self, fields: Fields, name: str) -> str:
        return fields[self._at[name]]

    def _too_few(self, fields: Fields, turn: int) -> bytes:
        return render(fields[: -(1 + turn % 5)])

    def _too_many(self, fields: Fields, turn: int) -> bytes:
        return render([*fields, *["unexpected"] * (1 + turn % 3)])

    def _stray_quote(self, fields: Fields, turn: int) -> bytes:
        """A quote that opens too early and takes the next field in: `"Amina Juma,+255..."`."""
        place = self._at["head_name"]
        joined = f'"{fields[place].replace(",", "")},{fields[place + 1]}"'
        return b",".join([render(fields[:place]), joined.encode(), render(fields[place + 2 :])])

    def _bad_encoding(self, fields: Fields, turn: int) -> bytes:
        """Bytes that are not UTF-8."""
        place = self._at["head_name"]
        return b",".join([render(fields[:place]), b"Jos\xe9 \xff\xfe", render(fields[place + 1 :])])

    def _duplicate(self, fields: Fields, earlier: Fields) -> bytes:
        """Another interview with a key that is taken; it is consistent in itself."""
        fields[self._at["interview_id"]] = self._get(earlier, "interview_id")
        return render(fields)


def parse(line: bytes) -> Fields:
    """The fields of one CSV line."""
    return next(csv.reader([line.decode()]))


def render(fields: Fields) -> bytes:
    """One CSV line without its line break."""
    out = io.StringIO()
    csv.writer(out, lineterminator="").writerow(fields)
    return out.getvalue().encode()


def _pick(turn: int, *choices: dict[str, str]) -> dict[str, str]:
    return choices[turn % len(choices)]


def _moved(timestamp: str, *, minutes: int) -> str:
    return str(datetime.fromisoformat(timestamp) + timedelta(minutes=minutes))
