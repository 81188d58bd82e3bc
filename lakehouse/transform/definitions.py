"""What decides the rows of a dbt model besides the rows that it reads: its definition, as a digest.

The SQL of an incremental model's first run differs from that of the later ones, so it can't identify what the model does. Its
sources can: the model as it is written, the macros of the project that it uses, directly or not, the variables and the settings
that they depend on, and what of a dataset's contract the staging macro makes SQL of.
"""

import hashlib
import json
import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakehouse.contracts import Contracts
from lakehouse.tables import TableName
from lakehouse.transform.sources import raw_columns

if TYPE_CHECKING:
    from dbt.contracts.graph.manifest import Manifest

# Another number makes every incremental table build once more: for changes of the macros and the plugin that change rows.
_FORMAT = 1
_DBT_PACKAGES = frozenset({"dbt", "dbt_duckdb"})
# How tables are found and written does not decide what is in them.
_WRITE_PATH = re.compile(r"is_incremental|generate_schema_name|lakehouse_\w+")
_CONTRACT_MACRO = "lakehouse_contract"
_SETTINGS = ("incremental_strategy", "unique_key", "partition_by")
_HOOKS = ("pre_hook", "post_hook")
_TABLES = frozenset({"model", "seed", "snapshot"})
_JINJA_COMMENT = re.compile(r"\{#.*?#\}", re.DOTALL)
_VARIABLE = re.compile(r"""\b(env_var|var)\s*\(\s*['"]([^'"]+)['"]""")


@dataclass(frozen=True, slots=True)
class Definition:
    """A model's definition without that of the tables it reads.

    Attributes:
        digest: the same for models that make the same of the same rows.
        parents: the tables that it reads, through ephemeral models too, and that dbt builds.
        sources: those that it reads and that something else makes.
    """

    digest: str
    parents: tuple[TableName, ...]
    sources: tuple[TableName, ...] = ()


def digest_of(*parts: Any) -> str:
    """A short digest of values that JSON can hold."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:32]


class Definitions:
    """The definitions of the models of one parsed project."""

    def __init__(self, manifest: "Manifest", contracts: Contracts, variable: Callable[[Any, str], Any]) -> None:
        """Remember where to look.

        Args:
            manifest: the parsed project.
            contracts: those of the home.
            variable: what `var(name)` gives a node, None if nothing.
        """
        self._manifest = manifest
        self._contracts = contracts
        self._variable = variable
        self._known: dict[str, Definition] = {}
        self._macros_named: dict[str, list[str]] = defaultdict(list)
        for unique_id, macro in manifest.macros.items():
            self._macros_named[macro.name].append(unique_id)

    def of(self, unique_id: str) -> Definition:
        """The definition of a model, found once."""
        if unique_id not in self._known:
            self._known[unique_id] = self._define(self._manifest.nodes[unique_id])
        return self._known[unique_id]

    def _define(self, node: Any) -> Definition:
        config = node.config
        hooks = [hook.sql for name in _HOOKS for hook in getattr(config, name, [])]
        own = [_without_comments(text) for text in (node.raw_code, *hooks)]
        macros = self._macros_in([*hooks, *([node.raw_code] if str(node.language) == "sql" else [])])
        shared = {name: _without_comments(self._manifest.macros[name].macro_sql) for name in sorted(macros) if self._counts(name)}
        replaced = ((config.get("meta") or {}).get("lakehouse") or {}).get("replace_where")
        settings = [replaced, *(config.get(name) for name in _SETTINGS)]
        reads_contract = any(self._manifest.macros[unique_id].name == _CONTRACT_MACRO for unique_id in macros)
        parents: set[TableName] = set()
        sources: set[TableName] = set()
        above: dict[str, Any] = {}
        for parent_id in sorted(set(node.depends_on.nodes)):
            parent = self._manifest.nodes.get(parent_id)
            if parent is None:
                above[parent_id] = self._contract_shape(parent_id) if reads_contract else None
                sources.update(self._source(parent_id))
            elif parent.config.materialized == "ephemeral":
                passed_on = self.of(parent_id)
                above[parent_id] = passed_on.digest
                parents.update(passed_on.parents)
                sources.update(passed_on.sources)
            elif str(parent.resource_type) in _TABLES:
                parents.add(TableName(parent.schema, parent.alias))
        variables = {f"{kind} {name}": self._value(node, kind, name) for kind, name in sorted(_variables_in([*own, *shared.values()]))}
        return Definition(digest_of(_FORMAT, own, shared, settings, above, variables), tuple(sorted(parents)), tuple(sorted(sources)))

    def _source(self, source_id: str) -> list[TableName]:
        source = self._manifest.sources.get(source_id)
        return [TableName(source.schema, source.identifier)] if source is not None else []

    def _macros_in(self, texts: Iterable[str]) -> set[str]:
        """Ids of the macros that templates name, and of those that these call in turn.

        By name, and not as dbt has recorded it for the model: it records what was called while parsing, so nothing that only an
        incremental run calls, and adds to it as the model runs.
        """
        found: set[str] = set()
        waiting = [unique_id for text in texts for name in _names_in(text) for unique_id in self._macros_named.get(name, ())]
        while waiting:
            unique_id = waiting.pop()
            macro = self._manifest.macros.get(unique_id)
            if macro is None or unique_id in found:
                continue
            found.add(unique_id)
            if not _is_write_path(macro):
                waiting += macro.depends_on.macros
        return found

    def _counts(self, unique_id: str) -> bool:
        macro = self._manifest.macros[unique_id]
        return macro.package_name not in _DBT_PACKAGES and not _is_write_path(macro)

    def _contract_shape(self, source_id: str) -> Any:
        """What of a contract becomes SQL: not its rules, which judge rows before they are in the raw table."""
        source = self._manifest.sources.get(source_id)
        if source is None or source.schema != "raw" or source.identifier not in self._contracts.datasets:
            return None
        contract = self._contracts.datasets[source.identifier]
        return [list(raw_columns(contract).items()), list(contract.primary_key), contract.event_timestamp]

    def _value(self, node: Any, kind: str, name: str) -> Any:
        return os.environ.get(name) if kind == "env_var" else self._variable(node, name)


def _is_write_path(macro: Any) -> bool:
    return macro.original_file_path.startswith("macros/lakehouse/") and _WRITE_PATH.fullmatch(macro.name) is not None


def _without_comments(text: str) -> str:
    return _JINJA_COMMENT.sub("", text)


def _variables_in(texts: Iterable[str]) -> set[tuple[str, str]]:
    return {(str(kind), str(name)) for text in texts for kind, name in _VARIABLE.findall(text)}


def _names_in(template: str) -> set[str]:
    """Every name that the template's Jinja speaks of, also those after a dot: macros of packages are called by `package.name`."""
    from dbt_common.clients.jinja import get_environment
    from jinja2 import nodes

    tree = get_environment(None, capture_macros=True).parse(template)
    return {found.name for found in tree.find_all(nodes.Name)} | {found.attr for found in tree.find_all(nodes.Getattr)}
