"""The tests of lakehouse.tables once more, on a real S3 server."""
