"""What a person sees in the terminal: the summary of a run, hits and status."""

import logging
import os
import warnings
from collections.abc import Iterable, Sequence

import polars as pl
from rich.console import Console
from rich.table import Table
from rich.text import Text

from embed_assets.embedding.autotune import Tuning
from embed_assets.errors import InputError
from embed_assets.fingerprints import Recorded, recorded_configurations
from embed_assets.quality.check_summary import summarized
from embed_assets.quality.checks import metric_findings
from embed_assets.search import Hit
from embed_assets.tables.delta_files import reading
from embed_assets.tables.maintenance import Maintained
from embed_assets.tables.table import Tables
from embed_assets.wording import counted

_SHOWN_CHARS = 500
# Reasons of one kind that are named: a full disk gives the same one for every shard.
_SHOWN_REASONS = 3


def console(*, stderr: bool = False) -> Console:
    """A console that never takes corpus text for markup."""
    return Console(stderr=stderr, markup=False, highlight=False, soft_wrap=True)


def quiet_libraries() -> None:
    """Keep loading bars and notices of libraries out of the way of our own."""
    # Set before transformers loads: it counts on forking after tokenizing, which nobody does here.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TQDM_DISABLE", "1")
    logging.getLogger("sentence_transformers").setLevel(logging.WARNING)
    # Dagster tells of its own beta parameters at every load.
    warnings.filterwarnings("ignore", module=r"dagster")


def print_hits(hits: Sequence[Hit]) -> None:
    """Each hit with score and source, then its text on indented lines."""
    out = console()
    for hit in hits:
        title = f"  {plain(hit.title)}" if hit.title else ""
        out.print(Text.assemble((f"{hit.score:.4f}", "bold"), f"  {plain(hit.source)}{title}"))
        shown = hit.text if len(hit.text) <= _SHOWN_CHARS else hit.text[:_SHOWN_CHARS] + " ..."
        for line in shown.splitlines():
            out.print(Text(f"    {plain(line)}"))
        out.print()


def print_status(tables: Tables) -> None:
    """Shards, rows and bytes of each table, and the fingerprints that have vectors."""
    out = console()
    manifest = tables.manifest.read().frame
    if manifest.is_empty() and not tables.embeddings.states():
        raise InputError(f"there are no tables under {tables.root}")
    out.print(f"tables under {tables.root}")
    if tables.shares_documents:
        out.print(f"shards, raw_corpus and rejected under {tables.documents_root}")
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for column, justify in (
        ("table", "left"),
        ("shards", "right"),
        ("rows", "right"),
        ("size", "right"),
    ):
        grid.add_column(column, justify=justify)  # type: ignore[arg-type]
    grid.add_row("shards", str(manifest["shard"].n_unique()), f"{manifest.height:,}", "")
    for name, table in tables.by_shard.items():
        states = table.states().values()
        n_rows, n_bytes = sum(s.n_rows for s in states), sum(s.n_bytes for s in states)
        grid.add_row(name, str(len(states)), f"{n_rows:,}", size(n_bytes))
    out.print(grid)
    try:
        recorded = recorded_configurations(tables)
        checks = _check_lines(tables, recorded)
    except InputError as error:
        # What is damaged here hides none of the counts above.
        recorded, checks = [], [f"checks are not known: {plain(str(error))}"]
    for line in (*_fingerprint_lines(tables, recorded), *checks):
        out.print(line)


def _fingerprint_lines(tables: Tables, recorded: Sequence[Recorded]) -> Iterable[str]:
    standing = reading(
        tables.embeddings.uri,
        lambda: (
            tables.embeddings.scan()
            .group_by("fingerprint")
            .agg(pl.col("shard").n_unique().alias("shards"), pl.len().alias("rows"))
            .sort("fingerprint")
            .collect()
        ),
    )
    dimensions = tables.fingerprints.read().frame.select("fingerprint", "dimension")
    models = {r.configuration.fingerprint: r.settings.model for r in recorded if r.settings}
    for row in standing.join(
        dimensions, on="fingerprint", how="left", maintain_order="left"
    ).iter_rows(named=True):
        made_by = f" by {plain(model)}" if (model := models.get(row["fingerprint"])) else ""
        yield (
            f"fingerprint {row['fingerprint']}: {counted(row['rows'], 'vector')} of "
            f"{row['dimension']} dimensions{made_by} in {counted(row['shards'], 'shard')}"
        )


def _check_lines(tables: Tables, recorded: Sequence[Recorded]) -> Iterable[str]:
    """What the checks that need no vector find in the shards' metrics, as the UI says it.

    By the settings in force; nothing where a newer version of this program noted them.
    """
    if not recorded or recorded[0].settings is None:
        return
    metrics = reading(
        tables.quality_metrics.uri,
        lambda: tables.quality_metrics.scan().select("shard", "metric", "value").collect(),
    )
    findings = metric_findings(metrics, recorded[0].settings)
    for summary in summarized({finding.check: None for finding in findings}, findings):
        yield f"check {summary.check}: {summary.word}: {plain(summary.sentence)}"


def print_maintained(maintained: Iterable[Maintained]) -> None:
    """A line per table, and one for each thing that was not done."""
    out = console()
    for done in maintained:
        counts = {
            "small files merged": done.n_compacted,
            "old files deleted": done.n_expired,
            "leftovers deleted": done.n_leftovers,
            "checkpoint rows dropped": done.n_checkpoint_rows,
        }
        parts = [f"{n:,} {what}" for what, n in counts.items() if n]
        if done.n_bytes_freed:
            parts.append(f"{size(done.n_bytes_freed)} freed")
        out.print(f"{done.table:<16} {', '.join(parts) or 'nothing to do'}")
        for label, reasons in (("skipped", done.skipped), ("failed", done.failures)):
            for reason in reasons[:_SHOWN_REASONS]:
                out.print(f"  {label}: {plain(reason)}")
            if len(reasons) > _SHOWN_REASONS:
                out.print(f"  {label}: {len(reasons) - _SHOWN_REASONS:,} more")


def size(n_bytes: float) -> str:
    """A number of bytes as a person reads it: 12.3 MB."""
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:.0f} {unit}" if unit == "B" else f"{n_bytes:.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:.1f} TB"


def plain(text: str) -> str:
    """Text without control characters: a corpus must not send escape codes to a terminal."""
    # Blanks such as U+3000, which CJK text is full of, count as not printable.
    return "".join(c if c.isprintable() else " " if c.isspace() else "\ufffd" for c in text)


def print_tuning(tuning: Tuning, folder: str | None) -> None:
    """The trials, the budget that runs use from now on, and where the picture is."""
    out = console()
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("tokens per batch", "tokens/s", "padding", "peak memory"):
        grid.add_column(name, justify="right")
    for trial in tuning.trials:
        peak = f"{trial.peak_bytes / 2**30:.2f} GiB" if trial.peak_bytes else ""
        grid.add_row(
            f"{trial.max_tokens_per_batch:,}",
            f"{trial.tokens_per_second:,.0f}",
            f"{trial.padding_waste:.1%}",
            peak,
        )
    out.print(grid)
    if tuning.memory:
        out.print(f"memory of {tuning.device} ends at {tuning.memory.out_of_memory_at:,} tokens")
    best = tuning.best.max_tokens_per_batch
    out.print(f"runs on {tuning.device} in {tuning.precision} take {best:,} tokens a batch now")
    if folder:
        out.print(f"picture: {folder}/token_budgets.png")
