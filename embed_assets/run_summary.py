"""The few lines at the start and the end of `embed-assets run`."""

import shlex
from collections import Counter
from collections.abc import Collection, Mapping, Set

import polars as pl

from embed_assets.corpus_plan import CorpusPlan
from embed_assets.opened_pipeline import OpenedPipeline
from embed_assets.progress_bar import ProgressBar
from embed_assets.run_numbers import embedding_numbers
from embed_assets.settings import PipelineSettings
from embed_assets.staleness import Stale
from embed_assets.tables.delta_files import reading
from embed_assets.terminal import console, plain, size
from embed_assets.wording import counted

_MOST_NAMED = 10
_MOST_REASONS = 5


def print_plan(
    settings: PipelineSettings, plan: CorpusPlan, work: Mapping[str, Stale | None]
) -> None:
    """What was found, and what is to be done to which shards and why; None where nothing has to."""
    out = console()
    where = f"the documents of {settings.documents_of}" if settings.documents_of else ""
    out.print(
        f"{settings.name}: {counted(plan.n_files, 'file')}, {size(plan.n_bytes)} in "
        f"{where or plain(settings.corpus)}"
    )
    if plan.skipped:
        total = sum(plan.skipped.values())
        kinds = ", ".join(f"{kind} ({n:,})" for kind, n in plan.skipped.most_common(_MOST_NAMED))
        out.print(f"passed over {counted(total, 'file')} that are not read: {plain(kinds)}")
    shards = plan.shards
    if shards.added or shards.changed or shards.removed:
        out.print(
            f"shards: {len(shards.added)} new, {len(shards.changed)} changed, "
            f"{len(shards.removed)} removed; {len(work)} to do"
        )
    for line in _reasons(plan, work):
        out.print(f"  {plain(line)}")


def _reasons(plan: CorpusPlan, work: Mapping[str, Stale | None]) -> list[str]:
    """Lines such as "12 shards: model A -> B", the most frequent reason first."""
    counts = Counter(_reason(plan, shard, stale) for shard, stale in work.items())
    return [f"{counted(n, 'shard')}: {reason}" for reason, n in _most_frequent(counts)]


def _most_frequent(counts: Counter[str]) -> list[tuple[str, int]]:
    """The most frequent reasons first; of more than a few the rest together."""
    reasons = counts.most_common()
    if len(reasons) <= _MOST_REASONS:
        return reasons
    n_others = sum(n for _, n in reasons[_MOST_REASONS - 1 :])
    return [*reasons[: _MOST_REASONS - 1], ("other reasons", n_others)]


def _reason(plan: CorpusPlan, shard: str, stale: Stale | None) -> str:
    if stale is None:
        return "up to date, done again because of --force"
    if stale.stage == "raw_corpus" and shard in plan.shards.changed:
        return "its files changed"
    return stale.reason


def print_nothing_to_do(pipeline: OpenedPipeline) -> None:
    """Everything stands already."""
    n_vectors = sum(state.n_rows for state in pipeline.tables.embeddings.states().values())
    console().print(
        f"nothing to do: {counted(len(pipeline.pieces), 'shard')} with "
        f"{counted(n_vectors, 'vector')} up to date in {pipeline.tables.root}"
    )


def print_outdated(settings: PipelineSettings) -> None:
    """What a run would do for the shards that are known, and why."""
    out = console()
    stale = OpenedPipeline(settings).stale_shards()
    reasons = Counter(why.reason for why in stale.values())
    for reason, n in _most_frequent(reasons):
        out.print(f"outdated: {counted(n, 'shard')}: {plain(reason)}")
    if stale:
        out.print(f"  embed-assets run --pipeline {settings.name}")
    else:
        out.print("every shard is up to date with the settings")


def print_unread(settings: PipelineSettings, unread: Mapping[str, str]) -> None:
    """Shards of the pipeline whose documents are used that could not be read, and why."""
    for shard, reason in sorted(unread.items()):
        console().print(f"failed: {shard} in {settings.documents_of}/raw_corpus: {plain(reason)}")


def print_interrupted(work: Collection[str], left: Set[str], *, force: bool) -> None:
    """What an interrupted run has done, and how to go on."""
    then = "begins anew with --force" if force else "goes on from there"
    n_done = len(set(work) - left)
    console().print(
        f"interrupted: {n_done} of {counted(len(work), 'shard')} done; the same command {then}"
    )


def print_summary(pipeline: OpenedPipeline, bar: ProgressBar, report_error: str | None) -> None:
    """What was done, what failed and why, and what to type next."""
    out = console()
    for label, value in _figures(pipeline, bar):
        out.print(f"  {label:<14} {value}")
    for summary in bar.checks.values():
        if not summary.passed:
            out.print(f"  {'':<14} {summary.word}: {summary.check}: {plain(summary.sentence)}")
    root = pipeline.tables.root
    out.print(f"  {'tables':<14} {root}")
    if not report_error and "://" not in root:
        out.print(f"  {'pictures':<14} {root}/quality_report")
    for shard, (stage, reason) in sorted(bar.failures.items()):
        out.print(f"failed: {shard} in {stage}: {plain(reason)}")
    if report_error:
        out.print(f"failed: quality_report: {plain(report_error)}")
    out.print("next:")
    if pipeline.tables.embeddings.states():
        out.print(f'  embed-assets search "how do I open a file" --tables {shlex.quote(root)}')
    out.print(f"  embed-assets status --tables {shlex.quote(root)}")


def _rejections(pipeline: OpenedPipeline) -> str:
    """How many files or records were rejected, by reason."""
    rejected = pipeline.tables.rejected
    by_reason = rejected.scan().group_by("reason").agg(pl.len().alias("n"))
    counts = Counter(dict(reading(rejected.uri, by_reason.collect).iter_rows()))
    if not counts:
        return ""
    named = ", ".join(f"{reason} {n:,}" for reason, n in _most_frequent(counts))
    return f" ({counts.total():,} rejected: {named}; see the table rejected)"


def _figures(pipeline: OpenedPipeline, bar: ProgressBar) -> list[tuple[str, str]]:
    states = {name: table.states().values() for name, table in pipeline.tables.by_shard.items()}
    rows = {name: sum(state.n_rows for state in s) for name, s in states.items()}
    numbers = embedding_numbers(bar.outcomes.values(), pipeline.settings.price_per_hour)
    figures = [
        ("documents", f"{rows['raw_corpus']:,}{_rejections(pipeline)}"),
        ("chunks", f"{rows['chunks']:,}"),
        ("vectors", f"{rows['embeddings']:,} of {pipeline.dimension} dimensions"),
    ]
    if "tokens_per_second" in numbers:
        reused = numbers["chunks"] - numbers["embedded_chunks"]
        figures += [
            ("embedded", f"{numbers['embedded_chunks']:,.0f} chunks ({reused:,.0f} reused)"),
            ("tokens/s", f"{numbers['tokens_per_second']:,.0f}"),
            ("padding waste", f"{numbers['padding_waste']:.1%}"),
            ("device time", f"{numbers['device_seconds']:,.1f} s{_money(numbers)}"),
        ]
    n_passed = sum(summary.passed for summary in bar.checks.values())
    return [*figures, ("checks", f"{n_passed} of {len(bar.checks)} passed")]


def _money(numbers: Mapping[str, float]) -> str:
    """The cost of a run, where a price is set."""
    if "cost" not in numbers:
        return ""
    per_million = numbers["cost_per_million_tokens"]
    return f", cost {numbers['cost']:,.4g} ({per_million:,.4g} a million tokens)"
