"""A second pipeline over the documents of a first one, without Dagster."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from embed_assets.cli import main
from embed_assets.doctor.child import Child
from embed_assets.doctor.examination import examine
from embed_assets.errors import InputError, SettingsError
from embed_assets.opened_pipeline import OpenedPipeline
from embed_assets.pipeline import chunk_shard, embed_shard, measure_shard
from embed_assets.search import search
from embed_assets.settings import PipelineSettings, load_settings
from embed_assets.siblings import Declared, side_by_side
from embed_assets.standing_tables import open_standing_tables
from embed_assets.tables.table import Superseded
from embed_assets_tests.small_pipelines import (
    read,
    run,
    settings_for,
    shard_of,
    versions,
    write_files,
)

FILES = {
    f"{name}.txt": f"File {name} is about {name} {{n}} times. ".format(n=9) * 40 for name in "abc"
}


@pytest.fixture
def first(tmp_path: Path, tiny_bert: Path) -> PipelineSettings:
    """A pipeline of three shards that has run."""
    (tmp_path / "corpus").mkdir()
    write_files(tmp_path / "corpus", FILES)
    settings = settings_for(tmp_path, tiny_bert, name="first")
    run(settings)
    return settings


@pytest.fixture
def second(tmp_path: Path, tiny_bert: Path, first: PipelineSettings) -> PipelineSettings:
    """The same documents in other chunks."""
    own = {"name": "second", "tables": f"{tmp_path}/second", "documents_of": "first"}
    how = {"model": str(tiny_bert), "max_tokens": 16, "device": "cpu", "backend": "torch"}
    both = [Declared(first, "first"), Declared(load_settings({**own, **how}), "second")]
    return side_by_side(both)["second"]


def run_second(settings: PipelineSettings) -> list[str]:
    """One whole run; the shards that it had to do."""
    pipeline = OpenedPipeline(settings)
    pipeline.prepare()
    shards = list(pipeline.stale_shards())
    for shard in shards:
        chunk_shard(shard, pipeline)
        embed_shard(shard, pipeline, pipeline.encoder)
        measure_shard(shard, pipeline)
    return shards


def test_the_documents_are_embedded_in_tables_of_its_own_and_read_only_once(
    first: PipelineSettings, second: PipelineSettings, tmp_path: Path
) -> None:
    before = versions(first)
    assert len(run_second(second)) == 3
    assert run_second(second) == []
    assert versions(first) == before
    assert set(versions(second)) == {"chunks", "embeddings", "quality_metrics", "fingerprints"}
    chunks, documents = read(second, "chunks"), read(first, "raw_corpus")
    assert set(chunks["doc_id"]) == set(documents["doc_id"])
    assert chunks["n_tokens"].max() == 16
    assert chunks.height > read(first, "chunks").height
    assert read(second, "embeddings").height == chunks.height


def test_a_document_that_changed_is_embedded_again_and_no_other(
    first: PipelineSettings, second: PipelineSettings, tmp_path: Path
) -> None:
    run_second(second)
    write_files(tmp_path / "corpus", {"b.txt": "Something else altogether. " * 40})
    # Nothing to do yet: the first one has not read the file.
    assert run_second(second) == []
    run(first)
    pipeline = OpenedPipeline(second)
    pipeline.plan()
    changed = shard_of(first, "b.txt")
    assert pipeline.stale_shards()[changed].reason == "changed text or chunking"
    assert run_second(second) == [changed]
    assert "Something else" in read(second, "chunks").filter(shard=changed)["text"][0]


def test_a_shard_that_is_gone_takes_its_rows_with_it(
    first: PipelineSettings, second: PipelineSettings, tmp_path: Path
) -> None:
    run_second(second)
    gone = shard_of(first, "c.txt")
    (tmp_path / "corpus" / "c.txt").unlink()
    run(first)
    assert run_second(second) == []
    for table in ("chunks", "embeddings", "quality_metrics"):
        assert gone not in set(read(second, table)["shard"])
        assert read(second, table)["shard"].n_unique() == 2


def test_a_shard_that_was_deleted_meanwhile_is_not_published(
    first: PipelineSettings, second: PipelineSettings, tmp_path: Path
) -> None:
    gone = shard_of(first, "c.txt")
    slow = OpenedPipeline(second)
    slow.prepare()
    (tmp_path / "corpus" / "c.txt").unlink()
    # The manifest is there already, its rows are not gone yet.
    documents = OpenedPipeline(first).tables.raw_corpus.read(gone)
    run(first)
    OpenedPipeline(first).tables.raw_corpus.publish(gone, documents, None)
    with pytest.raises(Superseded, match="another run has seen newer files"):
        chunk_shard(gone, slow)


def test_search_status_and_doctor_find_the_documents_by_the_tables_alone(
    first: PipelineSettings, second: PipelineSettings
) -> None:
    run_second(second)
    best = search(open_standing_tables(second.tables), "File b is about b", 3, "cpu")
    assert {hit.source for hit in best} <= set(FILES)
    with Child() as child:
        assert examine(second.tables, child) == []
    result = CliRunner().invoke(main, ["status", "--tables", second.tables])
    assert f"shards, raw_corpus and rejected under {first.tables}" in result.output
    (counted,) = [line for line in result.output.splitlines() if line.startswith("raw_corpus ")]
    assert counted.split()[1:3] == ["3", "3"]


def test_doctor_tells_of_shards_whose_documents_changed(
    first: PipelineSettings, second: PipelineSettings, tmp_path: Path
) -> None:
    run_second(second)
    write_files(tmp_path / "corpus", {"b.txt": "Something else altogether. " * 40})
    run(first)
    with Child() as child:
        (finding,) = examine(second.tables, child)
    assert (finding.kind.value, finding.table) == ("stale shard", "chunks")
    assert finding.where == shard_of(first, "b.txt")


def test_int8_is_fitted_to_the_documents(
    first: PipelineSettings, second: PipelineSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embed_assets.opened_pipeline.resolve_precision", lambda _: "int8")
    sample = OpenedPipeline(second).calibration
    assert sample is not None
    assert 0 < sample.frame.height <= 128


def test_tables_of_other_documents_are_not_emptied(
    first: PipelineSettings, second: PipelineSettings
) -> None:
    run_second(second)
    own = load_settings({"name": "second", "corpus": first.corpus, "tables": second.tables})
    with pytest.raises(InputError, match="made from the documents of the pipeline 'first'"):
        OpenedPipeline(own).plan()
    assert read(second, "embeddings")["shard"].n_unique() == 3


def test_before_the_first_has_run_the_second_says_so(
    tmp_path: Path, second: PipelineSettings
) -> None:
    elsewhere = second.model_copy(update={"documents_tables": f"{tmp_path}/nothing"})
    with pytest.raises(InputError, match="run 'first' first"):
        OpenedPipeline(elsewhere).plan()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"documents_of": "first", "corpus": "x"}, "corpus: the documents come from"),
        ({"documents_of": "first", "max_records": 5}, "max_records: the documents come"),
        ({"documents_of": "second"}, "is the pipeline itself"),
        ({"documents_tables": "tables/first"}, "goes with documents_of"),
    ],
)
def test_settings_that_do_not_go_together(values: dict[str, object], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        load_settings({"name": "second", **values})


def declared(name: str, **values: object) -> Declared:
    return Declared(load_settings({"name": name, **values}), f"defs/{name}/defs.yaml")


@pytest.mark.parametrize(
    ("pipelines", "said"),
    [
        ([declared("a"), declared("a", tables="t")], r"called 'a': defs/a/defs.yaml and defs/a"),
        (
            [declared("a", tables="t"), declared("b", tables="t/")],
            r"'a' \(.*'b' \(.*same tables, t:",
        ),
        ([declared("a"), declared("b", documents_of="c")], "no such pipeline .*there is a"),
        (
            [declared("a"), declared("b", documents_of="a"), declared("c", documents_of="b")],
            "set documents_of to that one",
        ),
    ],
)
def test_pipelines_in_each_others_way(pipelines: list[Declared], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        side_by_side(pipelines)


def test_one_of_another_project_is_found_by_its_tables() -> None:
    there = declared("b", documents_of="elsewhere", documents_tables="/tables/elsewhere")
    assert side_by_side([there])["b"].documents_tables == "/tables/elsewhere"
