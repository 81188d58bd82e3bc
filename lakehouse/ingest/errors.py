"""What stops an attempt to ingest, inside this package only."""


class Superseded(Exception):
    """Another process committed a batch first: what is new must be looked at again."""
