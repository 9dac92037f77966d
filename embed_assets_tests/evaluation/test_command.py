"""`embed-assets evaluate` as a person or a script meets it."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from embed_assets.cli import main
from embed_assets_tests.evaluation.beir_sets import write_lines, write_set
from embed_assets_tests.tiny_models import TEXTS


@pytest.fixture
def beir(tmp_path: Path) -> Path:
    documents = {"hare": "the hare", "tortoise": "the tortoise", "東京": "東京"}
    queries = {"q1": "the hare", "q2": "the tortoise"}
    judged = [("q1", "hare", 1), ("q2", "東京", 1), ("q2", "gone", 1)]
    return write_set(tmp_path / "set", documents, queries, judged)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    rows = ["score\tsentence1\tsentence2", "5\ta hare\ta hare", "1\ta hare\t東京", "2\ta\tfox"]
    return write_lines(tmp_path / "pairs.tsv", rows)


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["evaluate", *map(str, arguments), "--device", "cpu"])


def last_line(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return found


def test_the_last_line_is_one_json_object_with_every_value(
    beir: Path, pairs: Path, tiny_bert: Path, tmp_path: Path
) -> None:
    result = invoke(
        "--beir", beir, "--sts", pairs, "--model", tiny_bert, "--one-vector-per-document",
        "--precision", "fp32", "--precision", "bf16", "--per-query", tmp_path / "q.jsonl", "--json",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "note: 1 judgements name documents that are not in the corpus" in result.stdout
    found = last_line(result)
    assert found["precision"] == "fp32"
    assert found["ndcg_at_10"] == pytest.approx((1 + 0.5 / (1 + 0.63093)) / 2, abs=1e-5)
    assert found["recall_at_10"] == found["recall_at_100"] == 0.75
    assert found["mrr_at_10"] == pytest.approx((1 + 1 / 3) / 2)
    assert -1 <= found["spearman"] <= 1
    assert (found["n_queries"], found["n_documents"], found["n_pairs"]) == (2, 3, 3)
    other = found["precisions"]["bf16"]
    assert other["relative_loss"]["mrr_at_10"] == 1 - other["mrr_at_10"] / found["mrr_at_10"]
    assert {"nDCG@10", "Recall@100", "MRR@10", "Spearman"} <= set(result.stdout.split())

    lines = [json.loads(line) for line in (tmp_path / "q.jsonl").read_text().splitlines()]
    assert [(line["precision"], line["query_id"]) for line in lines] == [
        (precision, query) for precision in ("fp32", "bf16") for query in ("q1", "q2")
    ]
    assert lines[0]["ndcg_at_10"] == lines[0]["mrr_at_10"] == lines[0]["recall_at_10"] == 1


def test_without_options_it_chunks_and_auto_says_what_it_chose(beir: Path, tiny_bert: Path) -> None:
    result = invoke("--beir", beir, "--model", tiny_bert, "--json")
    found = last_line(result)
    assert found["one_vector_per_document"] is False
    assert found["precision"] in ("fp32", "bf16", "fp16", "int8")
    assert "spearman" not in found
    assert "precisions" not in found


def test_int8_is_fitted_to_the_set_and_told_beside_fp32(
    beir: Path, pairs: Path, tiny_bert: Path
) -> None:
    pytest.importorskip("nncf")
    asked = ("--model", tiny_bert, "--precision", "fp32", "--precision", "int8", "--json")
    for arguments, metric in ((("--beir", beir), "ndcg_at_10"), (("--sts", pairs), "spearman")):
        found = last_line(invoke(*arguments, *asked))
        assert found["precision"] == "fp32"
        assert metric in found["precisions"]["int8"]["relative_loss"]


def test_a_prompt_stands_before_each_text(tiny_bert: Path, tmp_path: Path) -> None:
    documents = {f"d{i}": line for i, line in enumerate(TEXTS[0].split()) if line}
    queries = {f"q{i}": f"a {text}" for i, text in enumerate(documents.values())}
    judged = [(query, document, 1) for query, document in zip(queries, documents, strict=True)]
    plain = write_set(tmp_path / "plain", documents, queries, judged)
    prompted = write_set(
        tmp_path / "prompted",
        {document: f"passage: {text}" for document, text in documents.items()},
        {query: f"query: {text}" for query, text in queries.items()},
        judged,
    )
    prompts = ("--query-prompt", "query: ", "--document-prompt", "passage: ")
    values = [
        last_line(invoke("--beir", *arguments, "--model", tiny_bert, "--json"))
        for arguments in ((plain, *prompts), (prompted,), (plain,))
    ]
    assert values[0]["mrr_at_10"] == values[1]["mrr_at_10"] != values[2]["mrr_at_10"]


def test_wrong_usage_is_one_line_and_code_2(beir: Path, pairs: Path, tiny_bert: Path) -> None:
    for arguments, said in (
        ((), "give --beir DIR or --sts FILE"),
        (("--sts", pairs, "--per-query", "q.jsonl"), "--per-query needs queries"),
        (("--beir", beir, "--per-query", beir / "absent/q.jsonl"), "in an existing folder"),
        (("--beir", beir, "--max-tokens", "9999"), "more than the model takes"),
        (("--beir", beir, "--max-tokens", "few"), "setting 'max_tokens' is 'few'"),
    ):
        result = invoke(*arguments, "--model", tiny_bert)
        assert result.exit_code == 2
        assert said in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_what_cannot_be_read_is_one_line_and_code_1(beir: Path, tiny_bert: Path) -> None:
    (beir / "qrels/test.tsv").rename(beir / "qrels/dev.tsv")
    result = invoke("--beir", beir, "--model", tiny_bert)
    assert result.exit_code == 1
    assert "splits there: dev" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert invoke("--beir", beir, "--model", tiny_bert, "--split", "dev").exit_code == 0
