from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster.components.testing import create_defs_folder_sandbox

from embed_assets import EmbeddingPipeline
from embed_assets.orchestration import project
from embed_assets.settings import load_settings

ROOT = Path(__file__).parents[2]


def test_the_project_loads_with_the_default_pipeline() -> None:
    from embed_assets.definitions import defs

    loaded = defs()
    dg.Definitions.validate_loadable(loaded)
    keys = {key.to_user_string() for key in loaded.resolve_all_asset_keys()}
    flow = ["shards", "raw_corpus", "chunks", "embeddings", "quality_metrics", "quality_report"]
    assert {f"python_docs/{asset}" for asset in flow} <= keys


def test_declared_pipelines_are_found_by_name() -> None:
    declared = project.declared_pipelines()["python_docs"]
    assert declared.corpus == "bundled:python-docs"
    assert Path(declared.tables).is_absolute()


def test_a_pipeline_takes_the_name_of_its_folder() -> None:
    with create_defs_folder_sandbox() as sandbox:
        path = sandbox.scaffold_component(
            component_cls=EmbeddingPipeline,
            defs_path="my_notes",
            defs_yaml_contents={
                "type": "embed_assets.EmbeddingPipeline",
                "attributes": {"corpus": "corpus", "shard_bytes": "2MiB", "exclude": ["*.bak"]},
            },
        )
        with sandbox.load_component_and_build_defs(defs_path=path) as (component, defs):
            assert isinstance(component, EmbeddingPipeline)
            assert component.settings.shard_bytes == 2 << 20
            assert component.settings.exclude == ("*.bak",)
            assert dg.AssetKey(["my_notes", "embeddings"]) in defs.resolve_all_asset_keys()


@pytest.mark.parametrize(
    ("attributes", "said"),
    [
        ({"corpsu": "x"}, "corpsu"),
        ({"overlap": 500, "max_tokens": 16}, "overlap"),
        ({"precision": "half"}, "precision"),
    ],
)
def test_a_typo_in_a_defs_file_is_an_error_on_load_that_names_it(
    attributes: dict[str, object], said: str
) -> None:
    with create_defs_folder_sandbox() as sandbox:
        path = sandbox.scaffold_component(
            component_cls=EmbeddingPipeline,
            defs_path="notes",
            defs_yaml_contents={
                "type": "embed_assets.EmbeddingPipeline",
                "attributes": attributes,
            },
        )
        with (
            pytest.raises(Exception) as raised,  # noqa: PT011  Dagster's own wrapper
            sandbox.load_component_and_build_defs(defs_path=path),
        ):
            pass
        assert said in project._innermost(raised.value)


def test_a_key_that_stands_twice_is_an_error_that_names_both_lines() -> None:
    with create_defs_folder_sandbox() as sandbox:
        path = sandbox.scaffold_component(component_cls=EmbeddingPipeline, defs_path="notes")
        (path / "defs.yaml").write_text(
            "type: embed_assets.EmbeddingPipeline\n"
            "attributes:\n  include: ['*.md']\n  overlap: 4\n  include: ['*.txt']\n"
        )
        with (
            pytest.raises(Exception) as raised,  # noqa: PT011  Dagster's own wrapper
            sandbox.load_component_and_build_defs(defs_path=path),
        ):
            pass
        said = project._innermost(raised.value)
        assert (
            said == f"{path / 'defs.yaml'}:5: include stands here and in line 3; keep one of them"
        )


def test_the_instance_configuration_is_valid(tmp_path: Path) -> None:
    (tmp_path / "dagster.yaml").write_text((ROOT / "dagster.yaml").read_text())
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert instance.run_monitoring_enabled
        assert instance.run_retries_enabled
        assert instance.global_op_concurrency_default_limit == 1


def test_a_fresh_home_links_to_the_projects_configuration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    (tmp_path / "embed_assets" / "defs").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    home = project.prepared_home(tmp_path / ".dagster")
    assert (home / "dagster.yaml").resolve() == tmp_path / "dagster.yaml"
    assert (home / "history" / "runs.db").is_file()
    # A second time, nothing is in the way.
    assert project.prepared_home(home) == home


def test_workspace_and_project_agree_on_the_code_location() -> None:
    workspace = yaml.safe_load((ROOT / "workspace.yaml").read_text())
    assert workspace["load_from"][0]["python_module"]["location_name"] == "embed_assets"


def test_settings_of_a_component_are_plain_settings() -> None:
    component = EmbeddingPipeline(name="notes", corpus="/data", overlap=7)
    assert component.settings == load_settings({"name": "notes", "corpus": "/data", "overlap": 7})
