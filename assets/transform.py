"""dbt models as assets: one step per domain, so that a domain whose data is bad does not stop the others."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from json import loads
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings

from assets.metadata import data_version, table_metadata
from assets.naming import asset_key, owners, slug
from lakehouse.contracts import Contracts
from lakehouse.pipeline.workspace import Workspace

if TYPE_CHECKING:
    from lakehouse.tables import Lake
    from lakehouse.transform import NodeResult, TestResult

_ASSET_TYPES = ("model", "seed", "snapshot")
_REFERENCE = re.compile(r"(?:ref|source)\(([^)]*)\)")
_UNIQUE_ID = "dagster_dbt/unique_id"
_Props = Mapping[str, Any]


def table_of(props: _Props) -> str:
    """The table a dbt model, seed, snapshot or source is, written `layer.table`."""
    name = props["identifier"] if props["resource_type"] == "source" else (props.get("alias") or props["name"])
    return f"{props['schema']}.{name}"


def domains_of(manifest: _Props, contracts: Contracts) -> dict[str, str]:
    """The domain of every node that is a table, by unique id.

    A source has its contract's domain. A model, seed or snapshot has the one it names itself (`meta.domain` or a dbt group),
    else that of the first parent, else of the first child: a new model lands in the right group without being told.
    """
    tables = sorted(node for node in [*manifest["sources"], *manifest["nodes"]] if _is_table(manifest, node))
    domains = {node: own for node in tables if (own := _own_domain(_props(manifest, node), contracts))}
    # Parents first, so that what is inherited flows down; only what has no parent (a seed) asks its children.
    for related in (manifest["parent_map"], manifest["child_map"]):
        moved = True
        while moved:
            found = {node: near for node in tables if node not in domains and (near := _nearest_domain(related.get(node, []), domains))}
            domains.update(found)
            moved = bool(found)
    return {node: domains.get(node, "default") for node in tables}


def _nearest_domain(related: Iterable[str], domains: Mapping[str, str]) -> str | None:
    return next((domains[node] for node in sorted(related) if node in domains), None)


def _own_domain(props: _Props, contracts: Contracts) -> str | None:
    if props["resource_type"] == "source" and props["identifier"] in contracts.datasets:
        return slug(contracts.datasets[props["identifier"]].domain)
    named = _meta(props).get("domain") or props.get("group") or props.get("config", {}).get("group")
    return slug(str(named)) if named else None


def _meta(props: _Props) -> dict[str, Any]:
    return {**props.get("meta", {}), **props.get("config", {}).get("meta", {})}


def _props(manifest: _Props, unique_id: str) -> _Props:
    return manifest["sources"].get(unique_id) or manifest["nodes"][unique_id]


def _is_table(manifest: _Props, unique_id: str) -> bool:
    if unique_id in manifest["sources"]:
        return True
    props = manifest["nodes"].get(unique_id)
    return props is not None and props["resource_type"] in _ASSET_TYPES and props.get("config", {}).get("materialized") != "ephemeral"


class LakehouseTranslator(DagsterDbtTranslator):
    """dbt nodes in the words of the lakehouse: keys `[layer, table]`, groups by domain, checks with the tests' own claims."""

    def __init__(self, *, domains: Mapping[str, str], domain: str, contracts: Contracts) -> None:
        super().__init__(DagsterDbtTranslatorSettings(enable_source_tests_as_checks=True))
        self._domains = domains
        self._domain = domain
        self._contracts = contracts

    def get_asset_key(self, dbt_resource_props: _Props) -> dg.AssetKey:
        """`[layer, table]`, the same for a model, a source and the raw asset it is."""
        return asset_key(table_of(dbt_resource_props))

    def get_group_name(self, dbt_resource_props: _Props) -> str:
        """The domain."""
        return self._domains[dbt_resource_props["unique_id"]]

    def get_description(self, dbt_resource_props: _Props) -> str:
        """What the model's own documentation says; the SQL is shown by the code version and in the repository."""
        return dbt_resource_props.get("description") or f"The table {table_of(dbt_resource_props)}, built by dbt."

    def get_owners(self, dbt_resource_props: _Props) -> list[str]:
        """The owner that the model names, else the owner of the data it comes from."""
        meta = _meta(dbt_resource_props)
        owner = meta.get("owner") or meta.get("feature_view", {}).get("owner")
        domain = self._domains[dbt_resource_props["unique_id"]]
        of_data = [contract.owner for contract in self._contracts.datasets.values() if slug(contract.domain) == domain and contract.owner]
        return owners(owner or (of_data[0] if of_data else None))

    def get_tags(self, dbt_resource_props: _Props) -> Mapping[str, str]:
        """The layer, and dbt's own tags."""
        return {"layer": dbt_resource_props["schema"], **super().get_tags(dbt_resource_props)}

    def get_metadata(self, dbt_resource_props: _Props) -> Mapping[str, Any]:
        """Where the model is written down."""
        return {**super().get_metadata(dbt_resource_props), "dbt/file": dbt_resource_props["original_file_path"]}

    def get_asset_spec(self, manifest: _Props, unique_id: str, project: Any) -> dg.AssetSpec:
        """The spec with three kinds, as many as the UI shows; the layer is one, because a graph's boxes show only the table's name."""
        spec = super().get_asset_spec(manifest, unique_id, project)
        return spec.replace_attributes(kinds={spec.key.path[0], "dbt", "deltalake"})

    def get_asset_check_spec(self, asset_spec: dg.AssetSpec, manifest: _Props, unique_id: str, project: Any) -> dg.AssetCheckSpec | None:
        """A dbt test as a check; a source's tests belong to the domain of the source alone."""
        layer = asset_spec.key.path[0]
        if layer == "raw" and asset_spec.group_name != self._domain:
            return None
        spec = super().get_asset_check_spec(asset_spec=asset_spec, manifest=manifest, unique_id=unique_id, project=project)
        if spec is None or spec.description:
            return spec
        return dg.AssetCheckSpec(
            spec.name,
            asset=spec.asset_key,
            description=_claim(manifest["nodes"][unique_id]),
            additional_deps=spec.additional_deps,
            metadata=spec.metadata,
            blocking=spec.blocking,
        )


