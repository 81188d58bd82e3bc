"""Lineage as a tree for people."""

from rich.console import Console
from rich.markup import escape
from rich.tree import Tree

from lakehouse.observability.graph import Graph
from lakehouse.observability.lineage import Lineage, Step, TableVersion
from lakehouse.observability.rows import RowTrail

_SHOWN_FILES = 20


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
    if found.trail is not None:
        out.print(f"rows of {found.key}:", markup=False)
        draw_trail(out, found.trail)


def draw_trail(out: Console, trail: RowTrail) -> None:
    """List how many rows of a key are in each table, and the lines of the files."""
    for rows in trail.tables:
        out.print(f"  {rows.table}@{rows.version}: {rows.count:,}", markup=False)
    if trail.without_key:
        out.print(f"  no column of this key in {', '.join(trail.without_key)}", markup=False, soft_wrap=True)
    if trail.source_rows:
        out.print("lines they came from:")
    for line in trail.source_rows:
        note = "" if line.kept else "  (replaced by a later line)"
        out.print(f"  {line.dataset} {line.file} row {line.row}{note}", markup=False)


def draw_graph(out: Console, graph: Graph) -> None:
    """List the nodes in the order of the data's flow, each with what it was made from."""
    names = {node.id: node.name for node in graph.nodes}
    sources: dict[str, list[str]] = {}
    for edge in graph.edges:
        sources.setdefault(edge.target, []).append(names[edge.source])
    files = [node for node in graph.nodes if node.kind == "file" and not node.is_start]
    for node in graph.nodes:
        if node in files:
            continue
        made = [name for name in sources.get(node.id, ()) if name not in {file.name for file in files}]
        count = len(sources.get(node.id, ())) - len(made)
        made += [f"{count:,} files"] if count else []
        versions = f"@{','.join(map(str, node.versions[-5:]))}" if node.versions else ""
        came = f"  from {', '.join(made)}" if made else ""
        mark = "* " if node.is_start else "  "
        out.print(f"{mark}{node.kind} {node.name}{versions}  {node.detail}{came}", markup=False, soft_wrap=True)
    for file in files[:_SHOWN_FILES]:
        out.print(f"  file {file.name}  sha256 {file.id.partition(':')[2][:12]}  {file.detail}", markup=False, soft_wrap=True)
    if len(files) > _SHOWN_FILES:
        out.print(f"  and {len(files) - _SHOWN_FILES:,} more files (--json lists all)")


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
