"""The resource `workspace`: settings, contracts and lake of one home, made once per process."""

import dagster as dg

from lakehouse.pipeline.workspace import Workspace

RESOURCE_KEY = "workspace"


def workspace_resource(workspace: Workspace) -> dg.ResourceDefinition:
    """The workspace as a resource, described for the UI by the place it works on.

    Its lake is opened at the first use: loading the definitions touches no storage.
    """
    settings = workspace.settings
    return dg.ResourceDefinition(
        resource_fn=lambda _: workspace,
        description=f"Settings, contracts and Delta tables of {settings.home_dir}; tables under {settings.tables_uri}.",
    )
