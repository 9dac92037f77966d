"""Remove what belongs to no shard any more, also after a crash half-way."""

from collections.abc import Set
from functools import partial

from embed_assets import staleness
from embed_assets.fence import RunFence
from embed_assets.rows import SHARD_TABLES
from embed_assets.tables.table import Tables


def remove_vanished(tables: Tables, shards: Set[str], fence: RunFence) -> None:
    """Remove the rows of shards that the manifest no longer has."""
    for name, table in tables.own_by_shard.items():
        states = table.states()
        for shard in sorted(states.keys() - shards):
            no_rows = SHARD_TABLES[name].to_frame()
            still_gone = partial(fence.check_files, shard, None)
            table.publish(shard, no_rows, states[shard], fence=still_gone)


def remove_spent_checkpoints(tables: Tables, shards: Set[str]) -> None:
    """Remove what a run left that was killed between publishing a shard and clearing up."""
    checkpoints = tables.checkpoints.keys()
    if not checkpoints:
        return
    chunks, embeddings = tables.chunks.states(), tables.embeddings.states()
    for key in checkpoints:
        content = staleness.content_of(chunks.get(key.shard))
        expected = staleness.embeddings_version(content, key.fingerprint)
        standing = embeddings.get(key.shard)
        is_published = standing is not None and standing.input_version == expected
        if is_published or key.shard not in shards:
            tables.checkpoints.clear(key)
