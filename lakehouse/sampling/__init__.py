"""Synthetic data from documented generative models: same arguments, same bytes."""

from lakehouse.sampling.commerce import commerce
from lakehouse.sampling.commits import commits
from lakehouse.sampling.files import SampleFile, SampleReport
from lakehouse.sampling.households import households

__all__ = ["SampleFile", "SampleReport", "commerce", "commits", "households"]
