"""Contracts: what the user declares about datasets and models, as typed objects, SQL and dbt sources."""

from lakehouse.contracts.catalog import load_contracts, load_folders
from lakehouse.contracts.dataset import load_dataset, parse_dataset
from lakehouse.contracts.inference import Inferred, InferredModel, infer_dataset, infer_model, parse_target, safe_dataset_name
from lakehouse.contracts.model import load_model, model_json_schema, parse_model
from lakehouse.contracts.objects import (
    Column,
    Contracts,
    DatasetContract,
    FeatureWarning,
    Landing,
    Level,
    ModelContract,
    Must,
    Pin,
    Protection,
    Reference,
    Rollout,
    Rule,
    SchemaChanges,
    Severity,
    Split,
    StatisticalRule,
)
from lakehouse.contracts.rules import found_sql, row_rules, typed_select, unique_rules
from lakehouse.contracts.types import cast_sql, plain_sql, text_sql

__all__ = [
    "Column",
    "Contracts",
    "DatasetContract",
    "FeatureWarning",
    "Inferred",
    "InferredModel",
    "Landing",
    "Level",
    "ModelContract",
    "Must",
    "Pin",
    "Protection",
    "Reference",
    "Rollout",
    "Rule",
    "SchemaChanges",
    "Severity",
    "Split",
    "StatisticalRule",
    "cast_sql",
    "found_sql",
    "infer_dataset",
    "infer_model",
    "load_contracts",
    "load_dataset",
    "load_folders",
    "load_model",
    "model_json_schema",
    "parse_dataset",
    "parse_model",
    "parse_target",
    "plain_sql",
    "row_rules",
    "safe_dataset_name",
    "text_sql",
    "typed_select",
    "unique_rules",
]
