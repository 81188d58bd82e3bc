"""What is to be predicted: a column, or one safe SQL expression over the columns of its dataset."""

from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING

from lakehouse.contracts.objects import DatasetContract
from lakehouse.errors import ContractError
from lakehouse.sql import quote_identifier

if TYPE_CHECKING:
    from sqlglot import exp

# What an expression may be made of: nothing that reads a file, a table, the clock or chance.
_ALLOWED = """
    Column Identifier Literal Boolean Null Paren Not And Or EQ NEQ GT GTE LT LTE NullSafeEQ NullSafeNEQ Is In Between Like
    ILike Case If Add Sub Mul  Div IntDiv Mod Neg Coalesce Nullif Cast TryCast DataType DataTypeParam Abs Round Floor Ceil
    Lower Upper Length Ln Log Sqrt Exp Pow Greatest  Least Substring Trim Concat DPipe RegexpLike StartsWith EndsWith
    Contains Year Month Day Interval Var Tuple Sign Xor
"""


@dataclass(frozen=True, slots=True)
class Target:
    """What is predicted.

    Attributes:
        column: the column's name in the contract; None for an expression.
        sql: the SQL over the contract's columns, for a column its quoted name.
        uses: the columns it is computed from.
    """

    column: str | None
    sql: str
    uses: tuple[str, ...]


def parse_target(contract: DatasetContract, text: str) -> Target:
    """The target a person wrote: a column (by its name in the contract or in the file) or an expression such as `POVPIP < 100`.

    Raises:
        ContractError: it names an unknown column, is not one expression, or holds anything but values, columns and plain operators.
    """
    names = {column.source.lower(): column.name for column in contract.columns} | {
        column.name.lower(): column.name for column in contract.columns
    }
    wanted = text.strip()
    if wanted.lower() in names:
        name = names[wanted.lower()]
        return Target(name, quote_identifier(name), (name,))
    expression = _parsed(contract, wanted, names)
    uses: list[str] = []

    from sqlglot import exp

    for column in list(expression.find_all(exp.Column)):
        written = column.sql(dialect="duckdb").replace('"', "").lower()
        if written not in names and column.name.lower() not in names:
            raise _unknown(contract, wanted, column.name, names)
        name = names.get(written, names.get(column.name.lower(), ""))
        uses.append(name)
        replacement = exp.column(name, quoted=True)
        if column is expression:
            expression = replacement
        else:
            column.replace(replacement)
    if not uses:
        raise ContractError(
            f"target {wanted}", "uses no column", expected="a column or an expression over columns", fix='Quote odd names: "My column"'
        )
    return Target(None, expression.sql(dialect="duckdb"), tuple(dict.fromkeys(uses)))


def _parsed(contract: DatasetContract, wanted: str, names: dict[str, str]) -> "exp.Expr":
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import SqlglotError

    try:
        parsed = sqlglot.parse(wanted, dialect="duckdb")
    except SqlglotError as error:
        raise _unknown(contract, wanted, wanted, names) from error
    expression = parsed[0] if len(parsed) == 1 else None
    if expression is None:
        raise ContractError(f"target {wanted}", "is not one expression", expected="a column or one SQL expression", fix="Correct --target")
    allowed = {getattr(exp, name) for name in _ALLOWED.split() if hasattr(exp, name)}
    stranger = next((node for node in expression.walk() if type(node) not in allowed), None)
    if stranger is not None:
        raise ContractError(
            f"target {wanted}",
            f"may not use {type(stranger).__name__.upper()}",
            expected="columns, values, comparisons, arithmetic and CASE",
            found=stranger.sql(dialect="duckdb")[:80],
            fix="Compute it in a dbt model and name its column",
        )
    return expression


def _unknown(contract: DatasetContract, wanted: str, name: str, names: dict[str, str]) -> ContractError:
    close = get_close_matches(name.lower(), names, n=1, cutoff=0.6)
    columns = ", ".join(column.source for column in contract.columns[:30])
    return ContractError(
        f"target {wanted}",
        f"is not a column of {contract.name}, nor an expression over its columns",
        expected=f"one of {columns}",
        fix=f"Did you mean {names[close[0]]}?" if close else "Correct --target",
    )
