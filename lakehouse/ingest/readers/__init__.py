"""Files of any format as rows of text in DuckDB."""

from lakehouse.ingest.readers.chunks import Chunk, Others, Reject, Select, as_text
from lakehouse.ingest.readers.formats import FileFormat, StagedFile
from lakehouse.ingest.readers.jsonrecords import Small, plain_lines, read_documents
from lakehouse.ingest.readers.sniffing import sniff
from lakehouse.ingest.readers.staging import read_chunks, scratch_folder, stage

__all__ = [
    "Chunk",
    "FileFormat",
    "Others",
    "Reject",
    "Select",
    "Small",
    "StagedFile",
    "as_text",
    "plain_lines",
    "read_chunks",
    "read_documents",
    "scratch_folder",
    "sniff",
    "stage",
]
