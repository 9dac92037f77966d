"""The command line as a person meets it: flags, exit codes, one line for what can be mended."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from embed_assets import shard_stream
from embed_assets.cli import main
from embed_assets.corpus_plan import CorpusPlan
from embed_assets.errors import InputError
from embed_assets.opened_pipeline import OpenedPipeline
from embed_assets.outcome import Outcome
from embed_assets.setting_options import chosen_settings
from embed_assets.settings import PipelineSettings
from embed_assets.shard_vectors import ShardVectors, publish_vectors
from embed_assets.tables.delta import open_delta_tables
from embed_assets.tables.table import Superseded
from embed_assets_tests.small_pipelines import read, versions, write_files
from embed_assets_tests.tables.example_frames import checkpoint, metrics

HOSTILE = "\x1b[31mred\x1b]0;o\x07 [bold]b[/bold] [/] [link=http://e]x[/] 全　角"
FILES = {"a.txt": "Apples are red. " * 50, "b.txt": "Pears are green. " * 50, "odd.txt": HOSTILE}


@pytest.fixture(autouse=True)
def _no_trace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Neither variables that a run sets nor anything a run leaves in the working folder stays."""
    before = dict(os.environ)
    monkeypatch.chdir(tmp_path)
    yield
    for name in os.environ.keys() - before.keys():
        del os.environ[name]


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def command(*arguments: object, cwd: Path) -> "subprocess.CompletedProcess[str]":
    """The real command in a process of its own."""
    root = str(Path(__file__).parent.parent)
    return subprocess.run(
        [sys.executable, "-m", "embed_assets", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": root, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=False,
    )


@dataclass(frozen=True)
class Done:
    """A run that went through, and where."""

    settings: PipelineSettings
    flags: tuple[str, ...]
    result: Result


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Done:
    folder = tmp_path_factory.mktemp("my notes")
    write_files(folder / "corpus", FILES)
    values = {"corpus": folder / "corpus", "tables": folder / "tables", "model": tiny_bert}
    flags = [part for name, value in values.items() for part in (f"--{name}", str(value))]
    flags += ["--shard-bytes", "1KiB", "--device", "cpu"]
    settings = PipelineSettings.model_validate({k: str(v) for k, v in values.items()})
    return Done(settings, tuple(flags), invoke("run", *flags))


def test_help_lists_every_setting_as_a_flag() -> None:
    result = invoke("run", "--help")
    assert result.exit_code == 0
    for name in PipelineSettings.model_fields:
        assert f"--{name.replace('_', '-')}" in result.output
    assert "[default: bundled:python-docs]" in result.output
    for name in ("run", "search", "status", "maintain", "ui"):
        assert name in invoke("--help").output


def test_each_example_of_the_help_stands_on_a_line_of_its_own() -> None:
    lines = [line.strip() for line in invoke("--help").output.splitlines()]
    examples = [line for line in lines if line.startswith("embed-assets ")]
    assert len(examples) == 9
    assert all(line.count("embed-assets ") == 1 for line in lines if line in examples)


def test_a_port_that_is_taken_is_told_before_dagster_starts() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = invoke("ui", "--port", port)
    assert result.exit_code == 2
    assert f"port {port} of 127.0.0.1 cannot be had" in result.output


def test_help_loads_neither_dagster_nor_torch(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom embed_assets.cli import main\n"
        "try: main(['run', '--help'])\nexcept SystemExit: pass\n"
        "assert not {'dagster', 'torch', 'transformers', 'polars'} & sys.modules.keys()"
    )
    root = str(Path(__file__).parent.parent)
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": root},
        check=True,
        capture_output=True,
    )


def test_a_run_embeds_the_corpus_and_says_what_it_did(done: Done) -> None:
    assert done.result.exit_code == 0, done.result.output
    output = done.result.output
    assert output.startswith("tables: 3 files, 1.7 kB in ")
    assert "shards: 3 new, 0 changed, 0 removed; 3 to do" in output
    assert f"vectors        {read(done.settings, 'embeddings').height} of 32 dimensions" in output
    for line in (
        "documents      3",
        "tokens/s",
        "padding waste",
        "next:",
        "embed-assets search",
        "device time",
        " of 9 passed",
    ):
        assert line in output
    # With a blank in its path, and still to be copied and pasted.
    assert f"embed-assets status --tables '{done.settings.tables}'\n" in output
    assert "Traceback" not in output
    pictures = Path(done.settings.tables) / "quality_report"
    assert {file.suffix for file in pictures.iterdir()} == {".png"}


