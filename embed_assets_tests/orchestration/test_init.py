"""Declaring a new pipeline: `embed-assets init`, `dg scaffold defs`, in anybody's project."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import dagster as dg
import jsonschema
import pytest
import yaml
from click.testing import CliRunner, Result
from dagster.components.component_scaffolding import scaffold_object

from embed_assets import EmbeddingPipeline
from embed_assets.cli import main
from embed_assets.orchestration import project as projects
from embed_assets.orchestration.attributes import attributes_model
from embed_assets.settings import PipelineSettings, load_settings

TYPE = "embed_assets.EmbeddingPipeline"


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project as `create-dagster project` makes it, with some text; the working folder."""
    root, package = tmp_path / "elsewhere", f"elsewhere_{os.urandom(4).hex()}"
    defs = root / "src" / package / "defs"
    defs.mkdir(parents=True)
    for folder in (defs.parent, defs):
        (folder / "__init__.py").touch()
    (defs.parent / "definitions.py").write_text(
        "from pathlib import Path\n\nfrom dagster import definitions, load_from_defs_folder\n\n\n"
        "@definitions\ndef defs():\n"
        "    return load_from_defs_folder(path_within_project=Path(__file__).parent)\n"
    )
    (root / "pyproject.toml").write_text(
        f'[project]\nname = "{package}"\nversion = "0.1.0"\n\n'
        '[tool.dg]\ndirectory_type = "project"\n\n'
        f'[tool.dg.project]\nroot_module = "{package}"\n'
    )
    (root / "texts").mkdir()
    (root / "texts" / "a.txt").write_text("Some text. " * 9)
    monkeypatch.chdir(root)
    monkeypatch.syspath_prepend(str(root / "src"))
    return root


def defs_of(root: Path) -> Path:
    return next((root / "src").glob("*/defs"))


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_init_declares_a_pipeline_in_the_project_one_is_in(elsewhere: Path) -> None:
    result = invoke("init", "notes", "--corpus", "texts", "--overlap", "7", "--include", "*.txt")
    assert result.exit_code == 0, result.output
    file = defs_of(elsewhere) / "notes" / "defs.yaml"
    assert str(file.relative_to(elsewhere)) in result.output
    assert "corpus: 1 file, 99 B" in result.output
    for step in ("run --pipeline notes", "ui", "notes/shards", "notes_files"):
        assert step in result.output
    attributes = yaml.safe_load(file.read_text())["attributes"]
    assert attributes == {"corpus": "texts", "overlap": 7, "include": ["*.txt"]}
    declared = projects.declared_pipelines()["notes"]
    assert declared.corpus == str(elsewhere / "texts")
    assert declared.tables == str(elsewhere / "tables" / "notes")


@pytest.mark.parametrize("given", [("--corpus", "texts"), ("--documents-of", "first")])
def test_what_the_file_suggests_can_be_used_as_it_stands(
    elsewhere: Path, given: tuple[str, str]
) -> None:
    assert invoke("init", "first", "--corpus", "texts").exit_code == 0
    assert invoke("init", "notes", *given).exit_code == 0
    text = (defs_of(elsewhere) / "notes" / "defs.yaml").read_text()
    keys = "|".join(PipelineSettings.model_fields)
    used = yaml.safe_load(re.sub(rf"^  # (({keys}): )", r"  \1", text, flags=re.MULTILINE))
    assert {"tables", "model", "max_tokens", "precision"} < used["attributes"].keys()
    load_settings(used["attributes"])


