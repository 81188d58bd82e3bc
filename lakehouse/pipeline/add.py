"""From a stranger's files to contracts: sniff, infer, write, land; the next run does the rest."""

import difflib
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakehouse.errors import ContractError, FileRefused
from lakehouse.pipeline.events import Progress, counted, unwatched
from lakehouse.pipeline.files import expand_paths
from lakehouse.pipeline.given_key import check_given_key
from lakehouse.pipeline.landing import Landed, land
from lakehouse.pipeline.workspace import Workspace
from lakehouse.sql import quote_identifier
from lakehouse.tables import Session

if TYPE_CHECKING:
    from lakehouse.contracts import DatasetContract, Landing, ModelContract
    from lakehouse.ingest.readers import StagedFile

_NAME = re.compile(r"[a-z][a-z0-9_]*")
# Inference looks at every file where that is cheap, else at files from the whole range.
_INFERRED_FILES = 40
_INFERRED_BYTES = 2 * 1024**3


@dataclass(frozen=True, slots=True)
class AddRequest:
    """What the user said: where the files are, and whatever inference is not to guess."""

    paths: Sequence[str]
    name: str | None = None
    target: str | None = None
    key: Sequence[str] = ()
    entity: Sequence[str] = ()
    event_time: str | None = None
    replace: bool = False


@dataclass(frozen=True, slots=True)
class AddReport:
    """What was inferred and written."""

    dataset: "DatasetContract"
    model: "ModelContract | None"
    written: tuple[Path, ...]
    landed: tuple[Landed, ...]
    rows_seen: int
    files_seen: int
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The document that `lakehouse add --json` prints."""
        contract, model = self.dataset, self.model
        return {
            "dataset": contract.name,
            "model": model.name if model else None,
            "written": [str(path) for path in self.written],
            "landed": [{"path": str(one.path), "sha256": one.sha256, "copied": one.copied} for one in self.landed],
            "inferred": {
                "files": self.files_seen,
                "rows": self.rows_seen,
                "primary_key": list(contract.primary_key),
                "entity": list(contract.entity),
                "event_time": contract.event_timestamp,
                "columns": [
                    {
                        "name": column.name,
                        "type": column.sql_type,
                        "required": column.required,
                        "classification": column.classification,
                        "protection": column.protection,
                    }
                    for column in contract.columns
                ],
                "problem": model.problem if model else None,
                "target": model.target if model else None,
                "positive_class": model.positive_class if model else None,
                "split": model.split.strategy if model else None,
                "excluded": list(model.exclude_features) if model else [],
            },
            "warnings": list(self.warnings),
            "next": f"lakehouse run {contract.name}",
        }


@dataclass(frozen=True, slots=True)
class _Seen:
    """The files that inference looks at, as one relation."""

    relation: str
    rows: int
    files: int
    landing: "Landing"
    parts: "tuple[tuple[Path, StagedFile], ...]"
    bad_share: float


def add(workspace: Workspace, request: AddRequest, *, progress: Progress = unwatched) -> AddReport:
    """Infer contracts from files, write them into the home, and land the files.

    Raises:
        ContractError: the name is taken or not a name, a named column does not exist, or the key does not tell rows apart.
        FileRefused: a file can't be read, or the files have different columns.
        SourceError: a path does not exist.
    """
    from lakehouse.contracts import infer_dataset, infer_model
    from lakehouse.transform import write_generated

    settings = workspace.settings
    files = expand_paths(request.paths)
    name = _checked_name(request.name, files[0])
    targets = [settings.home_dir / "contracts" / "datasets" / f"{name}.odcs.yaml"]
    if request.target:
        targets.append(settings.home_dir / "contracts" / "models" / f"{name}.yaml")
    _check_free(workspace, name, targets, replace=request.replace)
    with workspace.lake.connect(()) as session:
        seen = _stage(session, files, progress)
        _check_columns(session, seen.relation, request)
        inferred = infer_dataset(
            session.con,
            seen.relation,
            name=name,
            landing=seen.landing,
            target=request.target,
            bad_share=seen.bad_share,
            source=files[0].name if len(files) == 1 else f"{files[0].name} and {len(files) - 1} more",
            **_told(request),
        )
        warnings = check_given_key(session.con, inferred.contract, seen.parts) if request.key else []
        texts = [inferred.text]
        model = None
        if request.target:
            if seen.rows == 0:
                raise FileRefused(str(files[0]), "holds no row to learn from", fix="Give a file with data, or leave out --target")
            inferred_model = infer_model(
                session.con, seen.relation, inferred.contract, target=request.target, name=name, feature_views=(f"{name}_features",)
            )
            texts.append(inferred_model.text)
            model = inferred_model.contract
            warnings += inferred_model.warnings
    landed = land(settings, name, files)
    _write_all(targets, texts)
    # dbt parses them when it next builds.
    write_generated(settings, _reloaded(workspace))
    return AddReport(
        dataset=inferred.contract,
        model=model,
        written=tuple(targets),
        landed=tuple(landed),
        rows_seen=seen.rows,
        files_seen=seen.files,
        warnings=tuple(warnings),
    )


def name_from_file(path: Path) -> str:
    """A dataset name made from a file's name, without its endings."""
    stem = path.name
    while "." in stem:
        stem = stem.rpartition(".")[0] or stem.lstrip(".")
    name = re.sub(r"[^a-z0-9]+", "_", stem.lower()).strip("_")
    return name if name[:1].isalpha() else f"data_{name}".rstrip("_")