def test_a_second_run_finds_nothing_to_do(done: Done) -> None:
    before = versions(done.settings)
    result = invoke("run", *done.flags)
    assert result.exit_code == 0
    assert "nothing to do: 3 shards with" in result.output
    assert versions(done.settings) == before


def test_status_tells_what_is_there(done: Done) -> None:
    result = invoke("status", "--tables", done.settings.tables)
    assert result.exit_code == 0
    n_vectors = read(done.settings, "embeddings").height
    (line,) = [line for line in result.output.splitlines() if line.startswith("embeddings")]
    assert line.split()[1:3] == ["3", str(n_vectors)]
    vectors = f"{n_vectors} vectors of 32 dimensions by {done.settings.model} in 3 shards"
    assert vectors in result.output
    # The same words as at the end of the run.
    for check in ("few_duplicates", "effective_rank_high_enough"):
        (found,) = re.findall(rf"check {check}: (passed|warning): (.*)", result.output)
        told = f"{found[0]}: {check}: {found[1]}" in done.result.output
        assert told == (found[0] == "warning")


def test_maintain_says_what_it_did_to_each_table(tmp_path: Path) -> None:
    tables = open_delta_tables(f"{tmp_path}/tables")
    for n in range(3):
        tables.checkpoints.add(checkpoint(n))
    tables.quality_metrics.publish("s", metrics("s"), None)
    result = invoke("maintain", "--tables", "tables", "--retention-days", 30)
    assert (result.exit_code, result.output.splitlines()) == (
        0,
        ["quality_metrics  nothing to do", "checkpoints      3 small files merged"],
    )
    next(tmp_path.glob("tables/checkpoints/_delta_log/*0.json")).write_text("{")
    result = invoke("maintain", "--tables", "tables")
    assert result.exit_code == 1
    assert f"  failed: the table at {tmp_path}/tables/checkpoints cannot be opened" in result.output


def test_search_prints_hostile_text_harmlessly(done: Done) -> None:
    result = invoke("search", HOSTILE, "--tables", done.settings.tables, "-k", 1, "--device", "cpu")
    assert result.exit_code == 0, result.output
    assert "1.0000  odd.txt" in result.output
    assert "[bold]b[/bold] [/] [link=http://e]x[/]" in result.output
    assert "全 角" in result.output
    assert "\x1b" not in result.output
    assert "\x07" not in result.output


