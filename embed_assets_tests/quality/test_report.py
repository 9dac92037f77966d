"""The corpus report: right sums and means, the shards to look at, and no text of the corpus."""

import re

import numpy as np
import polars as pl
import pytest

from embed_assets.quality.checks import BLOCKING_CHECKS, WARNING_CHECKS, Finding
from embed_assets.quality.corpus_summary import corpus_summary
from embed_assets.quality.report import MIN_VECTORS_FOR_MEAN, Report, corpus_report
from embed_assets.quality.report_markdown import report_markdown
from embed_assets.quality.worst_shards import WORST_SHARDS
from embed_assets.settings import load_settings

SETTINGS = load_settings({})
SAMPLE = pl.Schema(
    {
        "shard": pl.String(),
        "source_group": pl.String(),
        "n_tokens": pl.Int64(),
        "embedding": pl.List(pl.Float32),
    }
)
METRICS = pl.Schema({"shard": pl.String, "metric": pl.String, "value": pl.Float64})


def metrics_frame(shards: dict[str, dict[str, float]]) -> pl.DataFrame:
    rows = [(key, metric, v) for key, found in shards.items() for metric, v in found.items()]
    return pl.DataFrame(rows, schema=METRICS, orient="row")


def failures(report: Report, check: str) -> tuple[Finding, ...]:
    (summary,) = [summary for summary in report.checks if summary.check == check]
    return summary.failed


def wide(shards: dict[str, dict[str, float]]) -> pl.DataFrame:
    return metrics_frame(shards).pivot(on="metric", index="shard", values="value")


def sample_frame(directions: dict[str, list[float]], n: int = 60) -> pl.DataFrame:
    random = np.random.default_rng(0)
    rows = [
        (shard, "folder", 12, (np.array(direction) + random.normal(0, 0.1, 3)).tolist())
        for shard, direction in directions.items()
        for _ in range(n)
    ]
    return pl.DataFrame(rows, schema=SAMPLE, orient="row")


BIG = {
    "documents": 10.0,
    "chunks": 300.0,
    "tokens": 3000.0,
    "coverage": 1.0,
    "norm_min": 0.9,
    "norm_max": 1.0,
    "duplicate_text_share": 0.2,
    "effective_rank_share": 0.4,
    "padding_waste": 0.01,
    "tokens_per_second": 1000.0,
}
SMALL = {
    "documents": 1.0,
    "rejected": 2.0,
    "chunks": 100.0,
    "tokens": 1000.0,
    "coverage": 0.5,
    "norm_min": 1.0,
    "norm_max": 1.1,
    "duplicate_text_share": 0.6,
    "effective_rank_share": 0.1,
    "padding_waste": 0.05,
    "tokens_per_second": 500.0,
}
REUSED = {"documents": 1.0, "chunks": 0.0, "tokens": 9e6, "reused_share": 1.0}


def test_summary_weighs_every_shard_by_its_size() -> None:
    summary = corpus_summary(wide({"big": BIG, "small": SMALL}))
    expected = {
        "shards": 2.0,
        "documents": 11.0,
        "chunks": 400.0,
        "tokens": 4000.0,
        "coverage": 0.5,
        "norm_min": 0.9,
        "norm_max": 1.1,
        "duplicate_text_share": 0.3,
        "padding_waste": 0.02,
        # 3 s for the big shard and 2 s for the small one.
        "tokens_per_second": 4000 / 5,
    }
    assert {name: summary[name] for name in expected} == pytest.approx(expected)


def test_vectors_that_were_reused_do_not_count_as_speed() -> None:
    summary = corpus_summary(wide({"big": BIG, "reused": REUSED | {"tokens_per_second": 1e9}}))
    assert summary["tokens_per_second"] == pytest.approx(1000.0)
    assert summary["padding_waste"] == pytest.approx(0.01)
    assert summary["reused_share"] == 1.0


@pytest.mark.usefixtures("without_pictures")
def test_shards_to_look_at_come_with_the_reason() -> None:
    sample = sample_frame({"big": [1, 0, 0], "small": [1, 0.2, 0], "odd": [-1, 0.2, 0]})
    report = corpus_report(metrics_frame({"big": BIG, "small": SMALL}), sample, SETTINGS)
    assert report.worst_shards.schema == WORST_SHARDS
    first = report.worst_shards.group_by("reason", maintain_order=True).first()
    assert first.select("reason", "shard").rows() == [
        ("files or records rejected", "small"),
        ("chunks without a vector", "small"),
        ("mean vector far from the corpus's", "odd"),
        ("repeated texts", "small"),
        ("least effective rank", "small"),
        ("slow", "small"),
    ]
    assert [finding.shard for finding in failures(report, "shards_near_centroid")] == ["odd"]
    assert [finding.shard for finding in failures(report, "few_duplicates")] == ["small"]


