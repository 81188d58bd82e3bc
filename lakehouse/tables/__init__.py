"""One Delta table: its address, its versions, and every way to write it."""

from lakehouse.tables.lake import Lake
from lakehouse.tables.names import TableName
from lakehouse.tables.restoring import RESTORED, ROWS_REMOVED, in_force
from lakehouse.tables.session import Session
from lakehouse.tables.stamp import Commit, CommitInfo, Stamp, TableDetail, Transaction
from lakehouse.tables.tags import Tag

__all__ = [
    "RESTORED",
    "ROWS_REMOVED",
    "Commit",
    "CommitInfo",
    "Lake",
    "Session",
    "Stamp",
    "TableDetail",
    "TableName",
    "Tag",
    "Transaction",
    "in_force",
]
