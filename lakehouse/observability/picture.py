"""Lineage as a picture: one SVG, alone or in a page of its own that needs nothing else.

The data flows from left to right, in columns; a node is as far right as the longest way to it. What belongs to a node lights up
under the mouse, and a click keeps it so.
"""

from collections.abc import Mapping, Sequence
from html import escape

from lakehouse.observability.graph import Edge, Graph, Node

_WIDTH, _HEIGHT = 230, 46
_GAP_X, _GAP_Y = 90, 16
_MARGIN = 24
_MAX_FILES = 12
_COLORS = {
    "file": "#8a94a6",
    "model": "#b3541e",
    "raw": "#2f6f9f",
    "quarantine": "#a63d40",
    "staging": "#3a7d6b",
    "analytics": "#6b5ca5",
    "features": "#8f6b00",
    "models": "#b3541e",
    "monitoring": "#5f6b7a",
}
_STYLE = """
svg.lineage { font: 12px system-ui, sans-serif; background: #fff }
.lineage .node rect { fill: #fff; stroke-width: 1.5; rx: 6 }
.lineage .node.start rect { stroke-width: 3.5 }
.lineage .node text { fill: #1d2733 } .lineage .node .detail { fill: #5f6b7a; font-size: 10.5px }
.lineage .edge { fill: none; stroke: #b6bfcb; stroke-width: 1.4 }
.lineage.lit .node, .lineage.lit .edge { opacity: .13 }
.lineage.lit .on { opacity: 1 } .lineage.lit .edge.on { stroke: #1d2733; stroke-width: 2 }
"""
_SCRIPT = """
for (const svg of document.querySelectorAll('svg.lineage')) {
  const edges = [...svg.querySelectorAll('.edge')], nodes = [...svg.querySelectorAll('.node')];
  let kept = null;
  const light = id => {
    for (const one of [...edges, ...nodes]) one.classList.remove('on');
    svg.classList.toggle('lit', id !== null);
    if (id === null) return;
    for (const [from, to] of [['source', 'target'], ['target', 'source']]) {
      const seen = new Set([id]), queue = [id];
      while (queue.length) {
        const here = queue.pop();
        for (const edge of edges) if (edge.dataset[from] === here) {
          edge.classList.add('on');
          if (!seen.has(edge.dataset[to])) { seen.add(edge.dataset[to]); queue.push(edge.dataset[to]); }
        }
      }
      for (const node of nodes) if (seen.has(node.dataset.id)) node.classList.add('on');
    }
  };
  for (const node of nodes) {
    node.addEventListener('mouseenter', () => { if (kept === null) light(node.dataset.id) });
    node.addEventListener('mouseleave', () => { if (kept === null) light(null) });
    node.addEventListener('click', () => { kept = kept === node.dataset.id ? null : node.dataset.id; light(kept); });
  }
}
"""
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ margin: 0; font: 14px system-ui, sans-serif; color: #1d2733 }} h1 {{ font-size: 18px }} header, section {{ padding: 12px 24px }}
.scroll {{ overflow: auto; border-block: 1px solid #e3e7ec }} table {{ border-collapse: collapse }}
td, th {{ text-align: left; padding: 3px 18px 3px 0; vertical-align: top; overflow-wrap: anywhere }} th {{ color: #5f6b7a; font-weight: 500 }}
tr:target {{ background: #fff3c4 }} a {{ color: inherit }}
</style></head><body><header><h1>{title}</h1>{summary}</header><div class="scroll">{svg}</div>
<section><table><thead><tr><th>name</th><th>versions</th><th>runs</th><th>last</th></tr></thead><tbody>
{rows}
</tbody></table></section><script>{script}</script></body></html>
"""


def svg(graph: Graph) -> str:
    """The picture; it needs no script to be read."""
    nodes, edges = _gathered(graph)
    places = _places(nodes, edges)
    width = _MARGIN * 2 + max((x for x, _ in places.values()), default=0) + _WIDTH
    height = _MARGIN * 2 + max((y for _, y in places.values()), default=0) + _HEIGHT
    drawn = [_edge(edge, places) for edge in edges] + [_node(node, places[node.id]) for node in nodes]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="lineage" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="img"><title>Lineage of {escape(graph.asked)}</title><style>{_STYLE}</style>{"".join(drawn)}</svg>'
    )


def page(graph: Graph) -> str:
    """The picture in a page of its own, with a table of everything in it."""
    nodes = [node for node in graph.nodes]
    tables = sum(node.kind == "table" for node in nodes)
    files = sum(node.kind == "file" for node in nodes)
    models = sum(node.kind == "model" for node in nodes)
    what = {"up": "what it came from", "down": "what came of it", "both": "what it came from, and what came of it"}[graph.direction]
    rows = "\n".join(
        f'<tr id="{escape(_anchor(node.id))}"><td>{escape(node.name)}</td><td>{escape(_ranges(node.versions))}</td>'
        f"<td>{escape(_short(node.runs, 4))}</td><td>{escape(node.detail)}</td></tr>"
        for node in nodes
    )
    return _PAGE.format(
        title=f"Lineage of {escape(graph.asked)}",
        summary=f"{what}: {tables:,} tables, {files:,} files, {models:,} models",
        svg=svg(graph),
        rows=rows,
        script=_SCRIPT,
    )


def _gathered(graph: Graph) -> tuple[list[Node], list[Edge]]:
    """The graph as it is drawn: many files of one table are one node."""
    targets: dict[str, set[str]] = {}
    for edge in graph.edges:
        targets.setdefault(edge.source, set()).add(edge.target)
    groups: dict[tuple[str, ...], list[Node]] = {}
    for node in graph.nodes:
        if node.kind == "file" and not node.is_start:
            groups.setdefault(tuple(sorted(targets.get(node.id, ()))), []).append(node)
    instead: dict[str, str] = {}
    nodes: list[Node] = []
    for members in groups.values():
        if len(members) > _MAX_FILES:
            together = Node(f"files:{members[0].id}", "file", f"{len(members):,} files", detail=f"{members[0].name} ... {members[-1].name}")
            nodes.append(together)
            instead |= {member.id: together.id for member in members}
    nodes += [node for node in graph.nodes if node.id not in instead]
    edges = {Edge(instead.get(edge.source, edge.source), instead.get(edge.target, edge.target)) for edge in graph.edges}
    return nodes, sorted(edges)


def _places(nodes: Sequence[Node], edges: Sequence[Edge]) -> dict[str, tuple[int, int]]:
    """Left upper corners: the column is the longest way to a node, the order in it that of its neighbours on the left."""
    columns = {node.id: 0 for node in nodes}
    for _ in nodes:
        moved = False
        for edge in edges:
            if columns[edge.target] <= columns[edge.source] < len(nodes) and edge.source != edge.target:
                columns[edge.target] = columns[edge.source] + 1
                moved = True
        if not moved:
            break
    # What has a single reader stands beside it, not at the far left.
    for node in reversed(nodes):
        ends = [columns[edge.target] for edge in edges if edge.source == node.id]
        if ends and not any(edge.target == node.id for edge in edges):
            columns[node.id] = max(0, min(ends) - 1)
    used = {column: place for place, column in enumerate(sorted(set(columns.values())))}
    rank: dict[str, float] = {}
    places: dict[str, tuple[int, int]] = {}
    for column in sorted(used):
        members = [node.id for node in nodes if columns[node.id] == column]
        before = {one: [rank[edge.source] for edge in edges if edge.target == one and edge.source in rank] for one in members}
        members.sort(key=lambda one: (sum(before[one]) / len(before[one]) if before[one] else 0.0, one))
        for place, one in enumerate(members):
            rank[one] = place - (len(members) - 1) / 2
            places[one] = (used[column] * (_WIDTH + _GAP_X), place * (_HEIGHT + _GAP_Y))
    tallest = max((y for _, y in places.values()), default=0)
    heights = {x: max(y for left, y in places.values() if left == x) for x in {x for x, _ in places.values()}}
    return {one: (_MARGIN + x, _MARGIN + y + (tallest - heights[x]) // 2) for one, (x, y) in places.items()}


def _edge(edge: Edge, places: Mapping[str, tuple[int, int]]) -> str:
    (left, top), (right, bottom) = places[edge.source], places[edge.target]
    x, y, to_x, to_y = left + _WIDTH, top + _HEIGHT // 2, right, bottom + _HEIGHT // 2
    bend = max(40, abs(to_x - x) // 2)
    return (
        f'<path class="edge" data-source="{escape(edge.source)}" data-target="{escape(edge.target)}" '
        f'd="M{x},{y} C{x + bend},{y} {to_x - bend},{to_y} {to_x},{to_y}"/>'
    )


def _node(node: Node, place: tuple[int, int]) -> str:
    x, y = place
    kind = node.name.partition(".")[0] if node.kind == "table" else node.kind
    color = _COLORS.get(kind, "#5f6b7a")
    versions = f" @{_ranges(node.versions)}" if node.versions else ""
    told = "\n".join(one for one in (node.name + versions, node.detail, f"runs: {_short(node.runs, 6)}" if node.runs else "") if one)
    start = " start" if node.is_start else ""
    return (
        f'<a href="#{escape(_anchor(node.id))}"><g class="node{start}" data-id="{escape(node.id)}"><title>{escape(told)}</title>'
        f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" stroke="{color}"/>'
        f'<rect x="{x}" y="{y}" width="7" height="{_HEIGHT}" fill="{color}" stroke="{color}" style="fill:{color}"/>'
        f'<text x="{x + 16}" y="{y + 19}">{escape(_cut(node.name, 32))}</text>'
        f'<text class="detail" x="{x + 16}" y="{y + 35}">{escape(_cut((versions.strip() + "  " + node.detail).strip(), 38))}</text></g></a>'
    )


def _anchor(node: str) -> str:
    return "".join(one if one.isalnum() else "-" for one in node)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[: length - 1]}\u2026"


def _short(names: Sequence[str], count: int) -> str:
    return ", ".join(names[:count]) + (f" and {len(names) - count:,} more" if len(names) > count else "")


def _ranges(versions: Sequence[int]) -> str:
    """Versions as ranges, the newest few: 0-3, 7."""
    found: list[list[int]] = []
    for version in versions:
        if found and found[-1][1] == version - 1:
            found[-1][1] = version
        else:
            found.append([version, version])
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in found]
    return ", ".join(texts[-4:]) if len(texts) <= 4 else f"... {', '.join(texts[-4:])}"
