"""Open tables that were made before, by their root alone: they say where their documents are."""

from embed_assets.errors import InputError
from embed_assets.fingerprints import recorded_configurations
from embed_assets.tables.delta import open_delta_tables
from embed_assets.tables.table import Tables


def open_standing_tables(root: str) -> Tables:
    """The tables under a folder or URI, with the documents that they were made from, which may be
    those of another pipeline. Where that cannot be told, with the documents beside them.
    """
    tables = open_delta_tables(root)
    try:
        recorded = recorded_configurations(tables)
    except (InputError, ValueError):
        # `doctor` comes here for tables that are damaged, and says what is wrong with them.
        return tables
    noted = next((r.settings for r in recorded if r.settings is not None), None)
    if noted is None or noted.documents_tables is None:
        return tables
    return open_delta_tables(root, noted.documents_tables)