def test_search_in_a_process_of_its_own_prints_hits_alone(done: Done) -> None:
    result = command(
        "search", "Pears are green.", "--tables", "tables", "-k", 2, "--device", "cpu",
        cwd=Path(done.settings.tables).parent,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    assert result.stdout.count(".txt") == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "--overlap", "x"),
        ("run", "--precision", "nope"),
        ("run", "--max-tokens", "x"),
        ("run", "--max-tokens", "64", "--overlap", "33"),
        ("run", "--shard-bytes", "12 parsecs"),
        ("run", "--name", "a/b"),
        ("run", "--pipeline", "nobody"),
        ("run", "--colour", "red"),
        ("search",),
        ("search", "query", "--tables", "x", "-k", "0"),
        ("status",),
        ("maintain",),
        ("maintain", "--tables", "x", "--retention-days", "6"),
    ],
)
def test_wrong_usage_names_the_key_and_exits_with_2(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    corpus = (
        ()
        if {"--pipeline", "search", "status", "maintain"} & set(arguments)
        else ("--corpus", "corpus")
    )
    result = invoke(*arguments, *corpus)
    assert result.exit_code == 2
    assert result.exception is None or isinstance(result.exception, SystemExit)
    key = arguments[-2] if len(arguments) > 2 else ""
    assert key.lstrip("-").replace("-", "_") in result.stderr.replace("-", "_")
    assert list(tmp_path.iterdir()) == []


def test_an_overlap_beyond_the_models_limit_exits_with_2(tmp_path: Path, tiny_bert: Path) -> None:
    write_files(tmp_path / "corpus", FILES)
    result = invoke("run", "--corpus", "corpus", "--model", tiny_bert, "--overlap", 999)
    assert result.exit_code == 2
    assert "overlap 999 must be at most half of the 64 tokens" in result.stderr
    assert not (tmp_path / "tables").exists()


def test_a_device_that_is_not_there_is_told_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embed_assets.embedding.device_choice._has_gpu", lambda: False)
    write_files(tmp_path / "corpus", FILES)
    result = invoke("run", "--corpus", "corpus", "--device", "cuda", "--precision", "fp32")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: device is cuda, but no CUDA device is found")
    assert not (tmp_path / "tables").exists()


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (("run", "--corpus", "missing"), "missing' does not exist", 2),
        (("run", "--corpus", "empty"), "has no file that can be read; found: nothing", 1),
        (("run", "--corpus", "s3://bucket/x"), "is a URI", 2),
        (("run", "--corpus", "empty", "--model", "./nowhere"), "nowhere does not exist", 2),
        (("run", "--corpus", "empty", "--model", "some/name"), "set revision", 2),
        (("run", "--corpus", "empty", "--tables", "a[1]"), "cannot stand", 2),
        (("search", "query", "--tables", "missing"), "embed a corpus first: embed-assets run", 1),
        (("search", "query", "--tables", "a[1]"), "cannot stand", 2),
        (("status", "--tables", "a[1]"), "cannot stand", 2),
        (("maintain", "--tables", "missing"), "there are no tables under", 1),
    ],
)
def test_what_a_user_can_mend_is_one_line_and_exits_with_2_if_it_is_an_option(
    arguments: tuple[str, ...], message: str, code: int, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    result = invoke(*arguments)
    assert result.exit_code == code
    assert message in result.stderr
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("error: ")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty"]


def test_a_missing_corpus_shows_no_traceback_in_a_real_process(tmp_path: Path) -> None:
    result = command("run", "--corpus", "missing", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: corpus ")
    assert result.stderr.count("\n") == 1


def test_debug_shows_the_traceback(tmp_path: Path) -> None:
    result = invoke("--debug", "run", "--corpus", "missing")
    assert isinstance(result.exception, InputError)


def test_losing_to_another_run_is_one_line(
    tmp_path: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plan(_: OpenedPipeline) -> CorpusPlan:
        raise Superseded("shards was replaced by another run meanwhile; run again")

    monkeypatch.setattr(OpenedPipeline, "plan", plan)
    write_files(tmp_path / "corpus", FILES)
    result = invoke("run", "--corpus", "corpus", "--model", tiny_bert)
    assert result.exit_code == 1
    assert result.stderr == "error: shards was replaced by another run meanwhile; run again\n"


@pytest.mark.usefixtures("without_pictures")
def test_one_bad_shard_stops_no_other_and_is_named(
    tmp_path: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(tmp_path / "corpus", {f"{c}.txt": f"Text about {c}. " * 60 for c in "abc"})

    def publish(work: ShardVectors, pipeline: OpenedPipeline, *, force: bool) -> Outcome:
        if work.shard == "shard-000001":
            raise InputError("its vectors are \x1b[31mbad")
        return publish_vectors(work, pipeline, force=force)

    monkeypatch.setattr(shard_stream, "publish_vectors", publish)
    flags = ("--corpus", "corpus", "--model", tiny_bert, "--shard-bytes", 1024, "--device", "cpu")
    result = invoke("run", *flags)
    assert result.exit_code == 1, result.output
    assert "failed: shard-000001 in embeddings: its vectors are \ufffd[31mbad" in result.output
    tables = open_delta_tables(str(tmp_path / "tables" / "corpus"))
    assert sorted(tables.quality_metrics.states()) == ["shard-000000", "shard-000002"]

    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    result = invoke("run", *flags)
    assert result.exit_code == 0, result.output
    assert len(tables.quality_metrics.states()) == 3


@pytest.mark.usefixtures("without_pictures")
def test_a_run_says_why_shards_are_made_again(tmp_path: Path, tiny_bert: Path) -> None:
    write_files(tmp_path / "corpus", {f"{c}.txt": f"Text about {c}. " * 60 for c in "abc"})
    flags = ("--corpus", "corpus", "--model", tiny_bert, "--shard-bytes", 1024, "--device", "cpu")
    assert "; 3 to do\n  3 shards: new\n" in invoke("run", *flags).output
    write_files(tmp_path / "corpus", {"a.txt": "Another text. " * 60})
    result = invoke("run", *flags, "--max-tokens", 32)
    assert result.exit_code == 0, result.output
    reasons = "  2 shards: max_tokens default -> 32\n  1 shard: its files changed\n"
    assert f"0 new, 1 changed, 0 removed; 3 to do\n{reasons}" in result.output
    result = invoke("run", *flags, "--max-tokens", 32, "--force")
    assert "  3 shards: up to date, done again because of --force\n" in result.output


def test_the_declared_pipeline_is_found_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    for pipeline in ("python_docs", None):
        settings, is_declared = chosen_settings(pipeline, {"corpus": None, "include": ()})
        assert (settings.name, is_declared) == ("python_docs", True)
        assert settings.shard_bytes == 1 << 20
    settings, is_declared = chosen_settings("python_docs", {"shard_bytes": "1MiB"})
    assert is_declared
    assert capsys.readouterr().err == ""
    settings, is_declared = chosen_settings("python_docs", {"overlap": "5", "max_tokens": "64"})
    assert (settings.overlap, settings.shard_bytes, is_declared) == (5, 1 << 20, False)
    changes = "overlap 0 -> 5, max_tokens default -> 64"
    assert capsys.readouterr().err == f"python_docs, for this run alone: {changes}\n"


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"corpus": "my notes/"}, "my_notes"),
        ({"corpus": "notes", "tables": "out/vectors-1"}, "vectors_1"),
        ({"corpus": "notes", "name": "mine"}, "mine"),
        ({"corpus": "."}, "corpus"),
        ({"corpus": "ö" * 99}, "_" * 64),
    ],
)
def test_a_pipeline_of_the_command_line_is_named_after_its_folder(
    values: dict[str, object], name: str, tmp_path: Path
) -> None:
    settings, is_declared = chosen_settings(None, values)
    assert (settings.name, is_declared) == (name, False)
    assert settings.corpus.startswith(str(tmp_path))


