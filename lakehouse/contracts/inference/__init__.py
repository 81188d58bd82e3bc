"""Contracts inferred from data, with the evidence as comments."""

from lakehouse.contracts.inference.dataset import Inferred, infer_dataset
from lakehouse.contracts.inference.model import InferredModel, infer_model
from lakehouse.contracts.inference.naming import safe_dataset_name
from lakehouse.contracts.inference.target import Target, parse_target

__all__ = ["Inferred", "InferredModel", "Target", "infer_dataset", "infer_model", "parse_target", "safe_dataset_name"]
