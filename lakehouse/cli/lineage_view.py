"""Lineage as a tree for people."""

from rich.console import Console
from rich.markup import escape
from rich.tree import Tree

from lakehouse.observability.lineage import Lineage, Step, TableVersion


def draw(out: Console, found: Lineage) -> None:
    """Draw the versions as a tree from the table back to raw, then models, files and rows."""
    steps = {step.at: step for step in found.steps}
    tree = Tree(_label(found.root, steps.get(found.root)))
    _grow(tree, found.root, steps, {found.root})
    out.print(tree)
    for model in found.models:
        learned = f", trained on {model.training_set}" if model.training_set else ""
        out.print(f"model {model.name} version {model.version}{learned}", markup=False)
    if found.files:
        out.print(f"{len(found.files):,} files:", markup=False)
    for file in found.files[:20]:
        out.print(f"  {file.dataset} {file.file}  sha256 {file.sha256[:12]}  raw@{file.raw_version}", markup=False)
    if len(found.files) > 20:
        out.print(f"  and {len(found.files) - 20:,} more (--json lists all)")
    if found.trail is None:
        return
    out.print(f"rows of {found.key}:", markup=False)
    for rows in found.trail.tables:
        out.print(f"  {rows.table}@{rows.version}: {rows.count:,}", markup=False)
    if found.trail.without_key:
        out.print(f"  no column of this key in {', '.join(found.trail.without_key)}", markup=False, soft_wrap=True)
    out.print("lines they came from:")
    for line in found.trail.source_rows:
        note = "" if line.kept else "  (replaced by a later line)"
        out.print(f"  {line.dataset} {line.file} row {line.row}{note}", markup=False)


def _label(at: TableVersion, step: Step | None) -> str:
    when = f"  {step.committed:%Y-%m-%d %H:%M:%S}" if step else ""
    return f"{escape(str(at))}[dim]{when}[/dim]"


def _grow(tree: Tree, at: TableVersion, steps: dict[TableVersion, Step], seen: set[TableVersion]) -> None:
    step = steps.get(at)
    for one in step.inputs if step else ():
        branch = tree.add(_label(one, steps.get(one)) if one not in seen else f"{escape(str(one))} [dim](see above)[/dim]")
        if one not in seen:
            seen.add(one)
            _grow(branch, one, steps, seen)
