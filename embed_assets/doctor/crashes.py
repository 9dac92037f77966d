"""Which files of a shard end the process that reads them: each is tried in the child."""

from contextlib import suppress

from embed_assets.doctor import whole_tables
from embed_assets.doctor.child import Child, Crashed
from embed_assets.errors import InputError


def files_that_crash(child: Child, uri: str, name: str, shard: str) -> list[str]:
    """Of the files of a shard in one table, those that nobody may open, as polars reads them."""
    paths = child.call(whole_tables.paths_of, uri, shard)
    return [path for path in paths if _crashes(child, path, name)]


def _crashes(child: Child, path: str, name: str) -> bool:
    try:
        # What only raises is named by whoever reads the shard.
        with suppress(InputError):
            child.call(whole_tables.probe, path, name)
    except Crashed:
        return True
    return False
