"""Errors about what a model contract says name the contract."""

from collections.abc import Iterator
from contextlib import contextmanager

from lakehouse.contracts import ModelContract
from lakehouse.errors import ModelError


@contextmanager
def declared_in(contract: ModelContract) -> Iterator[None]:
    """What is raised inside about a key of the contract names the file that it is in, or the model."""
    try:
        yield
    except ModelError as error:
        place = contract.path.name if contract.path is not None else f"model {contract.name}"
        raise type(error)(f"{place}: {error.subject}", error.problem, expected=error.expected, found=error.found, fix=error.fix) from error
