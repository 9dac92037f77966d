"""The command line: thin, over the same code that Dagster runs.

Exit codes: 0 done, 1 something failed, 2 wrong usage or settings.
"""

import os
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import click

from embed_assets import __version__
from embed_assets.command_group import Commands
from embed_assets.errors import SettingsError
from embed_assets.setting_options import chosen_settings, setting_options, with_setting_options
from embed_assets.settings import Device, PipelineSettings, Precision, choices, load_settings
from embed_assets.tables_option import tables_option


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.pass_context
def main(context: click.Context, debug: bool) -> None:
    """Turn a text corpus into embeddings: shard by shard, into Delta tables, with Dagster.

    \b
    embed-assets run                                     the bundled corpus and model
    embed-assets run --corpus ~/notes --tables ~/vectors your own folder
    embed-assets search "open a file" --tables ~/vectors the nearest chunks
    embed-assets tune --corpus ~/notes --tables ~/vectors the fastest batches on this device
    embed-assets status --tables ~/vectors               what is there
    embed-assets maintain --tables ~/vectors             merge small files, delete old ones
    embed-assets init notes --corpus ~/notes             declare a pipeline for Dagster
    embed-assets evaluate --beir scifact                 how good the model's vectors are
    embed-assets ui                                      the Dagster UI of this project
    """  # noqa: D301 - click reads the character itself, not a backslash.
    if context.invoked_subcommand != "ui":
        # Of a store without credentials delta-rs warns in pages; our error says it in a line.
        os.environ.setdefault("RUST_LOG", "error")


@main.command()
@click.option("--pipeline", metavar="NAME", help="A pipeline declared under defs/.")
@click.option("--force", is_flag=True, help="Compute everything again.")
@with_setting_options
def run(pipeline: str | None, force: bool, **values: object) -> None:
    """Bring a corpus's vectors up to date, through Dagster.

    Only what changed is computed. Without --corpus a declared pipeline runs: the one named by
    --pipeline, else python_docs, else the only one. With --corpus, settings that are not given take
    their defaults. Every option is a key of defs.yaml, too.
    """
    # Before the slow imports: runs are in the order in which their settings were read.
    started_at = datetime.now(UTC)
    settings, is_declared = chosen_settings(pipeline, values)
    from embed_assets.orchestration.command import run_pipeline

    sys.exit(run_pipeline(settings, is_declared=is_declared, force=force, started_at=started_at))


@main.command()
@click.argument("name")
@setting_options(*(field for field in PipelineSettings.model_fields if field != "name"))
def init(name: str, **values: object) -> None:
    """Declare a pipeline called NAME: write its defs.yaml, in the Dagster project that this is in.

    What is given is checked before anything is written, and nothing is ever overwritten. Relative
    paths are those of the working folder.
    """
    given = {key: value for key, value in values.items() if value not in (None, ())}
    from embed_assets.orchestration.init import init_pipeline

    init_pipeline(name, given)


@main.command()
@click.option("--pipeline", metavar="NAME", help="A pipeline declared under defs/.")
@click.option(
    "--seconds",
    default=60.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    help="How long to measure, about.",
)
@with_setting_options
def tune(pipeline: str | None, seconds: float, **values: object) -> None:
    """Find the token budget at which this device is fastest, with chunks of the corpus.

    The best one that is safe for memory is kept for this device and model, and `run` uses it. A
    picture of the curve goes beside the tables. Measure when nothing else runs on the device.
    """
    settings, _ = chosen_settings(pipeline, values)
    from embed_assets.opened_pipeline import OpenedPipeline
    from embed_assets.quality.saved_plots import save_plots
    from embed_assets.terminal import print_tuning, quiet_libraries
    from embed_assets.tuning import tune_pipeline, tuning_plot

    quiet_libraries()
    tuning = tune_pipeline(OpenedPipeline(settings), seconds)
    plots = {"token_budgets": tuning_plot(tuning)}
    print_tuning(tuning, save_plots(plots, settings.tables_root, "batch_tuning"))


@main.command()
@click.argument("query")
@tables_option
@click.option("-k", default=5, show_default=True, type=click.IntRange(min=1), help="How many.")
@click.option(
    "--device", default="auto", show_default=True, type=click.Choice(["auto", "cpu", "cuda"])
)
def search(query: str, tables: str, k: int, device: Device) -> None:
    """Print the chunks nearest to QUERY with score, source and text."""
    from embed_assets.search import search as nearest
    from embed_assets.standing_tables import open_standing_tables
    from embed_assets.terminal import print_hits, quiet_libraries

    quiet_libraries()
    if not query.strip():
        raise SettingsError("QUERY is empty; say what to look for")
    print_hits(nearest(open_standing_tables(tables), query, k, device))


