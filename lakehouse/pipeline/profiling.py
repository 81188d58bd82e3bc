"""What a person asks to be profiled: a table, or a file that is no table yet."""

import re
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from lakehouse.contracts import Column, DatasetContract, infer_dataset
from lakehouse.contracts.matching import match_columns
from lakehouse.errors import SourceError
from lakehouse.ingest.readers import StagedFile, stage
from lakehouse.ingest.validation import BAD, RowJudge, check_columns
from lakehouse.monitoring import profile_table
from lakehouse.pipeline.add import name_from_file
from lakehouse.pipeline.files import expand_paths
from lakehouse.pipeline.workspace import Workspace
from lakehouse.quality.profile import Count, Profile, Subject, build_profile
from lakehouse.sql import quote_identifier

if TYPE_CHECKING:
    import duckdb

_TABLE = re.compile(r"[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*")
_TYPED = "lakehouse_profiled"
_TYPE_RULE = ".type"


@dataclass(frozen=True, slots=True)
class Profiled:
    """A profile, and whether it was there already."""

    profile: Profile
    cached: bool


def profile(
    workspace: Workspace,
    subject: str,
    *,
    run: str,
    now: datetime,
    version: int | datetime | None = None,
    target: str | None = None,
    dataset: str | None = None,
) -> Profiled:
    """Profile a table or a file.

    Args:
        workspace: of the home.
        subject: `layer.name`, or the path of a file in any format that can be ingested.
        run: who asks.
        now: what the timeliness is judged by.
        version: of a table, or the instant at which it was current.
        target: a column to look at as the one to be predicted.
        dataset: whose contract types a file; without one its types are inferred as `lakehouse add` does.

    Raises:
        TableNotFound: it is written like a table, but there is none, nor a file of that name.
        SourceError: there is no such file, or a version of a file is asked for.
        FileRefused: the file can't be read.
        ContractError: the target is no column.
    """
    if _TABLE.fullmatch(subject) and (workspace.lake.exists(subject) or not Path(subject).exists()):
        if dataset is not None:
            raise SourceError(f"--dataset {dataset}", "is for files", found=subject, fix="A table is profiled by its own contract")
        found = profile_table(workspace.lake, workspace.contracts, subject, run=run, now=now, version=version, target=target)
        return Profiled(found.profile, found.cached)
    if version is not None:
        raise SourceError(subject, "is a file: it has no versions", fix="Leave out --version and --as-of, or name a table")
    paths = expand_paths([subject])
    if len(paths) != 1:
        raise SourceError(subject, "is several files", found=f"{len(paths)}", fix="Profile one, or add them and profile the table")
    contract = workspace.contracts.dataset(dataset) if dataset is not None else None
    [path] = paths
    return Profiled(profile_file(workspace, path, contract=contract, target=target, now=now), False)


def profile_file(workspace: Workspace, path: Path, *, contract: DatasetContract | None, target: str | None, now: datetime) -> Profile:
    """The profile of a file, its columns called as the file calls them; nothing is written.

    Raises:
        FileRefused: it can't be read, or lacks columns that the contract requires.
        ContractError: the target is no column.
    """
    con = workspace.lake.open_connection()
    try:
        spill = workspace.settings.spill_dir
        landing, columns = (contract.landing, contract.columns) if contract else (None, None)
        staged = stage(con, path, landing=landing, columns=columns, spill_dir=spill)
        known = contract if contract is not None else _inferred(con, path, staged, target)
        judged = _judged(con, path, staged, known)
        return build_profile(con, quote_identifier(_TYPED), replace(judged, target=target), now=now)
    finally:
        con.close()


def _inferred(con: "duckdb.DuckDBPyConnection", path: Path, staged: StagedFile, target: str | None) -> DatasetContract:
    wanted = target if target in staged.columns else None
    return infer_dataset(con, staged.relation, name=name_from_file(path), source=path.name, target=wanted).contract


def _judged(con: "duckdb.DuckDBPyConnection", path: Path, staged: StagedFile, contract: DatasetContract) -> Subject:
    """The file's rows typed by the contract, as a table `_TYPED`, and what is known of them besides."""
    judge = RowJudge(contract, None)
    matching = match_columns(contract, staged.columns)
    by_path = staged.file_format.format in {"json", "ndjson"}
    check_columns(path.name, contract, matching, by_path=by_path)
    sources = {column.name: matching.found.get(column.name, column.source) for column in contract.columns}
    listed = ", ".join(f"{quote_identifier(column.name)} AS {quote_identifier(sources[column.name])}" for column in contract.columns)
    bad = quote_identifier("lakehouse broken")
    select = judge.sql(matching, staged.columns, quote_identifier(staged.relation), has_row=True)
    con.execute(
        f"CREATE TEMP TABLE {quote_identifier(_TYPED)} AS SELECT {listed}, "
        f"list_transform({BAD}, lambda one: one.rule) AS {bad}, list_transform({BAD}, lambda one: one.reason) AS reasons FROM ({select})"
    )
    name = quote_identifier(_TYPED)
    rules = f"SELECT unnest({bad}) AS rule, unnest(reasons) AS reason FROM {name} WHERE {bad} IS NOT NULL"
    broken = con.execute(f"SELECT rule, count(*), min(reason) FROM ({rules}) GROUP BY rule").fetchall()
    good = con.execute(f"SELECT count(*) FROM {name} WHERE {bad} IS NULL").fetchone()
    con.execute(f"ALTER TABLE {name} DROP {bad}")
    con.execute(f"ALTER TABLE {name} DROP reasons")
    misfits = {
        sources[rule.removesuffix(_TYPE_RULE)]: Count(str(reason), int(count))
        for rule, count, reason in broken
        if rule.endswith(_TYPE_RULE) and rule.removesuffix(_TYPE_RULE) in sources
    }
    return Subject(
        name=path.name,
        source="file",
        contract=_named_as_in_file(contract, sources),
        misfits=misfits,
        rows_read=staged.rows_read or None,
        rows_accepted=int(good[0]) if good else 0,
        is_judged=True,
        facts={"format": staged.file_format.format, "encoding": staged.file_format.encoding, "size_bytes": path.stat().st_size},
    )


def _named_as_in_file(contract: DatasetContract, sources: dict[str, str]) -> DatasetContract:
    """The contract with the file's own names: its owner knows no others. Its rules have been asked already."""
    columns = tuple(_renamed(column, sources[column.name]) for column in contract.columns)
    return replace(contract, columns=columns, primary_key=tuple(sources[name] for name in contract.primary_key), rules=())


def _renamed(column: Column, name: str) -> Column:
    return replace(column, name=name)
