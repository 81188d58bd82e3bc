"""How a dataset's contract differs from what arrived, or from another version of it; and the change that accepts what arrived."""

import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lakehouse.contracts import DatasetContract, load_dataset
from lakehouse.contracts import document as documents
from lakehouse.contracts.evolution import Accepted, Arrived, Compatibility, Drift, DriftKind, accept, compare, find_drift
from lakehouse.durable import write_whole
from lakehouse.errors import ContractError, SourceError
from lakehouse.ingest.landing import landing_files
from lakehouse.ingest.readers import stage
from lakehouse.pipeline.files import expand_paths
from lakehouse.pipeline.workspace import Workspace
from lakehouse.sql import quote_identifier

_DOCUMENT = re.compile(r".+\.ya?ml", re.IGNORECASE)
_VERSION = re.compile(r"([a-z][a-z0-9_]*)@(.+)")
# Enough to recognise a column by its values.
_KNOWN_ROWS = 1_000_000


@dataclass(frozen=True, slots=True)
class DriftReport:
    """What arrived against a contract.

    Attributes:
        accepted: the contract that would accept it; None where none can, which `obstacle` explains.
        written: the file that holds the accepted contract now.
        waiting: rows in quarantine that may pass under it.
    """

    contract: DatasetContract
    file: Path
    drifts: tuple[Drift, ...]
    accepted: Accepted | None
    obstacle: str | None = None
    written: Path | None = None
    waiting: int = 0

    @property
    def next(self) -> list[str]:
        """What is to be done, in order."""
        name = self.contract.name
        if not self.drifts:
            return []
        if self.written is None:
            return [] if self.accepted is None else [f"lakehouse contract accept {name} {self.file}"]
        replay = [f"lakehouse quarantine replay {name}"] if self.waiting else []
        # Tables that are made of raw do not change their types in place.
        full = " --full" if any(drift.kind is DriftKind.RETYPED for drift in self.drifts) else ""
        return [*replay, f"lakehouse run {name}{full}"]

    def as_dict(self) -> dict[str, Any]:
        """The report as the CLI prints it under --json."""
        compatibility = self.accepted.compatibility if self.accepted else None
        return {
            "dataset": self.contract.name,
            "file": str(self.file),
            "version": self.contract.version,
            "drift": [drift.as_dict() for drift in self.drifts],
            "accepted_version": self.accepted.contract.version if self.accepted else None,
            "compatibility": compatibility.as_dict() if compatibility else None,
            "obstacle": self.obstacle,
            "written": str(self.written) if self.written else None,
            "waiting_rows": self.waiting,
            "next": self.next,
        }


def is_of_versions(subject: str, other: str | None) -> bool:
    """Whether two versions of a contract are meant, not a contract and a file of rows."""
    return any(_DOCUMENT.fullmatch(one) or _VERSION.fullmatch(one) for one in (subject, other or ""))


def diff_arrived(workspace: Workspace, name: str, file: str | None) -> DriftReport:
    """How a file differs from its dataset's contract; nothing is changed.

    Args:
        workspace: of the home.
        name: the dataset.
        file: a file, one of the newest in the landing folder by default.

    Raises:
        ContractNotFound: there is no such dataset.
        SourceError: there is no such file, or none has arrived.
        FileRefused: the file can't be read as records.
    """
    contract = workspace.contracts.dataset(name)
    path = _file(workspace, contract, file)
    drifts = _drift(workspace, contract, path)
    accepted, obstacle = None, None
    if drifts and contract.path is not None:
        try:
            accepted = accept(contract, documents.read(contract.path), drifts)
        except ContractError as error:
            obstacle = str(error)
    return DriftReport(contract, path, drifts, accepted, obstacle, waiting=_waiting(workspace, name))