def test_a_path_typed_in_another_folder_of_the_project_is_found(
    elsewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (elsewhere / "src" / "texts").mkdir()
    (elsewhere / "src" / "texts" / "b.txt").write_text("Other text. ")
    monkeypatch.chdir(elsewhere / "src")
    assert invoke("init", "notes", "--corpus", "texts", "--tables", "../t").exit_code == 0
    declared = projects.declared_pipelines()["notes"]
    assert declared.corpus == str(elsewhere / "src" / "texts")
    assert declared.tables == str(elsewhere / "t")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("new",), "give --corpus FOLDER"),
        (("new", "--corpus", "nowhere"), "does not exist"),
        (("new", "--corpus", "texts", "--overlap", "many"), "'overlap' is 'many'"),
        (("a-b", "--corpus", "texts"), "cannot be called 'a-b'"),
        (("../new", "--corpus", "texts"), "cannot be called '../new'"),
        (("notes", "--corpus", "texts"), "is there already"),
        (("new", "--corpus", "texts", "--tables", "tables/notes"), "have the same tables"),
        (("new", "--documents-of", "nobody"), "there is no such pipeline"),
        (("new", "--corpus", "texts", "--report-schedule", "99 x"), "expected a cron line"),
        (("new", "--corpus", "texts", "--on-failure", "nowhere:told"), "No module named 'nowhere'"),
        (("new", "--corpus", "texts", "--model", "nowhere"), "neither a folder nor"),
        (("new", "--corpus", "texts", "--max-tokens", "3000"), "more than the model takes"),
    ],
)
def test_nothing_is_written_for_what_cannot_be(
    elsewhere: Path, arguments: tuple[str, ...], said: str
) -> None:
    assert invoke("init", "notes", "--corpus", "texts").exit_code == 0
    before = {path: path.stat().st_mtime_ns for path in elsewhere.rglob("*.yaml")}
    result = invoke("init", *arguments)
    assert result.exit_code in (1, 2)
    assert result.output.startswith("error: ")
    assert said in result.output
    assert {path: path.stat().st_mtime_ns for path in elsewhere.rglob("*.yaml")} == before
    assert not (defs_of(elsewhere) / "new").exists()


def test_where_there_is_no_project_it_says_how_to_make_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(projects, "_PACKAGE", tmp_path / "site-packages" / "embed_assets")
    result = invoke("init", "notes", "--corpus", str(tmp_path))
    assert result.exit_code == 2
    assert "create-dagster project NAME" in result.output


@pytest.mark.parametrize("scaffold_format", ["yaml", "python"])
def test_dg_scaffold_declares_the_same(elsewhere: Path, scaffold_format: str) -> None:
    parameters = json.dumps({"corpus": "texts", "max_tokens": 32, "exclude": ["*.log"]})
    scaffold_object(defs_of(elsewhere) / "notes", TYPE, parameters, scaffold_format, elsewhere)
    tree = dg.ComponentTree.for_project(elsewhere)
    keys = tree.build_defs().resolve_all_asset_keys()
    assert dg.AssetKey(["notes", "embeddings"]) in keys
    (loaded,) = projects.declared_pipelines().values()
    assert loaded.corpus == str(elsewhere / "texts")
    assert loaded.tables == str(elsewhere / "tables" / "notes")
    assert (loaded.max_tokens, list(loaded.exclude)) == (32, ["*.log"])


def test_dg_scaffold_leaves_nothing_behind_for_what_cannot_be(elsewhere: Path) -> None:
    folder = defs_of(elsewhere) / "notes"
    with pytest.raises(Exception, match="does not exist"):
        scaffold_object(folder, TYPE, json.dumps({"corpus": "nowhere"}), "yaml", elsewhere)
    assert not folder.exists()


def test_every_attribute_says_what_it_is_and_what_it_takes() -> None:
    schema = attributes_model().model_json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["properties"].keys() == PipelineSettings.model_fields.keys()
    for name, shown in schema["properties"].items():
        assert shown["description"], name
        assert shown["type"], name
    assert schema["properties"]["corpus"]["examples"]
    assert EmbeddingPipeline.get_model_cls() is attributes_model()


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"corpsu": "x"}, "'corpsu' was unexpected"),
        ({"overlap": "many"}, "'many' is not of type 'integer'"),
        ({"precision": "half"}, "'half' is not one of ['auto', 'fp32'"),
        ({"max_tokens": 4}, "4 is less than the minimum of 8"),
        ({"shard_bytes": "64XB"}, "'64XB' does not match"),
        ({"include": 7}, "7 is not of type 'array'"),
        ({"revision": "main"}, "'main' does not match"),
        ({"overlap": 3, "shard_bytes": "64MiB", "max_tokens": None, "include": ["*.md"]}, ""),
        ({"overlap": "{{ env.OVERLAP }}", "precision": "{{ env.PRECISION }}"}, ""),
    ],
)
def test_dg_check_yaml_is_told_what_is_wrong(attributes: dict[str, object], said: str) -> None:
    validator = jsonschema.Draft202012Validator(attributes_model().model_json_schema())
    messages = [error.message for error in validator.iter_errors(attributes)]
    assert all(said in message for message in messages)
    assert bool(messages) == bool(said)


