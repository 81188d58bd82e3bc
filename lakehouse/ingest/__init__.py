"""The one way in: plan, read, validate, quarantine, raw; exactly once."""

from lakehouse.ingest.landing import Pending, PendingFile, pending, pending_files
from lakehouse.ingest.path import ingest, ingest_landing
from lakehouse.ingest.report import FileReport, IngestProgress, IngestReport

__all__ = ["FileReport", "IngestProgress", "IngestReport", "Pending", "PendingFile", "ingest", "ingest_landing", "pending", "pending_files"]