@pytest.mark.usefixtures("without_pictures")
def test_a_handful_of_sampled_vectors_accuses_no_shard() -> None:
    few = sample_frame({"odd": [-1, 0, 0]}, MIN_VECTORS_FOR_MEAN - 1)
    sample = pl.concat([sample_frame({"a": [1, 0, 0], "b": [1, 0, 0.1]}), few])
    report = corpus_report(metrics_frame({"a": BIG}), sample, SETTINGS)
    assert failures(report, "shards_near_centroid") == ()


def test_an_empty_corpus_has_a_report() -> None:
    report = corpus_report(pl.DataFrame(schema=METRICS), pl.DataFrame(schema=SAMPLE), SETTINGS)
    assert report.summary == {"shards": 0.0}
    assert report.worst_shards.height == 0
    assert "| shards | 0 |" in report_markdown(report, "notes")


def test_markdown_holds_numbers_and_pictures_and_stays_small() -> None:
    metrics = metrics_frame({f"shard-{i}": BIG for i in range(12)})
    report = corpus_report(metrics, sample_frame({"shard-0": [1, 0, 0]}), SETTINGS)
    markdown = report_markdown(report, "notes")
    assert set(report.plots) == {
        "vector_map",
        "pairwise_similarity",
        "token_lengths",
        "norms",
        "throughput",
    }
    assert {"mean_pairwise_cosine", "uniformity", "effective_rank"} <= set(report.summary)
    assert markdown.count("](data:image/png;base64,") == len(report.plots)
    assert "| chunks | 3,600 |" in markdown
    assert "| chunks that repeat another's text | 20.00% |" in markdown
    for check in (*BLOCKING_CHECKS, *WARNING_CHECKS):
        assert f"| {check} | ✓\u00a0passed |" in markdown
    assert len(markdown) < 200_000


def test_a_forged_shard_key_cannot_load_an_image() -> None:
    forged = "![x](https://evil.test/a)|"
    sample = sample_frame({"a": [1, 0, 0], "b": [1, 0, 0], forged: [-1, 0, 0]})
    report = corpus_report(metrics_frame({forged: SMALL}), sample, SETTINGS)
    markdown = re.sub(
        r"data:image/png;base64,[A-Za-z0-9+/=]+", "", report_markdown(report, "notes")
    )
    assert "evil" in markdown
    assert "https:" not in markdown
    assert "//" not in markdown
    assert "![x]" not in markdown


@pytest.mark.usefixtures("without_pictures")
def test_a_shard_to_look_at_is_a_link_to_its_partition() -> None:
    report = corpus_report(metrics_frame({"small": SMALL}), sample_frame({}), SETTINGS)
    link = "[small](../../assets/notes/embeddings?view=partitions&partition=small)"
    assert f"| {link} | repeated texts | 60.0% of chunks | at most 50% |" in report_markdown(
        report, "notes"
    )


@pytest.mark.usefixtures("without_pictures")
def test_a_blocking_check_names_shards_and_chunks() -> None:
    bad = Finding("norms_right", False, "small", "1 of 9 norms are wrong", ("chunk-1", "chunk-2"))
    report = corpus_report(
        metrics_frame({"small": SMALL}), sample_frame({}), SETTINGS, findings=[bad]
    )
    line = "1 of 1 shard failed: small: 1 of 9 norms are wrong (chunks chunk-1, chunk-2)"
    assert f"| norms_right | ✗\u00a0FAILED | {line} |" in report_markdown(report, "notes")


@pytest.mark.usefixtures("without_pictures")
def test_money_is_device_time_at_the_price_of_an_hour() -> None:
    timed = {"device_seconds": 1800.0, "embedded_tokens": 500_000.0}
    # Made before device time was kept: in neither sum.
    old = {"embedded_tokens": 9e9}
    metrics = metrics_frame({"a": BIG | timed, "b": SMALL | timed, "c": SMALL | old})
    with_price = SETTINGS.model_copy(update={"price_per_hour": 3.0})
    summary = corpus_report(metrics, sample_frame({}), with_price).summary
    assert summary["device_seconds"] == 3600.0
    assert summary["cost"] == pytest.approx(3.0)
    assert summary["cost_per_million_tokens"] == pytest.approx(3.0)
    assert "cost" not in corpus_report(metrics, sample_frame({}), SETTINGS).summary
