"""One Delta table: its address, its versions, and every way to write it."""

from lakehouse.tables.lake import Lake
from lakehouse.tables.names import TableName
from lakehouse.tables.session import Session
from lakehouse.tables.stamp import Commit, CommitInfo, Stamp, TableDetail, Transaction

__all__ = ["Commit", "CommitInfo", "Lake", "Session", "Stamp", "TableDetail", "TableName", "Transaction"]
