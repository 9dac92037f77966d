"""The corpus report as Markdown for the Dagster UI.

Holds shard keys, numbers, fixed words and pictures alone, never text of the corpus, because
Markdown in the Dagster UI may load images.
"""

import base64
import re
from collections.abc import Mapping, Sequence

from embed_assets.quality.check_summary import CheckSummary
from embed_assets.quality.report import Report

# Section -> metric -> how it is called.
_SECTIONS: Mapping[str, Mapping[str, str]] = {
    "Corpus": {
        "shards": "shards",
        "documents": "documents",
        "chunks": "chunks",
        "tokens": "tokens",
        "rejected": "files or records rejected",
        "embedding_bytes": "size of the vectors",
        "duplicate_text_share": "chunks that repeat another's text",
        "near_duplicate_share": "texts with a near-duplicate (cosine above 0.99)",
    },
    "Work": {
        "tokens_per_second": "tokens per second on a device",
        "padding_waste": "padding waste",
        "reused_share": "tokens whose vectors were reused",
        "device_seconds": "device time",
        "cost": "cost",
        "cost_per_million_tokens": "cost of a million tokens",
    },
    "Vectors": {
        "coverage": "chunks with a vector, in the worst shard",
        "non_finite_share": "vectors that are not finite",
        "norm_min": "least norm",
        "norm_max": "greatest norm",
        "mean_pairwise_cosine": "mean cosine of two vectors (near 1: collapsed)",
        "uniformity": "uniformity (0: collapsed, lower is more even)",
        "effective_rank": "effective rank",
        "effective_rank_share": "effective rank of the most possible",
    },
    "Since the corpus was last different": {
        "drift_centroid_distance": "mean vector moved by (cosine distance)",
        "drift_new_text_share": "texts that are new",
    },
    "Against the previous fingerprint, the same texts": {
        "drift_texts": "texts compared",
        "drift_neighbour_overlap": "10 nearest neighbours that are the same",
        "drift_similarity_correlation": "rank correlation of similarities (1: same order)",
        "drift_mean_pairwise_cosine": "mean cosine of two vectors, change",
        "drift_effective_rank": "effective rank, change",
    },
}
_SIGNED = {"drift_mean_pairwise_cosine", "drift_effective_rank"}
_SHARES = {"coverage", "padding_waste", "drift_neighbour_overlap"}
# In the order of the report.
_CAPTIONS = {
    "vector_map": "Map of the vectors by source folder",
    "drift": "Similarities before and after the change of model",
    "throughput": "Embedding speed by shard",
    "pairwise_similarity": "Similarity of two vectors",
    "token_lengths": "Chunk lengths",
    "norms": "Vector norms",
}


def report_markdown(report: Report, pipeline: str) -> str:
    """Report as Markdown, pictures inline as data URLs, shards as links to their partitions."""
    parts = ["### Checks", _checks(report.checks)]
    if report.worst_shards.height:
        rows = [
            (_link(pipeline, shard), _safe(reason), _safe(value), _safe(limit or ""))
            for shard, reason, value, limit in report.worst_shards.iter_rows()
        ]
        header = ("shard", "because of", "value", "limit")
        parts += ["### Shards to look at first", _table(header, rows)]
    for name in sorted(report.plots, key=list(_CAPTIONS).index):
        data = base64.b64encode(report.plots[name]).decode("ascii")
        parts.append(f"![{_CAPTIONS[name]}](data:image/png;base64,{data})")
    for section, names in _SECTIONS.items():
        found = [
            (label, metric_text(name, report.summary[name]))
            for name, label in names.items()
            if name in report.summary
        ]
        if found:
            parts += [f"### {section}", _table(("", ""), found)]
    return "\n\n".join(parts) + "\n"


def metric_text(name: str, value: float) -> str:
    """A metric's value as a person reads it, with its unit."""
    if name in _SIGNED:
        return f"{value:+.4g}"
    if name.endswith("_share") or name in _SHARES:
        return f"{value:.2%}"
    if name == "embedding_bytes":
        return f"{value / 2**20:,.1f} MiB"
    if name == "device_seconds":
        return f"{value:,.1f} s"
    if name.startswith("norm_"):
        return f"{value:.6f}"
    if value == int(value) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def _checks(summaries: Sequence[CheckSummary]) -> str:
    marks = {"passed": "✓\u00a0passed", "warning": "⚠\u00a0warning", "FAILED": "✗\u00a0FAILED"}
    rows = [(summary.check, marks[summary.word], _safe(summary.sentence)) for summary in summaries]
    return _table(("check", "result", "shards"), rows)


def _link(pipeline: str, shard: str) -> str:
    """The shard's partition in the UI.

    Relative to the asset's page, /assets/PIPELINE/quality_report, so that it also leads there
    behind a path prefix; from a run's page, /runs/ID, without a prefix.
    """
    key = _key(shard)
    page = f"../../assets/{pipeline}/embeddings?view=partitions&partition={key}"
    return f"[{key}]({page})"


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [header, ("---",) * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _key(key: str) -> str:
    """Shard key with all that is not a key's character cut out, so that it cannot be markup."""
    return re.sub(r"[^A-Za-z0-9_-]", "", key)


def _safe(text: str) -> str:
    """Text whose characters mean nothing in Markdown or HTML: a forged key is in a sentence, too.

    Cut out rather than escaped, and what would become a link without any mark is cut apart.
    """
    plain = re.sub(r"[^\w\s.,:;%+/()'~-]", "", text)
    return re.sub(r":(?=\S)|//|(?<=www)\.", " ", plain)
