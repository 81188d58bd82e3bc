"""A file's rows through the very SQL that builds staging and features, in a session of their own: nothing is written."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakehouse.contracts import Column, Contracts, DatasetContract, Level, ModelContract, Rule, SchemaChanges
from lakehouse.errors import ModelError
from lakehouse.features import FeatureSource, described, feature_source, feature_views, prediction_set, relation, target_columns
from lakehouse.ingest.readers import Chunk, read_chunks, sniff
from lakehouse.ingest.validation import BAD, RowJudge
from lakehouse.learning.scoring import NUMBER
from lakehouse.privacy import install, install_subject_seal
from lakehouse.privacy import key as secret_key
from lakehouse.settings import Settings
from lakehouse.sql import quote_identifier, quote_literal
from lakehouse.tables import Lake
from lakehouse.transform import CompiledTable, compiled, prepare, raw_columns

if TYPE_CHECKING:
    import duckdb

FILE_ROWS = "__file_rows"
# The batch of rows that are in no table: greater than that of any row that is.
_BATCH = 2**62
_MOST_REJECTS = 100
_MOST_EXAMPLES = 3


@dataclass
class BrokenRule:
    """Rows that were kept although they broke a rule, with some of the values that did."""

    rule: Rule
    rows: int = 0
    examples: list[str] = field(default_factory=list[str])


@dataclass
class ReadFile:
    """What became of a file's records: FILE_ROWS holds the valid ones as raw would.

    Attributes:
        rejected: number and reason of the first records that are no rows.
        broken: rules that rows broke although they were kept.
        missing: columns of the dataset that the file does not have; of nested records nobody can say.
    """

    rows_read: int = 0
    rejected: list[tuple[int, str]] = field(default_factory=list[tuple[int, str]])
    broken: dict[str, BrokenRule] = field(default_factory=dict[str, BrokenRule])
    missing: tuple[Column, ...] = ()

    def reject(self, number: int, reason: str) -> None:
        """Remember a record that is no row; the first ones are enough."""
        if len(self.rejected) < _MOST_REJECTS:
            self.rejected.append((number, reason))


def read_file(
    con: "duckdb.DuckDBPyConnection",
    settings: Settings,
    dataset: DatasetContract,
    model: ModelContract,
    path: Path,
    *,
    now: datetime,
) -> ReadFile:
    """Read a file's rows into FILE_ROWS, typed and protected as in raw.

    The target may be missing, empty or wrong: it is not looked at. A value that is not of its type makes a record invalid;
    one that is only out of its range does not, and is counted.

    Raises:
        FileRefused: the file can't be read, or lacks required columns.
    """
    contract = _lenient(dataset, model)
    key = secret_key(settings) if contract.protected_columns else None
    judge = RowJudge(contract, key)
    if key is not None:
        install(con, key)
        if judge.seals_for_subjects:
            install_subject_seal(con, key)
    targets = target_columns(model)
    watched = [rule for rule in judge.checked if not targets.intersection(rule.columns)]
    judge.rules = tuple(rule for rule in watched if rule.level is Level.STRUCTURAL)
    judge.warnings = tuple(rule for rule in watched if rule.level is not Level.STRUCTURAL)
    shape = sniff(path, landing=contract.landing, names=[column.source for column in contract.columns])
    select = judge.select(path.name, by_path=shape.format in {"json", "ndjson"})
    origin = (
        f"{_BATCH}::BIGINT AS _batch, {quote_literal(path.name)} AS _file, {quote_literal(_sha256(path))} AS _sha256, _row,"
        f" CAST({quote_literal(now)} AS TIMESTAMPTZ) AS _ingested_at, NULL::BIGINT AS _arrival"
    )
    report = ReadFile()
    columns = ", ".join(f"{quote_identifier(column.name)} {column.stored_type}" for column in contract.columns)
    provenance = "_batch BIGINT, _file VARCHAR, _sha256 VARCHAR, _row BIGINT, _ingested_at TIMESTAMPTZ, _arrival BIGINT"
    con.execute(f"CREATE OR REPLACE TEMP TABLE {FILE_ROWS} ({columns}{', _rescued VARCHAR' if judge.rescues else ''}, {provenance})")
    pieces = read_chunks(
        con, path, select=select, file_format=shape, landing=contract.landing, columns=contract.columns, spill_dir=settings.spill_dir
    )
    with closing(pieces):
        for chunk in pieces:
            _keep(con, chunk, judge, origin, report)
    if select.matching is not None and not select.by_path:
        report.missing = tuple(column for column in select.matching.missing if column.name not in targets)
    return report


def _keep(con: "duckdb.DuckDBPyConnection", chunk: Chunk, judge: RowJudge, origin: str, report: ReadFile) -> None:
    report.rows_read += chunk.rows + len(chunk.rejects)
    for reject in chunk.rejects:
        report.reject(reject.row, f"the record {reject.reason}")
    if not chunk.rows:
        return
    con.execute(f"INSERT INTO {FILE_ROWS} BY NAME SELECT {', '.join(judge.stored())}, {origin} FROM {chunk.rows_sql} WHERE {BAD} IS NULL")
    bad = f"SELECT _row, list_transform({BAD}, lambda one: one.reason) FROM {chunk.rows_sql} WHERE {BAD} IS NOT NULL ORDER BY _row"
    for number, reasons in con.execute(f"{bad} LIMIT {_MOST_REJECTS}").fetchall():
        report.reject(number, "; ".join(reasons))
    if judge.warnings:
        counts = ", ".join(f"count(*) FILTER (WHERE {quote_identifier(f'__w{place}')})" for place in range(len(judge.warnings)))
        found = con.execute(f"SELECT {counts} FROM {chunk.rows_sql} WHERE {BAD} IS NULL").fetchone() or ()
        for place, rows in enumerate(found):
            if rows:
                rule = judge.warnings[place]
                broken = report.broken.setdefault(rule.id, BrokenRule(rule))
                broken.rows += rows
                if len(broken.examples) < _MOST_EXAMPLES:
                    broken.examples += _examples(con, chunk, judge, place)[: _MOST_EXAMPLES - len(broken.examples)]


def _examples(con: "duckdb.DuckDBPyConnection", chunk: Chunk, judge: RowJudge, place: int) -> list[str]:
    """Values that broke a warning; none of a protected column."""
    columns = judge.warnings[place].columns
    if not columns or not {column.name for column in judge.contract.protected_columns}.isdisjoint(columns):
        return []
    texts = [f"CAST({quote_identifier(column)} AS VARCHAR)" for column in columns]
    shown = (
        texts[0]
        if len(texts) == 1
        else "concat_ws(', ', "
        + ", ".join(f"{quote_literal(f'{column} ')} || {text}" for column, text in zip(columns, texts, strict=True))
        + ")"
    )
    is_broken = f"{BAD} IS NULL AND {quote_identifier(f'__w{place}')}"
    found = con.execute(f"SELECT DISTINCT {shown} AS shown FROM {chunk.rows_sql} WHERE {is_broken} ORDER BY shown LIMIT {_MOST_EXAMPLES}")
    return [str(value)[:60] for (value,) in found.fetchall() if value is not None]


def _lenient(dataset: DatasetContract, model: ModelContract) -> DatasetContract:
    """The contract for rows that are to be predicted: the target is not required, further columns do no harm."""
    targets = target_columns(model)
    columns = tuple(replace(column, required=column.required and column.name not in targets) for column in dataset.columns)
    kept = "rescue" if dataset.schema_changes.new_columns == "rescue" else "ignore"
    return replace(dataset, columns=columns, schema_changes=SchemaChanges(new_columns=kept))


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a model's tables are made: the tables its rows come from, and the SQL of each table on the way."""

    manifest: Mapping[str, Any]
    source: FeatureSource
    steps: tuple[CompiledTable, ...]


