"""Contracts inferred from data, with the evidence as comments."""

from lakehouse.contracts.inference.dataset import Inferred, infer_dataset

__all__ = ["Inferred", "infer_dataset"]
