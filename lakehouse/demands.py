"""What pydantic asks of a value, in the words that our messages have."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_DEMANDS = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "dict_type": "keys with values",
    "finite_number": "a finite number",
    "float_parsing": "a number",
    "float_type": "a number",
    "greater_than": "more than {gt}",
    "greater_than_equal": "at least {ge}",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "list_type": "a list",
    "literal_error": "{expected}",
    "model_type": "keys with values",
    "string_pattern_mismatch": "a text that matches {pattern}",
    "string_type": "a text",
    "too_short": "at least {min_length} of them",
}


def demanded(details: "ErrorDetails") -> str:
    """What would have been valid, of one entry of `ValidationError.errors()`.

    Source: https://docs.pydantic.dev/latest/errors/validation_errors/, which names the types of errors and their contexts.
    """
    said = _DEMANDS.get(details["type"])
    if said is None:
        return details["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    given = details.get("ctx", {})
    return said.format_map({name: int(one) if isinstance(one, float) and one.is_integer() else one for name, one in given.items()})
