"""The Feature API over HTTP: an application to run by itself, and a router for one that has more to offer."""