def accept_arrived(workspace: Workspace, name: str, file: str | None, *, columns: Sequence[str] = ()) -> DriftReport:
    """Change a dataset's contract so that it accepts a file; the rest of its text stays as it is.

    Args:
        workspace: of the home.
        name: the dataset.
        file: as `diff_arrived`.
        columns: only what became of these, by their name in the contract or in the file; of all by default.

    Raises:
        ContractError: a column did not change, or no change of the contract can accept it.
        ContractNotFound: there is no such dataset.
        SourceError: there is no such file, or none has arrived.
        FileRefused: the file can't be read as records.
    """
    from lakehouse.transform import write_generated

    contract = workspace.contracts.dataset(name)
    path = _file(workspace, contract, file)
    drifts = _drift(workspace, contract, path)
    if columns:
        chosen = tuple(drift for drift in drifts if {drift.column, drift.found} & set(columns))
        strange = next((one for one in columns if not any(one in {drift.column, drift.found} for drift in chosen)), None)
        if strange is not None:
            raise ContractError(
                f"column {strange}",
                f"is as the contract of {name} says",
                expected=", ".join(drift.column for drift in drifts) or "nothing differs",
                fix=f"See lakehouse contract diff {name} {path}",
            )
        drifts = chosen
    if not drifts or contract.path is None:
        return DriftReport(contract, path, drifts, None, waiting=_waiting(workspace, name))
    accepted = accept(contract, documents.read(contract.path), drifts)
    write_whole(contract.path, accepted.text, mode=stat.S_IMODE(contract.path.stat().st_mode))
    fresh = Workspace(workspace.settings)
    write_generated(workspace.settings, fresh.contracts)
    return DriftReport(contract, path, drifts, accepted, written=contract.path, waiting=_waiting(workspace, name))


def compare_versions(workspace: Workspace, before: str, after: str | None) -> Compatibility:
    """Whether rows and readers of one version of a contract can live with another.

    Args:
        workspace: of the home.
        before: a file, a dataset (its contract as it is), or `dataset@version`, a version that rows were ingested under.
        after: the other; by default the contract of the same dataset as it is.

    Raises:
        ContractError: they can't be read, or are of different datasets.
        ContractNotFound: there is no such dataset or version.
    """
    old = _version(workspace, before)
    new = _version(workspace, after) if after is not None else workspace.contracts.dataset(old.name)
    if old.name != new.name:
        raise ContractError(f"{before} and {after}", "are contracts of two datasets", expected=old.name, found=new.name)
    return compare(old, new)


def _version(workspace: Workspace, named: str) -> DatasetContract:
    from lakehouse.ingest.contract_versions import recorded_contract

    if _DOCUMENT.fullmatch(named):
        return load_dataset(Path(named))
    asked = _VERSION.fullmatch(named)
    return recorded_contract(workspace.lake, asked[1], asked[2]) if asked else workspace.contracts.dataset(named)


def _file(workspace: Workspace, contract: DatasetContract, file: str | None) -> Path:
    if file is not None:
        found = expand_paths([file])
        if len(found) != 1:
            raise SourceError(file, "is several files", found=str(len(found)), fix="Give one of them")
        return found[0]
    landed = landing_files(contract, workspace.settings)
    if not landed:
        raise SourceError(
            f"dataset {contract.name}", "has no file in its landing folder", fix=f"Name one: lakehouse contract diff {contract.name} FILE"
        )
    return max(landed, key=lambda path: (path.stat().st_mtime_ns, str(path)))


def _drift(workspace: Workspace, contract: DatasetContract, path: Path) -> tuple[Drift, ...]:
    lake = workspace.lake
    is_there = lake.exists(contract.raw)
    with lake.connect([contract.raw] if is_there else ()) as session:
        staged = stage(session.con, path, landing=contract.landing, spill_dir=workspace.settings.spill_dir)
        stored = lake.schema(contract.raw) if is_there else {}
        # Pseudonyms are no values to compare with.
        known = {
            column.name: f"SELECT DISTINCT {quote_identifier(column.name)} FROM (SELECT {quote_identifier(column.name)} "
            f"FROM raw.{quote_identifier(contract.name)} LIMIT {_KNOWN_ROWS})"
            for column in contract.columns
            if column.name in stored and not column.protected
        }
        by_path = staged.file_format.format in {"json", "ndjson"}
        return find_drift(session.con, contract, Arrived(staged.relation, tuple(staged.columns), by_path, known))


def _waiting(workspace: Workspace, name: str) -> int:
    from lakehouse.ingest.waiting import Selection
    from lakehouse.pipeline.rejected import count_by_rule

    found = count_by_rule(workspace.lake, Selection(status="waiting"), dataset=name).get(name)
    return found.rows if found else 0