def _claim(test: _Props) -> str:
    written = test.get("description") or test.get("config", {}).get("meta", {}).get("description")
    if written:
        return str(written)
    generic = test.get("test_metadata") or {}
    arguments = generic.get("kwargs", {})
    column = arguments.get("column_name") or test.get("column_name") or "each row"
    referenced = _REFERENCE.sub(r"\1", str(arguments.get("to", "the other table"))).replace("'", "")
    claims = {
        "not_null": f"{column} is never missing",
        "unique": f"{column} is never repeated",
        "accepted_values": f"{column} is one of {', '.join(map(str, arguments.get('values', [])[:12]))}",
        "relationships": f"every {column} is found in {referenced}",
    }
    return claims.get(generic.get("name", ""), f"dbt test {test['name']} finds no row")


def build_dbt_assets(contracts: Contracts, manifest_path: Path) -> list[dg.AssetsDefinition]:
    """One assets definition per domain of the dbt project."""
    manifest = loads(manifest_path.read_bytes())
    domains = domains_of(manifest, contracts)
    built = sorted({domains[unique_id] for unique_id in manifest["nodes"] if unique_id in domains})
    return [_domain_assets(domain, manifest=manifest, domains=domains, contracts=contracts) for domain in built]


def _domain_assets(domain: str, *, manifest: _Props, domains: Mapping[str, str], contracts: Contracts) -> dg.AssetsDefinition:
    """The step of one domain.

    What `@dbt_assets` does, without its evaluation of a dbt selection: that imports dbt's graph engine (1.0 s of every load)
    to find nodes that are known already.
    """
    translator = LakehouseTranslator(domains=domains, domain=domain, contracts=contracts)
    nodes = sorted(node for node, of in domains.items() if of == domain)
    specs = {node: translator.get_asset_spec(manifest, node, None) for node in nodes}
    checks = {
        check.key: check
        for node in nodes
        for test in sorted(manifest["child_map"].get(node, []))
        if test.startswith("test.") and (check := translator.get_asset_check_spec(specs[node], manifest, test, None))
    }

    @dg.multi_asset(
        name=f"dbt_{domain}",
        specs=[specs[node] for node in nodes if node in manifest["nodes"]],
        check_specs=list(checks.values()),
        can_subset=True,
        # Tests of sources are checks of raw assets, which another step makes.
        allow_arbitrary_check_specs=True,
        pool=f"dbt_{domain}",
    )
    def build_domain(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> Iterator[Any]:
        yield from _build(context, workspace, manifest)

    return build_domain


def _build(context: dg.AssetExecutionContext, workspace: Workspace, manifest: _Props) -> Iterator[Any]:
    """Run exactly the selected models and tests in one dbt invocation, and report each.

    In this process: dbt is imported once for all domains of a run, and the answer is typed, with Delta versions. A `dbt`
    command of its own, as DbtCliResource starts it, imports dbt again for each (and once more to ask for its version).
    """
    from lakehouse.transform import build

    chosen = _Selection.of(context, manifest)
    lake = workspace.lake
    before = {key: lake.version(".".join(key.path)) for key in (*chosen.tables.values(), *chosen.seeds.values())}
    report = build(
        workspace.settings,
        contracts=workspace.contracts,
        select=[_selector(manifest, unique_id) for unique_id in (*chosen.seeds, *chosen.tables, *chosen.tests)],
        indirect_selection="empty",
        run=context.run.run_id,
        check=False,
        progress=lambda name, status: context.log.info(f"dbt: {name}: {status}"),
    )
    for node in report.nodes:
        key = chosen.tables.get(node.unique_id)
        if key is not None and node.status == "success":
            yield _materialized(lake, key, node, before=before[key])
        elif (seed := chosen.seeds.get(node.unique_id)) is not None and node.status == "success" and not node.is_unchanged:
            context.log_event(dg.AssetMaterialization(seed, metadata=_node_metadata(lake, seed, node, before=before[seed])))
    for test in report.tests:
        check = chosen.tests.get(test.unique_id)
        if check is not None and test.status != "skipped":
            yield _checked(check, test)
    broken = [result for result in report.failed if result.status == "error"]
    if broken:
        others = f"; {len(broken) - 1} more failed too" if len(broken) > 1 else ""
        raise dg.Failure(f"dbt could not build {broken[0].name}: {broken[0].message}{others}", allow_retries=False)


@dataclass(frozen=True, slots=True)
class _Selection:
    """What this run asks of the step, by dbt's unique ids.

    Attributes:
        seeds: those that the tables and tests read and that were not asked for. They come from files of the project and are
            downstream of nothing, so that a run of what is downstream of a dataset would never build them.
    """

    tables: Mapping[str, dg.AssetKey]
    tests: Mapping[str, dg.AssetCheckKey]
    seeds: Mapping[str, dg.AssetKey]

    @classmethod
    def of(cls, context: dg.AssetExecutionContext, manifest: _Props) -> "_Selection":
        definition = context.assets_def
        tables = {str(spec.metadata[_UNIQUE_ID]): spec.key for spec in definition.specs if spec.key in context.selected_asset_keys}
        tests = {
            str((spec.metadata or {})[_UNIQUE_ID]): spec.key
            for spec in definition.check_specs
            if spec.key in context.selected_asset_check_keys
        }
        read = {parent for node in (*tables, *tests) for parent in manifest["nodes"][node].get("depends_on", {}).get("nodes", [])}
        seeds = {node: asset_key(table_of(manifest["nodes"][node])) for node in sorted(read - set(tables)) if node.startswith("seed.")}
        return cls(tables, tests, seeds)


def _materialized(lake: "Lake", key: dg.AssetKey, node: "NodeResult", *, before: int | None) -> dg.MaterializeResult:
    metadata = _node_metadata(lake, key, node, before=before)
    return dg.MaterializeResult(asset_key=key, metadata=metadata, data_version=data_version(lake, ".".join(key.path)))


def _node_metadata(lake: "Lake", key: dg.AssetKey, node: "NodeResult", *, before: int | None) -> dict[str, Any]:
    return {
        **table_metadata(lake, ".".join(key.path), before=before),
        "dbt/seconds": dg.FloatMetadataValue(round(node.seconds, 3)),
        "dbt/outcome": dg.TextMetadataValue(
            "unchanged: same SQL, same input versions" if node.is_unchanged else f"wrote {node.rows:,} rows"
        ),
    }


def _checked(check: dg.AssetCheckKey, test: "TestResult") -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=check.asset_key,
        check_name=check.name,
        passed=test.status == "pass",
        severity=dg.AssetCheckSeverity.WARN if test.status == "warn" else dg.AssetCheckSeverity.ERROR,
        description=None if test.status == "pass" else test.message,
        metadata={"dbt/rows_that_fail": dg.IntMetadataValue(test.failures), "dbt/seconds": dg.FloatMetadataValue(round(test.seconds, 3))},
    )


def _selector(manifest: _Props, unique_id: str) -> str:
    return "fqn:" + ".".join(manifest["nodes"][unique_id]["fqn"])