def test_a_wrong_value_is_told_with_key_file_and_line_on_load(elsewhere: Path) -> None:
    assert invoke("init", "notes", "--corpus", "texts").exit_code == 0
    file = defs_of(elsewhere) / "notes" / "defs.yaml"
    file.write_text(f"type: {TYPE}\nattributes:\n  corpus: texts\n  overlap: many\n")
    result = invoke("run", "--pipeline", "notes")
    assert result.exit_code == 2
    assert f"attributes.overlap at {file}:4" in result.output
    assert "valid integer" in result.output


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("  overlpa: 3", "attributes.overlpa at {file}:4: unknown setting 'overlpa'; did you mean"),
        ("overlap: 3", "overlap at {file}:4: unknown key; the settings of a pipeline stand below"),
    ],
)
def test_a_wrong_key_is_told_in_one_line(elsewhere: Path, line: str, said: str) -> None:
    assert invoke("init", "notes", "--corpus", "texts").exit_code == 0
    file = defs_of(elsewhere) / "notes" / "defs.yaml"
    file.write_text(f"type: {TYPE}\nattributes:\n  corpus: texts\n{line}\n")
    result = invoke("run", "--pipeline", "notes")
    assert result.exit_code == 2
    assert result.output.startswith(f"error: {said.format(file=file)}")
    assert result.output.count("\n") == 1


def test_a_hook_of_the_project_is_found_by_both_ways_to_declare(elsewhere: Path) -> None:
    package = defs_of(elsewhere).parent
    (package / "alerts.py").write_text("def told(failure):\n    print(failure.text())\n")
    hook = f"{package.name}.alerts:told"
    given = {"corpus": "texts", "on_failure": hook}
    sys.path[:] = [path for path in sys.path if path != str(elsewhere / "src")]
    scaffold_object(defs_of(elsewhere) / "one", TYPE, json.dumps(given), "yaml", elsewhere)
    result = invoke("init", "two", "--corpus", "texts", "--on-failure", hook)
    assert result.exit_code == 0, result.output


def test_templates_are_filled_in(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OVERLAP", "5")
    corpus = "{{ context.project_root }}/texts"
    assert (
        invoke("init", "notes", "--corpus", corpus, "--overlap", "{{ env.OVERLAP }}").exit_code == 0
    )
    declared = projects.declared_pipelines()["notes"]
    assert (declared.corpus, declared.overlap) == (str(elsewhere / "texts"), 5)


#: Several commands of `dg` in one process: to import it takes longer than any of them.
DG = """
import json, sys
from dagster_dg_cli.cli import create_dg_cli

for command in json.loads(sys.argv[1]):
    create_dg_cli().main(command, standalone_mode=False)
    print("end of command")
"""


@pytest.mark.slow
def test_dg_itself_finds_shows_and_scaffolds_it_in_another_project(elsewhere: Path) -> None:
    ours = str(Path(projects.__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": f"{ours}{os.pathsep}{elsewhere / 'src'}"}
    environment["VIRTUAL_ENV"] = sys.prefix
    commands = [
        ["list", "components", "--json"],
        ["scaffold", "defs", TYPE, "notes", "--corpus", "texts", "--max-tokens", "32"],
        ["check", "yaml"],
        ["check", "defs", "--no-check-yaml"],
    ]
    done = subprocess.run(
        [sys.executable, "-c", DG, json.dumps(commands)],
        cwd=elsewhere,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    listed, *others = done.stdout.split("end of command\n")
    assert len(others) == len(commands), done.stdout
    components = {each["key"]: each for each in json.loads(listed)["items"]}
    assert (
        components[TYPE]["summary"]
        == "Turn a text corpus into embeddings, shard by shard, into Delta tables."
    )
    assert (defs_of(elsewhere) / "notes" / "defs.yaml").exists()
