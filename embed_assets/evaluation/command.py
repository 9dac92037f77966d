"""`embed-assets evaluate`: score one model in one or several precisions, and tell."""

from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path

from embed_assets.errors import SettingsError
from embed_assets.evaluation.beir import BeirSet, load_beir
from embed_assets.evaluation.report import json_line, print_table, text_bar, write_per_query
from embed_assets.evaluation.retrieval import OnTexts, score_retrieval
from embed_assets.evaluation.scores import Scores, Task
from embed_assets.evaluation.sts import SentencePairs, load_pairs, score_sts
from embed_assets.evaluation.text_embedder import TextEmbedder, resolved_precision
from embed_assets.settings import PipelineSettings

# As many as a pipeline's own sample has (`embed_assets.calibration`).
_N_SAMPLED = 128


def run_evaluation(
    settings: PipelineSettings,
    precisions: Sequence[str],
    task: Task,
    say: Callable[[str], None],
    *,
    per_query: Path | None,
    as_json: bool,
) -> None:
    """Score, write the per-query file, print a table and, if asked, one line of JSON at the end.

    Everything is read and checked before any text is embedded. Raises InputError for what cannot
    be read or scored.
    """
    _check(task, per_query)
    beir = load_beir(task.beir, task.split) if task.beir else None
    pairs = load_pairs(task.sts) if task.sts else None
    for note in beir.notes if beir else ():
        say(f"note: {note}")
    names = dict.fromkeys(resolved_precision(settings, name) for name in precisions)
    with text_bar(beir.corpus.n_texts * len(names) if beir else 0) as on_texts:
        scores = [_scored(settings, name, task, beir, pairs, on_texts) for name in names]
    if per_query is not None:
        write_per_query(per_query, scores)
    print_table(scores)
    if as_json:
        say(json_line(scores, _about(settings, task, beir, pairs)))


def _check(task: Task, per_query: Path | None) -> None:
    if task.beir is None and task.sts is None:
        raise SettingsError("nothing to score on; give --beir DIR or --sts FILE, or both")
    if per_query is None:
        return
    if task.beir is None:
        raise SettingsError("--per-query needs queries; give --beir DIR")
    if per_query.is_dir() or not per_query.absolute().parent.is_dir():
        raise SettingsError(f"--per-query is {per_query}, expected a file in an existing folder")


def _scored(
    settings: PipelineSettings,
    precision: str,
    task: Task,
    beir: BeirSet | None,
    pairs: SentencePairs | None,
    on_texts: OnTexts,
) -> Scores:
    sample = _sample(beir, pairs) if precision == "int8" else []
    embedder = TextEmbedder(settings, precision, sample)
    retrieval = spearman = None
    if beir is not None:
        whole = task.one_vector_per_document
        retrieval = score_retrieval(
            beir, embedder, one_vector_per_document=whole, on_texts=on_texts
        )
    if pairs is not None:
        spearman = score_sts(pairs, embedder)
    return Scores(precision, embedder.max_tokens, retrieval, spearman)


def _sample(beir: BeirSet | None, pairs: SentencePairs | None) -> list[str]:
    """Some of the documents or sentences, spread over all of them."""
    if beir is not None:
        return list(islice(beir.corpus.texts(), 0, None, -(-beir.corpus.n_texts // _N_SAMPLED)))
    sentences = pairs.first if pairs else ()
    return list(sentences[:: -(-len(sentences) // _N_SAMPLED)])


def _about(
    settings: PipelineSettings, task: Task, beir: BeirSet | None, pairs: SentencePairs | None
) -> dict[str, object]:
    about: dict[str, object] = {"model": settings.model}
    if beir is not None:
        about |= {
            "split": task.split,
            "n_queries": len(beir.queries),
            "n_documents": len(beir.corpus.ids),
            "one_vector_per_document": task.one_vector_per_document,
            "notes": beir.notes,
        }
    if pairs is not None:
        about["n_pairs"] = len(pairs.scores)
    return about