def test_switches_and_repeatable_flags_arrive(tmp_path: Path) -> None:
    settings, _ = chosen_settings(
        None, {"corpus": "x", "normalize": False, "include": ("*.md", "*.txt"), "overlap": None}
    )
    assert (settings.normalize, settings.include) == (False, ("*.md", "*.txt"))
    assert settings.exclude == (".*/",)


@pytest.mark.usefixtures("without_pictures")
def test_tune_says_what_to_do_first_then_keeps_what_it_found(
    tmp_path: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda _name: str(tmp_path / "cache"))
    write_files(tmp_path / "corpus", {f"{c}.txt": f"Text about {c}. " * 60 for c in "abc"})
    flags = ("--corpus", "corpus", "--model", tiny_bert, "--device", "cpu")
    result = invoke("tune", *flags)
    assert result.exit_code == 1
    assert "no chunks yet" in result.stderr
    assert invoke("run", *flags).exit_code == 0

    result = invoke("tune", *flags)
    assert result.exit_code == 1
    assert "has 36 chunks, too few to stand for the texts to come: 50 are" in result.stderr
    assert not (tmp_path / "cache" / "token_budgets.json").exists()

    write_files(tmp_path / "corpus", {f"{c}.txt": f"Text about {c}. " * 200 for c in "abcd"})
    assert invoke("run", *flags).exit_code == 0
    result = invoke("tune", *flags, "--seconds", "0.2")
    assert result.exit_code == 0, result.output
    kept = json.loads((tmp_path / "cache" / "token_budgets.json").read_text())
    (budget,) = kept.values()
    assert f"take {budget:,} tokens a batch now" in result.stdout
    picture = tmp_path / "tables" / "corpus" / "batch_tuning" / "token_budgets.png"
    assert picture.read_bytes().startswith(b"\x89PNG")

    settings = PipelineSettings(corpus="corpus", model=str(tiny_bert), device="cpu")
    pipeline = OpenedPipeline(settings.located(tmp_path))
    assert pipeline.batch_budget(pipeline.encoder()) == budget
    given = settings.model_copy(update={"max_tokens_per_batch": 77}).located(tmp_path)
    assert OpenedPipeline(given).batch_budget(OpenedPipeline(given).encoder()) == 77