@main.command()
@partial(tables_option, with_settings=True)
def status(tables: str, settings: PipelineSettings | None) -> None:
    """Show shards, rows, bytes and fingerprints of the tables.

    With --pipeline also what of them its settings have made outdated, and why. New and changed
    files are seen by `run` and by the sensor.
    """
    from embed_assets.run_summary import print_outdated
    from embed_assets.standing_tables import open_standing_tables
    from embed_assets.terminal import print_status, quiet_libraries

    quiet_libraries()
    print_status(open_standing_tables(tables))
    if settings is not None:
        print_outdated(settings)


@main.command()
@tables_option
@click.option("--repair", is_flag=True, help="Mend what can be mended; mark the rest stale.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per finding.")
def doctor(tables: str, repair: bool, as_json: bool) -> None:
    """Look for damage in the tables: exit code 0 if clean, 1 with findings.

    Finds flipped bits, missing, truncated and half-written files, broken logs, leftovers of killed
    runs, chunks without vectors, mixed fingerprints and stale shards. --repair deletes nothing.
    """
    from embed_assets.doctor.command import run_doctor
    from embed_assets.terminal import plain

    # A finding may name a file of the corpus.
    def say(line: str) -> None:
        click.echo(plain(line))

    sys.exit(run_doctor(tables, say, repair=repair, as_json=as_json))


@main.command()
@tables_option
@click.option(
    "--retention-days",
    default=PipelineSettings().retention_days,
    show_default=True,
    type=click.IntRange(min=7),
    help="Keep files that the tables no longer use this long.",
)
def maintain(tables: str, retention_days: int) -> None:
    """Merge small files, delete old ones and what killed runs left. Safe while runs write.

    Exit code 1 if something could not be done; it is named, and the rest is done.
    """
    from embed_assets.tables.maintenance import maintain as maintain_tables
    from embed_assets.terminal import print_maintained

    maintained = maintain_tables(tables, retention_days)
    print_maintained(maintained)
    sys.exit(1 if any(done.failures for done in maintained) else 0)


@main.command()
@click.option("--beir", metavar="DIR", type=Path, help="Retrieval set in BEIR's layout.")
@click.option("--split", default="test", show_default=True, help="Judgements: qrels/SPLIT.tsv.")
@click.option("--sts", metavar="FILE", type=Path, help="Sentence pairs with scores, CSV or TSV.")
@click.option(
    "--one-vector-per-document",
    is_flag=True,
    help="Cut documents off at the model's limit. Otherwise they are chunked as in a pipeline, and "
    "score as their best chunk.",
)
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    default=["auto"],
    show_default=True,
    type=click.Choice(choices(Precision)),
    help="Several are compared with the first. Repeatable.",
)
@click.option(
    "--per-query", metavar="FILE", type=Path, help="Write each query's values there, as JSONL."
)
@click.option("--json", "as_json", is_flag=True, help="End with one JSON object on a line.")
@setting_options(
    "model",
    "revision",
    "document_prompt",
    "query_prompt",
    "truncate_dim",
    "max_tokens",
    "overlap",
    "device",
    "max_tokens_per_batch",
)
def evaluate(
    beir: Path | None,
    split: str,
    sts: Path | None,
    one_vector_per_document: bool,
    precisions: tuple[str, ...],
    per_query: Path | None,
    as_json: bool,
    **values: object,
) -> None:
    """Score a model, as the pipeline runs it, on published sets.

    --beir gives nDCG@10, Recall@10, Recall@100 and MRR@10 with 95% bootstrap intervals, --sts
    gives Spearman's correlation. Both at once are fine.
    """
    from embed_assets.terminal import plain, quiet_libraries

    quiet_libraries()
    from embed_assets.evaluation.command import run_evaluation
    from embed_assets.evaluation.scores import Task

    given = {name: value for name, value in values.items() if value is not None}
    settings = load_settings(given).located(Path.cwd())
    task = Task(beir, split, sts, one_vector_per_document)
    run_evaluation(
        settings,
        precisions,
        task,
        lambda line: click.echo(plain(line)),
        per_query=per_query,
        as_json=as_json,
    )


@main.command()
@click.option("--port", default=3000, show_default=True, type=int)
@click.option(
    "--read-only",
    is_flag=True,
    help="Refuse whatever changes anything: runs, sensors, assets. The web server alone, without "
    "the daemon that starts runs.",
)
def ui(port: int, read_only: bool) -> None:
    """Open the Dagster UI of this project on 127.0.0.1."""
    from embed_assets.orchestration.command import open_ui

    open_ui(port, read_only=read_only)
