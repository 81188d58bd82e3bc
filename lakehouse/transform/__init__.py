"""dbt on Delta: the project's models, built, tested and read by the same tables as everything else."""

from lakehouse.transform.building import BuildFailed, NodeResult, TestResult, TransformReport, build
from lakehouse.transform.compiling import CompiledTable, compiled
from lakehouse.transform.generated import write_generated
from lakehouse.transform.project import prepare
from lakehouse.transform.sources import raw_columns, source_yaml

__all__ = [
    "BuildFailed",
    "CompiledTable",
    "NodeResult",
    "TestResult",
    "TransformReport",
    "build",
    "compiled",
    "prepare",
    "raw_columns",
    "source_yaml",
    "write_generated",
]
