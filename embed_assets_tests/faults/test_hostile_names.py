"""Names and texts that would like to be more: shard keys, ids, titles, folders and contents never
become part of a predicate, a path, a page, a log or a commit.
"""

import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from embed_assets import rows
from embed_assets.errors import InputError, SettingsError
from embed_assets.orchestration.metadata import run_metadata, shard_metadata
from embed_assets.outcome import Outcome
from embed_assets.quality.check_summary import summarized
from embed_assets.quality.checks import WARNING_CHECKS, Finding
from embed_assets.quality.report import Report
from embed_assets.quality.report_markdown import report_markdown
from embed_assets.quality.worst_shards import WORST_SHARDS
from embed_assets.settings import PipelineSettings, load_settings
from embed_assets.shards import check_key, from_manifest
from embed_assets.sources.folder import FolderSource
from embed_assets.tables.delta import open_delta_tables
from embed_assets.tables.in_memory import InMemoryShardTable
from embed_assets.tables.table import ShardTable
from embed_assets_tests.orchestration.conftest import Project
from embed_assets_tests.small_pipelines import read, run, settings_for, write_files
from embed_assets_tests.tables.example_frames import raw_corpus

KEYS = [
    "",
    "x' OR '1'='1",
    "shard-000000' OR 'a'='a",
    "..",
    "../x",
    "a/b",
    "a\\b",
    "shard=b",
    "%2e%2e",
    "x" * 200,
    "a\nb",
    "shard-000000\n",
    "shard-0\0",
    "ſhard",
    "![](x)",
]
#: What a browser would act on, as Markdown or HTML.
MARKUP = [
    "![](http://127.0.0.1:3000/graphql?query=mutation)",
    "<img src=x onerror=alert(1)>",
    "[a](javascript:alert(1))",
    "`code`",
    "| a | b |",
    "</pre><script>alert(1)</script>",
]
MARKER = "Xylophagous"