def model_recipe(settings: Settings, contracts: Contracts, model: ModelContract) -> Recipe:
    """The SQL that makes a model's rows, as dbt has it.

    Raises:
        TransformError: dbt can't compile the models.
        ModelError: no dbt model makes a table of the model.
    """
    manifest: Mapping[str, Any] = json.loads(prepare(settings, contracts).read_text("utf-8"))
    source = feature_source(model, feature_views(manifest, contracts))
    tables = _nodes(manifest)
    wanted = [model.label_table, *(view.table for view in source.views)]
    unknown = [table for table in wanted if table not in tables]
    if unknown:
        raise ModelError(f"model {model.name}", f"is made from {', '.join(unknown)}, which no dbt model makes", fix="Correct its contract")
    steps = compiled(settings, [f"+{tables[table]['name']}" for table in wanted], contracts=contracts)
    return Recipe(manifest, source, tuple(steps))


def build_rows(
    con: "duckdb.DuckDBPyConnection",
    lake: Lake,
    contracts: Contracts,
    recipe: Recipe,
    *,
    into: str,
) -> None:
    """The model's rows of everything in FILE_ROWS: a table with `_row`, the features, and NUMBER in the file's order.

    Rows that repeat a key are taken one after the other, so that each gets its own features and not those of its successor.
    Of an entity that has a history in the lake (an entity that is not the key, and an event time) the other rows take part, as
    they would if the file had arrived.

    Raises:
        ModelError: the label table can't be led back to the file's rows.
    """
    model = recipe.source.contract
    dataset = contracts.dataset(model.dataset)
    plan = _plan(lake, recipe)
    for other in plan.sources:
        _register_source(con, lake, contracts, other)
    for table in plan.standing:
        lake.register(con, table)
    key = ", ".join(_cleaned(column) for column in dataset.primary_key) or "_row"
    turns = f"SELECT _row, row_number() OVER (PARTITION BY {key} ORDER BY _row) AS turn FROM {FILE_ROWS}"
    con.execute(f"CREATE OR REPLACE TEMP TABLE __turns AS {turns}")
    found = con.execute("SELECT coalesce(max(turn), 1) FROM __turns").fetchone()
    for turn in range(1, (int(found[0]) if found else 1) + 1):
        _build_turn(con, lake, dataset, plan.built, turn)
        rows = prediction_set(described(recipe.source, con), newest_only=False, carried=("_batch", "_row"))
        piece = f"SELECT * FROM ({rows.sql}) WHERE _batch = {_BATCH}"
        con.execute(f"CREATE OR REPLACE TEMP TABLE __features AS {piece}" if turn == 1 else f"INSERT INTO __features BY NAME {piece}")
    numbered = f"SELECT row_number() OVER (ORDER BY _row) - 1 AS {NUMBER}, * FROM __features"
    con.execute(f"CREATE OR REPLACE TEMP TABLE {quote_identifier(into)} AS {numbered}")


