"""What each asset is, in Markdown for its page: what a row is, where it stands, what to do when it
fails. Holds names from the settings alone, never text of the corpus.
"""

from collections.abc import Mapping

_RETRY = (
    "A run that was killed, or a shard that failed, costs nothing that stands: materialise the "
    "failed partitions again, and only what is missing is computed."
)

_TEXTS: Mapping[str, tuple[str, str, str]] = {
    "shards": (
        "The manifest: which part of which file belongs to which shard. Materialise it to look for "
        "new, changed and deleted files; it registers the shards as partitions of the assets "
        "below, and removes the rows of those that are gone.",
        "a piece of a file",
        "A corpus that is not where it was is the usual reason; the error names the folder. "
        "Nothing was removed.",
    ),
    "raw_corpus": (
        "Documents read from the corpus's files. A file or record that cannot be read goes to the "
        "table `rejected` beside this one, with its reason, and stops nothing; the plot "
        "`rejected` counts them.",
        "a document",
        "The error names the shard and the file. " + _RETRY,
    ),
    "chunks": (
        "Documents cut at the best boundary available into windows that the model can take, "
        "tokenized once.",
        "a chunk; `text[start:end]` of the document is its text",
        "Rows of `raw_corpus` that were damaged on disk are the usual reason: `embed-assets doctor "
        "--tables TABLES` names them, `--repair` mends them. " + _RETRY,
    ),
    "embeddings": (
        "One vector per chunk, computed in batches of similar length. Vectors that stand already "
        "under the same fingerprint and text are reused. A shard's vectors are checked before they "
        "replace the old ones in one commit: readers see the old ones or the new ones.",
        "a chunk's vector",
        "A blocking check that failed names shards and chunks; nothing bad was published and the "
        "old vectors stand. Out of memory halves the batch by itself; if a single text does not "
        "fit, the error says so. " + _RETRY,
    ),
    "quality_metrics": (
        "What the vectors of each shard are like: coverage, norms, duplicates, spread and "
        "effective rank, token lengths, and what the run that made them took: padding waste, "
        "tokens per second, device time.",
        "a metric of a shard",
        "Its checks only warn: look at the shards they name. " + _RETRY,
    ),
    "quality_report": (
        "The whole corpus at a look: what it holds and cost, all checks, the shards to look at "
        "first, and pictures of the vectors. Click `report` in the metadata of its latest "
        "materialization.",
        "",
        "It reads the tables and changes none of them. Without any vectors it says so: materialise "
        "some shards first.",
    ),
}


def description(asset: str, uri: str) -> str:
    """Markdown of an asset's page."""
    what, row, when_it_fails = _TEXTS[asset]
    parts = [what]
    if row:
        parts.append(f"**One row is** {row}.")
    parts += [f"**Stands in** {_code(uri)}.", f"**When it fails:** {when_it_fails}"]
    return "\n\n".join(parts)


def _code(text: str) -> str:
    """Text as it stands, whatever Markdown its characters would be."""
    return f"`{text.replace('`', '')}`"
