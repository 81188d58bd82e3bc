"""What has changed in a table since a model was built from it: told by the table's commits, between the versions that both builds read."""

import duckdb

from lakehouse.errors import TableNotFound
from lakehouse.tables import Lake, TableName
from lakehouse.transform.codes import is_build


def changes_since_built(
    lake: Lake, con: duckdb.DuckDBPyConnection, source: TableName, until: int | None, *, model: TableName, built: int | None
) -> str | None:
    """SQL of every row of a source that was deleted or inserted since a model's table was built; None where nobody can tell.

    Args:
        lake: has both tables.
        con: asked about files.
        source: the table that the model reads.
        until: the version of it that is read now.
        model: the model's table.
        built: the version of that.

    Returns:
        None where the model's newest rows are from no build (of somebody who was erased, say), or the commits of the source can't tell.
    """
    made = None if built is None else lake.content_commit(model, built)
    since = made.stamp.inputs.get(str(source)) if made is not None and made.stamp is not None and is_build(made) else None
    if since is None or until is None or since > until:
        return None
    try:
        changes = lake.changes(source, since, until)
    except TableNotFound:
        # Vacuum has removed the version that the model was built from.
        return None
    return None if changes is None else changes.scan_sql(con)
