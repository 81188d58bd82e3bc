"""Tests of ingestion once more, with the tables on a real S3 server."""