@dataclass(frozen=True, slots=True)
class _Plan:
    """How to make a model's tables: from which raw tables, what to build, and what is in the lake and not touched by the file."""

    sources: tuple[str, ...]
    built: tuple[tuple[str, str], ...]
    standing: tuple[str, ...]


def _plan(lake: Lake, recipe: Recipe) -> _Plan:
    tables, raw = _nodes(recipe.manifest), f"raw.{recipe.source.contract.dataset}"
    upstream = {str(step.table): _sources_of(recipe.manifest, tables[str(step.table)]["unique_id"]) for step in recipe.steps}
    touched = {table for table, sources in upstream.items() if raw in sources}
    standing = tuple(table for table in upstream if table not in touched and lake.exists(table))
    built = tuple((str(step.table), step.sql) for step in recipe.steps if str(step.table) not in standing)
    needed = {source for table, _ in built for source in upstream[table]} - {raw}
    return _Plan(tuple(sorted(needed)), built, standing)


def _nodes(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The models and seeds of the project by the table they make."""
    nodes: Mapping[str, Any] = manifest["nodes"]
    return {f"{node['schema']}.{node.get('alias') or node['name']}": node for node in nodes.values() if node["resource_type"] != "test"}


def _sources_of(manifest: Mapping[str, Any], unique_id: str) -> set[str]:
    """Every raw table that a node is made from, directly or not."""
    parents: Mapping[str, Sequence[str]] = manifest["parent_map"]
    found: set[str] = set()
    seen: set[str] = set()
    waiting = [unique_id]
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        if one in manifest["sources"]:
            source = manifest["sources"][one]
            found.add(f"{source['schema']}.{source['identifier']}")
        waiting.extend(parents.get(one, ()))
    return found


def _register_source(con: "duckdb.DuckDBPyConnection", lake: Lake, contracts: Contracts, table: str) -> None:
    if lake.exists(table):
        lake.register(con, table)
        return
    layer, _, name = table.partition(".")
    columns = ", ".join(f"{quote_identifier(column)} {kind}" for column, kind in raw_columns(contracts.dataset(name)).items())
    con.execute(f"CREATE SCHEMA IF NOT EXISTS {quote_identifier(layer)}")
    con.execute(f"CREATE TABLE {relation(table)} ({columns})")


def _build_turn(
    con: "duckdb.DuckDBPyConnection", lake: Lake, dataset: DatasetContract, built: Sequence[tuple[str, str]], turn: int
) -> None:
    """Make raw of this turn's rows (and the history of their entities), then every table after it."""
    rows = f"SELECT {FILE_ROWS}.* FROM {FILE_ROWS} JOIN __turns USING (_row) WHERE turn = {turn}"
    con.execute('CREATE SCHEMA IF NOT EXISTS "raw"')
    if _has_history(dataset) and lake.exists(dataset.raw):
        entities = ", ".join(quote_identifier(column) for column in dataset.entity)
        keys = ", ".join(quote_identifier(column) for column in dataset.primary_key)
        is_known = " AND ".join(f"{quote_identifier(column)} IS NOT NULL" for column in dataset.primary_key)
        rows += (
            f" UNION ALL BY NAME SELECT * FROM ({lake.scan_sql(dataset.raw, con=con)}) AS history"
            f" WHERE ({entities}) IN (SELECT ({entities}) FROM {FILE_ROWS}) AND ({keys}) NOT IN (SELECT ({keys}) FROM {FILE_ROWS} WHERE {is_known})"
        )
    con.execute(f"CREATE OR REPLACE TABLE {relation(dataset.raw)} AS {rows}")
    for table, sql in built:
        layer = table.partition(".")[0]
        con.execute(f"CREATE SCHEMA IF NOT EXISTS {quote_identifier(layer)}")
        con.execute(f"CREATE OR REPLACE TABLE {relation(table)} AS {sql}")


def _has_history(dataset: DatasetContract) -> bool:
    return bool(dataset.entity and dataset.event_timestamp and dataset.primary_key) and set(dataset.entity) != set(dataset.primary_key)


def _cleaned(column: str) -> str:
    """A key's value as staging compares it."""
    return f"nullif(trim(CAST({quote_identifier(column)} AS VARCHAR), ' ' || chr(9) || chr(10) || chr(13)), '')"


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
