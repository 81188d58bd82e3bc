"""dbt models as assets: one step per domain, so that a domain whose data is bad does not stop the others."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings, dbt_assets

from assets.metadata import data_version, table_metadata
from assets.naming import asset_key, owners, slug
from lakehouse.contracts import Contracts
from lakehouse.pipeline.workspace import Workspace

_ASSET_TYPES = ("model", "seed", "snapshot")
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
        """The spec with the kinds the UI has pictures for."""
        spec = super().get_asset_spec(manifest, unique_id, project)
        return spec.replace_attributes(kinds={"dbt", "duckdb", "deltalake"})

    def get_asset_check_spec(self, asset_spec: dg.AssetSpec, manifest: _Props, unique_id: str, project: Any) -> dg.AssetCheckSpec | None:
        """A dbt test as a check; a source's tests belong to the domain of the source alone."""
        layer = asset_spec.key.path[0]
        if layer == "raw" and asset_spec.group_name != self._domain:
            return None
        spec = super().get_asset_check_spec(asset_spec=asset_spec, manifest=manifest, unique_id=unique_id, project=project)
        if spec is None or spec.description:
            return spec
        return spec._replace(description=_claim(manifest["nodes"][unique_id]))


def _claim(test: _Props) -> str:
    written = test.get("description") or test.get("config", {}).get("meta", {}).get("description")
    if written:
        return str(written)
    generic = test.get("test_metadata") or {}
    arguments = generic.get("kwargs", {})
    column = arguments.get("column_name") or test.get("column_name") or "each row"
    claims = {
        "not_null": f"{column} is never missing",
        "unique": f"{column} is never repeated",
        "accepted_values": f"{column} is one of {', '.join(map(str, arguments.get('values', [])[:12]))}",
        "relationships": f"every {column} is found in {arguments.get('to', 'the other table')}",
    }
    return claims.get(generic.get("name", ""), f"dbt test {test['name']} finds no row")


def build_dbt_assets(contracts: Contracts, manifest_path: Path) -> list[dg.AssetsDefinition]:
    """One assets definition per domain of the dbt project."""
    from json import loads

    manifest = loads(manifest_path.read_bytes())
    domains = domains_of(manifest, contracts)
    built = sorted({domains[unique_id] for unique_id in manifest["nodes"] if unique_id in domains})
    return [_domain_assets(domain, manifest=manifest, domains=domains, contracts=contracts) for domain in built]


def _domain_assets(domain: str, *, manifest: _Props, domains: Mapping[str, str], contracts: Contracts) -> dg.AssetsDefinition:
    names = sorted(manifest["nodes"][node]["name"] for node, of in domains.items() if of == domain and node in manifest["nodes"])

    @dbt_assets(
        manifest=manifest,
        select=" ".join(names),
        name=f"dbt_{domain}",
        dagster_dbt_translator=LakehouseTranslator(domains=domains, domain=domain, contracts=contracts),
        pool=f"dbt_{domain}",
    )
    def build_domain(context: dg.AssetExecutionContext, workspace: dg.ResourceParam[Workspace]) -> Iterator[Any]:
        yield from _build(context, workspace, manifest)

    return build_domain


def _build(context: dg.AssetExecutionContext, workspace: Workspace, manifest: _Props) -> Iterator[Any]:
    """Run exactly the selected models and tests in one dbt invocation and report each."""
    from lakehouse.transform import build

    definition = context.assets_def
    nodes = {str(spec.metadata[_UNIQUE_ID]): spec.key for spec in definition.specs if spec.key in context.selected_asset_keys}
    tests = {
        str(spec.metadata[_UNIQUE_ID]): spec.key
        for spec in definition.check_specs
        if spec.key in context.selected_asset_check_keys and spec.metadata
    }
    lake = workspace.lake
    before = {key: lake.version(".".join(key.path)) for key in nodes.values()}
    report = build(
        workspace.settings,
        select=[_selector(manifest, unique_id) for unique_id in [*nodes, *tests]],
        run=context.run_id,
        indirect_selection="empty",
    )
    for node in report.nodes:
        key = nodes.get(node.unique_id)
        if key is not None and node.status == "success":
            table = ".".join(key.path)
            metadata = {**table_metadata(lake, table, before=before[key]), "dbt/seconds": dg.FloatMetadataValue(round(node.seconds, 3))}
            yield dg.MaterializeResult(asset_key=key, metadata=metadata, data_version=data_version(lake, table))


def _selector(manifest: _Props, unique_id: str) -> str:
    return "fqn:" + ".".join(manifest["nodes"][unique_id]["fqn"])