@pytest.fixture(params=["delta", "in memory"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> ShardTable:
    if request.param == "delta":
        return open_delta_tables(f"{tmp_path}/tables").raw_corpus
    return InMemoryShardTable("raw_corpus")


@pytest.mark.parametrize("key", KEYS)
def test_a_hostile_shard_key_is_refused_wherever_it_enters(
    table: ShardTable, tmp_path: Path, key: str
) -> None:
    table.publish("shard-000000", raw_corpus("shard-000000"), None)
    before, files = table.states(), sorted(tmp_path.rglob("*"))
    manifest = pl.DataFrame(
        {"shard": [key], "source": ["a"], "start": [0], "end": [1], "n_bytes": [1]}
        | {"version": ["1-1"], "corpus": ["c"]}
    )
    for enter in (
        lambda: check_key(key),
        lambda: table.read(key),
        lambda: table.publish(key, raw_corpus(key), None),
        lambda: table.publish(key, rows.RAW_CORPUS.to_frame(), None),
        lambda: from_manifest(manifest),
    ):
        with pytest.raises(ValueError, match="is not usable; expected 1 to 128"):
            enter()
    assert table.states() == before
    assert sorted(tmp_path.rglob("*")) == files


@pytest.mark.parametrize("name", KEYS)
def test_a_hostile_pipeline_name_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="'name' is"):
        load_settings({"name": name})


@pytest.fixture
def records(tmp_path: Path) -> list[dict[str, str]]:
    """Records whose every part is hostile, in files of hostile names."""
    found = [
        {"id": f"{text} {n}", "title": text, "text": f"{text} {MARKER} {n}", text: MARKER}
        for n, text in enumerate([*MARKUP, *KEYS[1:]])
    ]
    lines = "".join(json.dumps(record) + "\n" for record in found)
    folders = ["<b>", "![](x)", "$\\frac{1}{0", "a|b`c`", "new\nline", "shard=x"]
    write_files(tmp_path / "corpus", {f"{name}/a.txt": f"{MARKER} {name}." for name in folders})
    write_files(tmp_path / "corpus", {"[a](b)/' OR 1=1 --.jsonl": lines})
    return found


def test_hostile_ids_and_titles_are_kept_as_they_are_and_change_nothing_else(
    tmp_path: Path, tiny_bert: Path, records: list[dict[str, str]]
) -> None:
    settings = settings_for(tmp_path, tiny_bert, id_column="id", title_column="title")
    run(settings)
    documents = read(settings, "raw_corpus").filter(pl.col("source").str.ends_with(".jsonl"))
    # NUL and all: these are data.
    titles = dict(documents.select("doc_id", "title").iter_rows())
    assert titles == {record["id"]: record["title"] for record in records}
    assert set(documents["doc_id"]) < set(read(settings, "embeddings")["doc_id"])
    for path in Path(settings.tables).rglob("*"):
        assert re.fullmatch(r"[\w=.-]+", path.name, re.ASCII), path
    assert {path.name for path in tmp_path.iterdir()} == {"corpus", "tables"}


@pytest.fixture
def project(tmp_path: Path, tiny_bert: Path, records: list[dict[str, str]]) -> Iterator[Project]:
    """The hostile corpus with damaged files beside it, through Dagster."""
    broken = {
        "json.jsonl": f'{{"text": "{MARKER}", {MARKER}\n"{MARKER}"\n{{"text": ["{MARKER}"]}}\n',
        "csv.csv": f'text,id\n"{MARKER}"{MARKER},1\n{MARKER}\n"{MARKER}',
        "twice.jsonl": f'{{"text": "a", "id": "{MARKER}"}}\n' * 2,
        f"x.{MARKER}": "",
        "y.<script>": "",
    }
    write_files(tmp_path / "corpus", broken)
    (tmp_path / "corpus" / "latin.txt").write_bytes(f"{MARKER} caf\xe9".encode("latin-1"))
    (tmp_path / "corpus" / "bad.parquet").write_bytes(f"PAR1{MARKER * 9}PAR1".encode())
    (tmp_path / "corpus" / "bad.txt.gz").write_bytes(MARKER.encode())
    settings = settings_for(
        tmp_path, tiny_bert, name="hostile", id_column="id", title_column="title"
    )
    with dg.DagsterInstance.ephemeral() as instance:
        yield Project(settings, instance)


def run_all(project: Project) -> list[dg.ExecuteInProcessResult]:
    first = project.run("shards")
    results = [first, project.run("embed", *project.shards), project.run("report")]
    assert all(result.success for result in results)
    return results


def shown(project: Project, results: list[dg.ExecuteInProcessResult]) -> list[str]:
    """Every event of the runs as Dagster stores it, and so all that its UI can show."""
    entries = [e for result in results for e in project.instance.all_logs(result.run_id)]
    return [dg.serialize_value(entry) for entry in entries]


def test_no_text_of_a_corpus_reaches_a_page_a_log_or_a_commit(
    project: Project, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    results = run_all(project)
    settings = project.settings
    assert read(settings, "chunks")["text"].str.contains(MARKER).sum() > 20
    events = "\n".join(shown(project, results))
    commits = "\n".join(
        path.read_text() for path in Path(settings.tables).glob("*/_delta_log/*.json")
    )
    assert "dagster/row_count" in events
    assert '"operation":"WRITE"' in commits
    printed = capfd.readouterr()
    for place in (events, commits, caplog.text, printed.out, printed.err):
        for text in (MARKER, *MARKUP):
            assert text.lower() not in place.lower()
    rejected = read(settings, "rejected")
    assert rejected.height >= 9
    assert not rejected["reason"].str.contains(MARKER).any()
    assert not rejected["detail"].str.contains(MARKER).any()


def test_nothing_that_a_browser_acts_on_is_in_what_dagster_takes_for_markdown() -> None:
    findings = tuple(Finding("shards_near_centroid", False, text, "far", ()) for text in MARKUP)
    rows = [(text, "low", text, None) for text in MARKUP]
    worst = pl.DataFrame(rows, schema=WORST_SHARDS, orient="row")
    for first in findings:
        checks = tuple(summarized(WARNING_CHECKS, [first]))
        report = Report({"shards": 1.0}, checks, {"norms": b"png"}, worst)
        markdown = report_markdown(report, "notes")
        without_ours = markdown.replace("![Vector norms](data:image/png;base64,cG5n)", "")
        link = r"\[[\w-]*\]\(\.\./\.\./assets/notes/embeddings\?view=partitions&partition=[\w-]*\)"
        without_ours = re.sub(link, "", without_ours)
        assert not re.search(r"[<>`\[\]!]|\w:\w|//|www\.", without_ours)
        n_columns = {line.count("|") for line in markdown.splitlines() if line.startswith("|")}
        assert n_columns <= {3, 4, 5}
    for text in MARKUP:
        outcome = Outcome(text, "embeddings", True, 1, {"seconds": 1.0}, findings)
        for value in (*shard_metadata(outcome).values(), *_of_the_run(outcome).values()):
            assert isinstance(value.value, int | float | bool)


def _of_the_run(outcome: Outcome) -> dict[str, dg.MetadataValue]:
    """What a run's events show, but for the lineage, which names our own columns alone."""
    shown = run_metadata(PipelineSettings(), "embeddings", [outcome], {})
    assert outcome.shard not in str(shown.pop("dagster/column_lineage"))
    return shown


def test_a_corpus_that_cannot_be_read_is_described_without_its_names(tmp_path: Path) -> None:
    for name in ("a.<img src=x>", "b.![](x)", "c.new\nline", "d.pdf", "e." + "x" * 200):
        write_files(tmp_path, {name: "text"})
    with pytest.raises(InputError) as caught:
        FolderSource(str(tmp_path), PipelineSettings()).files()
    assert "found: 4 (odd suffix), 1 .pdf; readable types" in str(caught.value)


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({"include": ["*.txt"]}, ["a\nb/c\nd.txt", "e\n.txt"]),
        ({"include": ["a?b/"]}, ["a\nb/c\nd.txt", "a\nb/f.md"]),
        ({"exclude": ["*.txt"]}, ["a\nb/f.md"]),
        ({"exclude": ["f.md", "e*"]}, ["a\nb/c\nd.txt"]),
    ],
)
def test_patterns_hold_for_names_with_newlines_too(
    tmp_path: Path, values: dict[str, object], wanted: list[str]
) -> None:
    write_files(tmp_path, dict.fromkeys(("a\nb/c\nd.txt", "a\nb/f.md", "e\n.txt"), "text"))
    listing = FolderSource(str(tmp_path), load_settings(values)).files()
    assert [file.source for file in listing.files] == wanted
