"""What `embed-assets evaluate` shows and writes: a table, a line of JSON, a file of queries."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.progress import Progress
from rich.table import Table

from embed_assets.evaluation.estimate import Estimate
from embed_assets.evaluation.retrieval import OnTexts
from embed_assets.evaluation.scores import Scores, relative_loss
from embed_assets.terminal import console

_TITLES = {
    "ndcg_at_10": "nDCG@10",
    "recall_at_10": "Recall@10",
    "recall_at_100": "Recall@100",
    "mrr_at_10": "MRR@10",
    "spearman": "Spearman",
}


@contextmanager
def text_bar(n_texts: int) -> Iterator[OnTexts]:
    """A bar on standard error that moves with the texts embedded; none where nobody looks."""
    out = console(stderr=True)
    with Progress(console=out, disable=not out.is_terminal or not n_texts, transient=True) as bar:
        task = bar.add_task("texts", total=n_texts)
        yield lambda n: bar.advance(task, n)


def print_table(scores: Sequence[Scores]) -> None:
    """A row per precision and metric: value, 95% interval, and what the first one has more."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("precision", "metric"):
        table.add_column(title)
    for title in ("value", "95% interval", *(["relative loss"] if len(scores) > 1 else [])):
        table.add_column(title, justify="right")
    for own in scores:
        losses = relative_loss(scores[0].estimates, own.estimates)
        for name, estimate in own.estimates.items():
            loss = losses[name]
            shown = "" if own is scores[0] or loss is None else f"{loss:.2%}"
            value = f"{estimate.value:.5f}"
            table.add_row(own.precision, _TITLES[name], value, _interval(estimate), shown)
    console().print(table)


def _interval(estimate: Estimate) -> str:
    if estimate.interval is None:
        return ""
    low, high = estimate.interval
    return f"{low:.4f} to {high:.4f}"


def json_line(scores: Sequence[Scores], about: Mapping[str, object]) -> str:
    """One object: the first precision's values, what it is about, and the others by name."""
    first, *others = scores
    compared = {
        other.precision: {
            **_values(other),
            "relative_loss": relative_loss(first.estimates, other.estimates),
        }
        for other in others
    }
    said = {**_values(first), "precision": first.precision, "max_tokens": first.max_tokens, **about}
    return json.dumps(said | ({"precisions": compared} if compared else {}), allow_nan=False)


def _values(scores: Scores) -> dict[str, object]:
    estimates = scores.estimates
    return {
        **{name: own.value for name, own in estimates.items()},
        "intervals": {name: own.interval for name, own in estimates.items()},
    }


def write_per_query(path: Path, scores: Iterable[Scores]) -> None:
    """JSONL: precision, query_id and the four values, for each query in each precision."""
    with path.open("w", encoding="utf-8") as file:
        for own in scores:
            if own.retrieval is None:
                continue
            for i, query in enumerate(own.retrieval.query_ids):
                values = {name: float(v[i]) for name, v in own.retrieval.per_query.items()}
                line = {"precision": own.precision, "query_id": query, **values}
                file.write(json.dumps(line) + "\n")
