"""Lineage forwards and backwards over real commits, and its picture."""

from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from lakehouse.errors import TableNotFound
from lakehouse.observability.graph import Edge, Graph, Node, follow
from lakehouse.observability.picture import page, svg
from lakehouse.tables import Lake, Stamp


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "tables", memory_limit="500MB", threads=2, spill_dir=tmp_path / "spill")


@pytest.fixture
def write(lake: Lake) -> Callable[..., int]:
    def run(table: str, sql: str = "SELECT 1 AS id", *, inputs: dict[str, int] | None = None, run: str = "r", file: str = "") -> int:
        entry = {"file": file, "sha256": file.encode().hex().ljust(64, "0"), "rows_accepted": 1, "rows_quarantined": 0}
        stamp = Stamp(table, run, inputs or {}, "c", {"batch": 1, "files": [entry]} if file else None)
        con = lake.open_connection()
        try:
            return lake.append(con, table, sql, stamp=stamp).version
        finally:
            con.close()

    return run


@pytest.fixture
def chain(lake: Lake, write: Callable[..., int]) -> Lake:
    """Three files into raw; staging from the first two; features, training set, model 1, predictions; one table of its own."""
    for number in range(3):
        write("raw.a", file=f"{number}.csv", run=f"run-{number}")
    write("staging.a", inputs={"raw.a": 1}, run="build")
    write("features.a", inputs={"staging.a": 0}, run="build")
    write("models.m_training_set", inputs={"features.a": 0})
    write("models.registry_events", "SELECT 'm' AS model, '1' AS version, 0::BIGINT AS training_set_version")
    write("models.m_predictions", "SELECT 1 AS id, 'm' AS model_name, '1' AS model_version", inputs={"features.a": 0})
    write("raw.other", file="x.csv")
    return lake


def names(graph: Graph) -> set[str]:
    return {node.name for node in graph.nodes}


MADE = {"staging.a", "features.a", "models.m_training_set", "m version 1", "models.m_predictions"}


def test_a_file_leads_to_everything_made_of_it(chain: Lake) -> None:
    assert names(follow(chain, "1.csv", direction="down")) == {"1.csv", "raw.a", *MADE}
    assert names(follow(chain, b"1.csv".hex().ljust(64, "0")[:10])) == {"1.csv", "raw.a", *MADE}
    # The third came after staging was made.
    assert names(follow(chain, "2.csv", direction="down")) == {"2.csv", "raw.a"}


def test_predictions_lead_back_to_the_files(chain: Lake) -> None:
    graph = follow(chain, "models.m_predictions", direction="up")
    assert names(graph) == {"0.csv", "1.csv", "raw.a", *MADE}
    assert Edge("table:models.m_training_set", "model:m@1") in graph.edges
    place = {node.id: number for number, node in enumerate(graph.nodes)}
    assert all(place[edge.source] < place[edge.target] for edge in graph.edges)
    assert [node.name for node in graph.nodes if node.is_start] == ["models.m_predictions"]


def test_a_run_a_model_and_a_version_are_places_to_start(chain: Lake) -> None:
    assert {node.name for node in follow(chain, "build").nodes if node.is_start} == {"staging.a", "features.a"}
    assert names(follow(chain, "m@1", direction="down")) == {"m version 1", "models.m_predictions"}
    assert {"0.csv", "models.m_predictions"} < names(follow(chain, "m"))
    assert names(follow(chain, "raw.a@2", direction="down")) == {"raw.a"}
    assert names(follow(chain, "raw.a@0", direction="down")) == {"raw.a", *MADE}
    for missing in ("m@7", "nothing.csv", "raw.nothing", "abcdef12"):
        with pytest.raises(TableNotFound, match="is no table, file, run or model"):
            follow(chain, missing)


def test_what_a_restore_took_away_leads_nowhere(chain: Lake, write: Callable[..., int]) -> None:
    restored = chain.restore("raw.a", 0, stamp=Stamp("raw.a", "undo")).version
    write("analytics.later", inputs={"raw.a": restored})
    assert "analytics.later" not in names(follow(chain, "1.csv", direction="down"))
    assert "analytics.later" in names(follow(chain, "0.csv", direction="down"))
    assert names(follow(chain, "analytics.later", direction="up")) == {"0.csv", "raw.a", "analytics.later"}
    assert "undone" in next(node.detail for node in follow(chain, "1.csv").nodes if node.is_start)


def test_the_picture_is_well_formed_whatever_names_are_in_it(chain: Lake) -> None:
    odd = Node("file:1", "file", "<script>alert('x')</script> & \"q\".csv", is_start=True)
    graph = Graph("a<b>&", "both", (odd, Node("table:raw.a", "table", "raw.a", (0, 1, 2, 7))), (Edge("file:1", "table:raw.a"),))
    for made in (graph, follow(chain, "models.m_predictions"), Graph("none", "up", (), ())):
        ET.fromstring(svg(made))  # noqa: S314 - our own.
        assert "http://" not in page(made).replace("http://www.w3.org/2000/svg", "")
    assert "<script>alert" not in page(graph)
    assert "0-2, 7" in svg(graph)


def test_many_files_of_a_table_are_drawn_as_one() -> None:
    files = [Node(f"file:{number}", "file", f"{number:03d}.csv") for number in range(116)]
    edges = tuple(Edge(file.id, "table:raw.a") for file in files)
    drawn = svg(Graph("raw.a", "up", (*files, Node("table:raw.a", "table", "raw.a")), edges))
    assert "116 files" in drawn
    assert drawn.count('class="edge"') == 1
