"""The one way in: plan, read, validate, quarantine, raw; exactly once."""

from lakehouse.ingest.arrivals import Arrived, BucketFile
from lakehouse.ingest.landing import Pending, PendingFile, pending, pending_files
from lakehouse.ingest.path import ingest, ingest_landing
from lakehouse.ingest.report import FileReport, IngestProgress, IngestReport
from lakehouse.ingest.restoring import DatasetRestore, restore_dataset

__all__ = [
    "Arrived",
    "BucketFile",
    "DatasetRestore",
    "FileReport",
    "IngestProgress",
    "IngestReport",
    "Pending",
    "PendingFile",
    "ingest",
    "ingest_landing",
    "pending",
    "pending_files",
    "restore_dataset",
]
