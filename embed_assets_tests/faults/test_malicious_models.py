"""Model folders made to do harm: each is refused, naming the file, or loads and nothing of it runs.

One child process loads them all, as a run loads a model, with "y" waiting for every question.
"""

import json
import os
import pickle
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from embed_assets.cli import main
from embed_assets.embedding.model import open_model
from embed_assets.errors import InputError
from embed_assets.settings import load_settings
from embed_assets_tests.faults.malicious_folders import (
    INERT,
    MAPS,
    REFUSED,
    REFUSED_ON_LOAD,
    canary,
    code,
    pickled,
    put,
)
from embed_assets_tests.tiny_models import write_json


def load_all(root: str) -> None:
    """What the child does: load each folder below a root as a run does, and print what came."""
    from embed_assets.embedding.tokenizer import load_tokenizer
    from embed_assets.embedding.torch_encoder import new_torch_encoder

    touched: list[str] = []

    def watch(event: str, details: tuple[object, ...]) -> None:
        name = str(details[0]) if details else ""
        if event == "open" and name.startswith(root) and name.endswith((".py", ".bin")):
            touched.append(Path(name).name)
        elif event in ("os.system", "socket.connect"):
            touched.append(event)

    sys.addaudithook(watch)
    for folder in sorted(Path(root).glob("*/")):
        touched.clear()
        outcome = {"name": (folder / "name.md").read_text(), "error": "", "stage": "open_model"}
        try:
            settings = load_settings({"model": str(folder), "device": "cpu"})
            model = open_model(settings)
            outcome["stage"] = "load"
            load_tokenizer(model)
            encoder = new_torch_encoder(settings, "fp32", model)
            outcome["ids"] = str(encoder.token_ids("Hello, world"))
            outcome["vector"] = str(encoder.encode_query("Hello, world").tolist())
        except Exception as error:
            outcome["error"] = f"{type(error).__name__}: {error}"
        print(json.dumps(outcome | {"touched": touched}), flush=True)


@pytest.fixture(scope="module")
def root(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model folder for each case."""
    root = tmp_path_factory.mktemp("malicious")
    changes = {name: change for name, (change, _) in REFUSED.items()} | REFUSED_ON_LOAD | INERT
    for i, (name, change) in enumerate(changes.items()):
        folder = Path(shutil.copytree(tiny_bert, root / f"model-{i:03}"))
        change(folder)
        (folder / "name.md").write_text(name)
    return root


@pytest.fixture(scope="module")
def outcomes(root: Path) -> dict[str, dict[str, Any]]:
    """Name of a case -> what became of it in the child."""
    project = Path(__file__).parent.parent.parent
    child = subprocess.run(
        [sys.executable, "-c", f"import {__name__} as m; m.load_all({str(root)!r})"],
        env={**os.environ, "PYTHONPATH": str(project), "OMP_NUM_THREADS": "1"},
        input="y\n" * 1_000,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert child.returncode == 0, child.stderr[-2_000:]
    found = [json.loads(line) for line in child.stdout.splitlines() if line.startswith("{")]
    return {outcome["name"]: outcome for outcome in found}


@pytest.mark.parametrize("name", REFUSED)
def test_a_harmful_folder_is_refused_before_it_is_loaded(
    outcomes: dict[str, dict[str, Any]], name: str
) -> None:
    outcome = outcomes[name]
    assert outcome["error"].startswith("InputError: "), outcome
    assert REFUSED[name][1] in outcome["error"]
    assert "\n" not in outcome["error"]
    assert (outcome["stage"], outcome["touched"]) == ("open_model", [])


@pytest.mark.parametrize("name", REFUSED_ON_LOAD)
def test_a_damaged_folder_is_refused_by_its_reader(
    outcomes: dict[str, dict[str, Any]], root: Path, name: str
) -> None:
    outcome = outcomes[name]
    assert outcome["error"].startswith("InputError: "), outcome
    assert f"{root}/model-" in outcome["error"]
    assert "\n" not in outcome["error"]
    assert outcome["touched"] == []


@pytest.mark.parametrize("name", INERT)
def test_what_is_not_refused_does_nothing(outcomes: dict[str, dict[str, Any]], name: str) -> None:
    outcome = outcomes[name]
    assert outcome["error"] == ""
    assert outcome["touched"] == []
    for what in ("ids", "vector"):
        assert outcome[what] == outcomes["nothing"][what]


def test_no_canary_was_written(root: Path, outcomes: dict[str, dict[str, Any]]) -> None:
    assert len(outcomes) == len(REFUSED) + len(REFUSED_ON_LOAD) + len(INERT)
    assert list(root.glob("*.canary")) == []
    assert list(root.rglob("written")) == []


@pytest.mark.parametrize("run", ["pickle", "code"])
def test_the_payloads_would_write_the_canary(tmp_path: Path, run: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    pickled(folder)
    code(folder)
    assert not canary(folder).exists()
    if run == "pickle":
        pickle.loads((folder / "pytorch_model.bin").read_bytes())
    else:
        runpy.run_path(str(folder / "modeling_x.py"))
    assert canary(folder).exists()


def test_a_link_to_a_folder_that_no_module_names_is_not_followed(
    tiny_bert: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_bert, tmp_path / "model"))
    (tmp_path / "private").mkdir()
    write_json(tmp_path / "private/secret.json", {})
    (folder / "more").symlink_to(tmp_path / "private")
    hashes = open_model(load_settings({"model": str(folder)})).file_hashes
    assert hashes == open_model(load_settings({"model": str(tiny_bert)})).file_hashes


def test_the_command_line_refuses_in_one_line(
    tiny_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(tiny_bert, tmp_path / "model"))
    put(folder, "config.json", auto_map=MAPS["config.json"])
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus/a.txt").write_text("Some text.")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(main, ["run", "--corpus", "corpus", "--model", str(folder)])
    assert result.exit_code == 1
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith(f"error: {folder}/config.json has an auto_map")
    assert not canary(folder).exists()


def test_a_model_that_turns_bad_in_use_is_refused(tiny_bert: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_bert, tmp_path / "model"))
    settings = load_settings({"model": str(folder)})
    open_model(settings)
    put(folder, "config.json", auto_map=MAPS["config.json"])
    with pytest.raises(InputError, match="auto_map"):
        open_model(settings)