def _told(request: AddRequest) -> dict[str, Any]:
    """What the user said about columns; inference decides the rest."""
    told = {"primary_key": tuple(request.key), "entity": tuple(request.entity), "event_timestamp": request.event_time}
    return {name: value for name, value in told.items() if value}


def _reloaded(workspace: Workspace) -> Any:
    return Workspace(workspace.settings).contracts


def _checked_name(given: str | None, first: Path) -> str:
    name = given or name_from_file(first)
    if not _NAME.fullmatch(name):
        proposal = name_from_file(Path(name))
        raise ContractError(
            f"name {name!r}",
            "can't be the name of a dataset",
            expected="lower case letters, digits and underscores, starting with a letter",
            fix=f"Use --name {proposal}",
        )
    return name


def _check_free(workspace: Workspace, name: str, targets: Sequence[Path], *, replace: bool) -> None:
    contracts = workspace.contracts
    taken = [one for one in (contracts.datasets.get(name), contracts.models.get(name)) if one is not None]
    for contract in taken:
        if contract.path is None or contract.path not in targets:
            raise ContractError(f"name {name}", "is taken", found=str(contract.path), fix="Choose another with --name")
        if not replace:
            raise ContractError(
                f"name {name}", "is taken", found=str(contract.path), fix="Choose another with --name, or write it again with --replace"
            )


def _stage(session: Session, files: Sequence[Path], progress: Progress) -> _Seen:
    """Read the files that inference looks at into one relation of text columns."""
    from lakehouse.ingest.readers import stage

    chosen = _chosen(files)
    staged: list[StagedFile] = []
    with counted(progress, "read", chosen[0].name if len(chosen) == 1 else f"{len(chosen)} files", total=len(chosen)) as advance:
        for file in chosen:
            staged.append(stage(session.con, file))
            advance(1)
    _check_agreement(chosen, staged)
    # A header alone says which columns there are; their types are text then.
    readable = [one for one in staged if one.rows_read] or staged[:1]
    relation = "lakehouse_added"
    selects = " UNION ALL BY NAME ".join(f"SELECT * FROM {quote_identifier(one.relation)}" for one in readable)
    session.con.execute(f"CREATE OR REPLACE VIEW {quote_identifier(relation)} AS {selects}")
    return _Seen(
        relation=relation,
        rows=sum(one.rows_read for one in readable),
        files=len(readable),
        landing=_landing(readable),
        parts=tuple((file, one) for file, one in zip(chosen, staged, strict=True) if one.rows_read),
        bad_share=max((_rejected(session, one) / one.rows_read for one in staged if one.rows_read), default=0.0),
    )


def _rejected(session: Session, staged: "StagedFile") -> int:
    """Records of a file that are none."""
    found = session.con.execute(f"SELECT count(*) FROM {quote_identifier(staged.rejects_relation)}").fetchone()
    return int(found[0]) if found else 0


