"""Rows of people who were erased: counted when they come again, and kept nowhere."""

from dataclasses import dataclass

import duckdb

from lakehouse.contracts import DatasetContract
from lakehouse.ingest.validation import BAD, RECORD
from lakehouse.privacy import Key
from lakehouse.privacy import key as secret_key
from lakehouse.privacy.erasure.suppression import Suppressed, is_erased_sql, mentions_erased_sql, prepare, suppressed
from lakehouse.settings import Settings
from lakehouse.tables import Lake


@dataclass(frozen=True, slots=True)
class ErasedRows:
    """What must not come back into a dataset: conditions over judged rows and over lines that were no records."""

    dataset: str
    found: tuple[Suppressed, ...]
    columns: tuple[str, ...]
    key: Key

    @classmethod
    def of(cls, lake: Lake, con: duckdb.DuckDBPyConnection, contract: DatasetContract, settings: Settings) -> "ErasedRows | None":
        """What is known of the dataset's erased subjects; None, which costs a look, where there are none."""
        found = tuple(suppressed(lake, con, contract.name))
        if not found:
            return None
        key = secret_key(settings)
        prepare(con, key)
        return cls(contract.name, found, tuple(column.name for column in contract.columns), key)

    @property
    def row_sql(self) -> str:
        """Holds for a judged row of an erased subject, by its column or, if it is bad, by any word of its record."""
        named = is_erased_sql(self.dataset, self.found, self.columns, self.key)
        return f"({named} OR ({BAD} IS NOT NULL AND {self.line_sql(RECORD)}))"

    def line_sql(self, text_sql: str) -> str:
        """Holds for a line with a word that names an erased subject."""
        return mentions_erased_sql(self.dataset, self.found, text_sql, self.key)
