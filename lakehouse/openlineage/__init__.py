"""OpenLineage events of what the lakehouse does, to a file or an HTTP endpoint that the settings name; nothing without them."""

from lakehouse.openlineage.emitter import Job, job
from lakehouse.openlineage.facets import Assertion

__all__ = ["Assertion", "Job", "job"]