def _chosen(files: Sequence[Path]) -> list[Path]:
    """Every file when they are few and small, else evenly spaced ones, always with the first and the last."""
    total = 0
    for index, file in enumerate(files):
        total += file.stat().st_size
        if index >= _INFERRED_FILES or total > _INFERRED_BYTES:
            break
    else:
        return list(files)
    count = min(len(files), _INFERRED_FILES if total <= _INFERRED_BYTES else 2)
    picked = {round(index * (len(files) - 1) / max(count - 1, 1)) for index in range(count)}
    return [files[index] for index in sorted(picked)]


def _check_agreement(files: Sequence[Path], staged: "Sequence[StagedFile]") -> None:
    """Files of one dataset share at least half of their columns with the first; anything less is two datasets."""
    filled = [(file, set(one.columns)) for file, one in zip(files, staged, strict=True) if one.rows_read]
    for file, columns in filled[1:]:
        first, expected = filled[0]
        if len(columns & expected) * 2 < max(len(columns), len(expected)):
            raise FileRefused(
                str(file),
                f"has other columns than {first.name}",
                expected=", ".join(sorted(expected - columns)[:8]),
                found=", ".join(sorted(columns - expected)[:8]),
                fix="Add files of different kinds as datasets of their own",
            )


def _check_columns(session: Session, relation: str, request: AddRequest) -> None:
    """Every column that the user named exists; a target may also be SQL over columns."""
    described = session.con.execute(f"DESCRIBE {quote_identifier(relation)}").fetchall()
    columns = [str(row[0]) for row in described]
    named = [*request.key, *request.entity, *([request.event_time] if request.event_time else [])]
    if request.target and re.fullmatch(r"\w+", request.target):
        named.append(request.target)
    for name in named:
        if not any(_is_called(column, name) for column in columns):
            close = difflib.get_close_matches(name, columns, n=1)
            hint = f"Did you mean {close[0]}?" if close else "Name one of the file's columns"
            raise ContractError(
                f"column {name}", "is not in the file", expected=", ".join(c for c in columns if not c.startswith("_")), fix=hint
            )
    target = request.target and next((column for column in columns if _is_called(column, request.target)), None)
    for what, names in (("key", request.key), ("entity", request.entity)):
        if target and any(_is_called(target, name) for name in names):
            raise ContractError(
                f"target {request.target}",
                f"is also the {what}: what tells rows apart can't be predicted",
                fix=f"Predict another column, or name another {what}",
            )


def _is_called(column: str, name: str) -> bool:
    """Whether the user means the column: by its name in the file or in the contract, whatever the case."""
    return name.lower() in {column.lower(), name_from_file(Path(column))}


def _write_all(targets: Sequence[Path], texts: Sequence[str]) -> None:
    """Write every contract or none."""
    drafts: list[Path] = []
    try:
        for target, text in zip(targets, texts, strict=True):
            target.parent.mkdir(parents=True, exist_ok=True)
            draft = target.with_name(f".{target.name}.{os.getpid()}.tmp")
            drafts.append(draft)
            draft.write_text(text, encoding="utf-8")
        for draft, target in zip(drafts, targets, strict=True):
            draft.replace(target)
    finally:
        for draft in drafts:
            with suppress(OSError):
                draft.unlink()


def _landing(staged: "Sequence[StagedFile]") -> "Landing":
    """How the files look, as the contract writes it down; what differs between them is left for the reader to find out."""
    from lakehouse.contracts import Landing

    seen = [one.file_format for one in staged]
    first = seen[0]
    if any(one.format != first.format for one in seen):
        return Landing(encodings=tuple(dict.fromkeys(one.encoding for one in seen)))
    is_csv = first.format == "csv"
    same_text = all((one.delimiter, one.quote, one.header) == (first.delimiter, first.quote, first.header) for one in seen)
    return Landing(
        format=first.format,
        encodings=tuple(dict.fromkeys(one.encoding for one in seen)),
        delimiter=first.delimiter if is_csv and same_text else None,
        quote=first.quote if is_csv and same_text else None,
        header=first.header if is_csv and same_text else None,
        sheet=first.sheet,
        skip_rows=first.skip_lines if all(one.skip_lines == first.skip_lines for one in seen) else 0,
    )
