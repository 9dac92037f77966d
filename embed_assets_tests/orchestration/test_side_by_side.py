"""Two pipelines in one code location: in nobody's way, or one over the documents of the other."""

from pathlib import Path

import dagster as dg
import pytest
import yaml
from click.testing import CliRunner, Result
from dagster.components.testing import create_defs_folder_sandbox

from embed_assets import EmbeddingPipeline, build_pipelines
from embed_assets.cli import main
from embed_assets.errors import SettingsError
from embed_assets.orchestration import project as projects
from embed_assets.orchestration.build import build_pipeline
from embed_assets.orchestration.partitions import range_tags
from embed_assets.settings import PipelineSettings, load_settings
from embed_assets.siblings import Declared, side_by_side
from embed_assets_tests.orchestration.conftest import QUIET, Project
from embed_assets_tests.orchestration.ticking import Sensor
from embed_assets_tests.small_pipelines import read, versions


@pytest.fixture
def second(settings: PipelineSettings, tmp_path: Path) -> PipelineSettings:
    """The documents of `notes` in other chunks."""
    values = {"name": "short", "tables": f"{tmp_path}/short", "documents_of": "notes"}
    made = load_settings({**values, "model": settings.model, "max_tokens": 16})
    return side_by_side([Declared(settings, "notes"), Declared(made, "short")])["short"]


def run_second(
    second: PipelineSettings, instance: dg.DagsterInstance, shards: list[str]
) -> dg.ExecuteInProcessResult:
    job = build_pipeline(second).resolve_job_def("short_embed")
    return job.execute_in_process(
        instance=instance,
        tags=range_tags((shards[0], shards[-1])),
        run_config=QUIET,
        raise_on_error=False,
    )


def names(definitions: dg.Definitions) -> set[str]:
    """Everything that is found by name in a code location."""
    repository = definitions.get_repository_def()
    return {
        *(f"job {name}" for name in repository.job_names if not name.startswith("__")),
        *(f"sensor {sensor.name}" for sensor in repository.sensor_defs),
        *(f"schedule {schedule.name}" for schedule in repository.schedule_defs),
        *(f"resource {name}" for name in repository.get_top_level_resources()),
        *(
            f"asset {key.to_user_string()}"
            for key in repository.asset_graph.materializable_asset_keys
        ),
        *(
            f"partitions {node.partitions_def.name}"
            for node in repository.asset_graph.asset_nodes
            if isinstance(node.partitions_def, dg.DynamicPartitionsDefinition)
        ),
    }


def test_two_pipelines_share_no_name(settings: PipelineSettings, tmp_path: Path) -> None:
    other = load_settings({"name": "other", "corpus": str(tmp_path), "tables": f"{tmp_path}/o"})
    apart = [names(build_pipeline(each)) for each in (settings, other)]
    assert apart[0].isdisjoint(apart[1])
    for merged in (
        build_pipelines(settings, other),
        dg.Definitions.merge(build_pipeline(settings), build_pipeline(other)),
    ):
        dg.Definitions.validate_loadable(merged)
        assert names(merged) == apart[0] | apart[1]


def test_running_one_touches_nothing_of_the_other(
    settings: PipelineSettings, instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    (tmp_path / "more").mkdir()
    for name in "yz":
        (tmp_path / "more" / f"{name}.txt").write_text(f"Another corpus with {name}. " * 60)
    values = {"name": "other", "corpus": f"{tmp_path}/more", "tables": f"{tmp_path}/other"}
    how = {"model": settings.model, "max_tokens": 16, "shard_bytes": 1024}
    other = load_settings({**values, **how})
    both = [Project(each, instance) for each in (settings, other)]
    for each in both:
        assert each.run("shards").success
        assert each.run("embed", each.shards[0], each.shards[-1]).success
    before = versions(settings), read(settings, "embeddings")
    assert [len(each.shards) for each in both] == [4, 2]
    (tmp_path / "more" / "z.txt").unlink()
    assert both[1].run("shards").success
    assert [len(each.shards) for each in both] == [4, 1]
    assert read(other, "embeddings")["shard"].n_unique() == 1
    assert versions(settings) == before[0]
    assert read(settings, "embeddings").equals(before[1])
    assert both[0].materialized("embeddings") == set(both[0].shards)


def test_the_graph_shows_whose_documents_are_embedded(
    settings: PipelineSettings, second: PipelineSettings
) -> None:
    both = build_pipelines(settings, second.model_copy(update={"documents_tables": None}))
    dg.Definitions.validate_loadable(both)
    graph = both.resolve_asset_graph()
    chunks, documents = dg.AssetKey(["short", "chunks"]), dg.AssetKey(["notes", "raw_corpus"])
    assert graph.get(chunks).parent_keys == {documents}
    assert graph.get(chunks).partitions_def == graph.get(documents).partitions_def
    own = {key.path[1] for key in graph.materializable_asset_keys if key.path[0] == "short"}
    assert own == {"chunks", "embeddings", "quality_metrics", "quality_report", "batch_tuning"}
    assert {"sensor short_documents", "sensor notes_files"} <= names(both)
    assert "job short_shards" not in names(both)


def test_the_second_is_embedded_when_the_documents_of_the_first_changed(
    project: Project, second: PipelineSettings, corpus: Path
) -> None:
    assert project.run("embed", project.shards[0], project.shards[-1]).success
    shards = project.shards
    sensor = Sensor(project, second)
    first_look = sensor.tick()
    assert (first_look.added, first_look.deleted, first_look.looks) == ([], [], 0)
    assert first_look.runs == [(shards[0], shards[-1])]
    assert run_second(second, project.instance, shards).success
    assert sensor.tick().runs == []

    (corpus / "b.txt").write_text("Something else altogether. " * 40)
    (corpus / "d.txt").unlink()
    # Of files it knows nothing.
    assert sensor.tick().runs == []
    assert project.run("shards").success
    assert project.run("embed", shards[1], shards[1]).success
    assert sensor.tick().runs == [(shards[1], shards[1])]
    assert shards[3] not in set(read(second, "embeddings")["shard"])


def test_a_vanished_shard_goes_with_the_next_run_without_the_sensor(
    project: Project, second: PipelineSettings, corpus: Path
) -> None:
    assert project.run("embed", project.shards[0], project.shards[-1]).success
    assert run_second(second, project.instance, project.shards).success
    (corpus / "d.txt").unlink()
    assert project.run("shards").success
    assert len(project.shards) == 3
    assert run_second(second, project.instance, project.shards).success
    assert read(second, "quality_metrics")["shard"].n_unique() == 3


ATTRIBUTES = {
    "same name": ({"name": "one", "corpus": "x"}, {"name": "one", "corpus": "y"}),
    "same tables": ({"corpus": "x", "tables": "t"}, {"corpus": "y", "tables": "./t/"}),
    "documents of nobody": ({"corpus": "x"}, {"documents_of": "nobody"}),
}


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("same name", "two pipelines are called 'one'"),
        ("same tables", "have the same tables"),
        ("documents of nobody", "no such pipeline beside"),
    ],
)
def test_an_error_on_load_names_both_files(case: str, said: str) -> None:
    with create_defs_folder_sandbox() as sandbox:
        files = []
        for name, attributes in zip(("one", "two"), ATTRIBUTES[case], strict=True):
            folder = sandbox.scaffold_component(
                component_cls=EmbeddingPipeline,
                defs_path=name,
                defs_yaml_contents={
                    "type": "embed_assets.EmbeddingPipeline",
                    "attributes": attributes,
                },
            )
            files.append(str(folder / "defs.yaml"))
        with pytest.raises(Exception) as raised, sandbox.build_all_defs():  # noqa: PT011  Dagster's
            pass
        message = projects._innermost(raised.value)
        assert said in message
        wanted = files if case != "documents of nobody" else files[1:]
        assert all(file in message for file in wanted)


def test_in_python_too_pipelines_in_each_others_way_are_refused(
    settings: PipelineSettings,
) -> None:
    with pytest.raises(SettingsError, match="pipeline 1 of build_pipelines"):
        build_pipelines(settings, settings.model_copy(update={"name": "other"}))


def test_alone_a_second_pipeline_must_be_told_where_the_documents_are() -> None:
    with pytest.raises(SettingsError, match="set documents_tables"):
        build_pipeline(load_settings({"name": "short", "documents_of": "notes"}))


class DeclaredProject:
    """A dg project with two pipelines, and the command line in it."""

    def __init__(self, folder: Path, corpus: Path, model: Path) -> None:
        self.folder = folder
        shared = {"model": str(model), "device": "cpu", "backend": "torch"}
        declared = {
            "notes": {"corpus": str(corpus), "shard_bytes": "1KiB", **shared},
            "short": {"documents_of": "notes", "max_tokens": 16, **shared},
        }
        (folder / "pyproject.toml").write_text(
            '[tool.dg]\ndirectory_type = "project"\n[tool.dg.project]\nroot_module = "two_models"\n'
        )
        for name, attributes in declared.items():
            place = folder / "src" / "two_models" / "defs" / name
            place.mkdir(parents=True)
            contents = {"type": "embed_assets.EmbeddingPipeline", "attributes": attributes}
            (place / "defs.yaml").write_text(yaml.safe_dump(contents))
        for package in ("two_models", "two_models/defs"):
            (folder / "src" / package / "__init__.py").touch()

    def invoke(self, *arguments: str) -> Result:
        return CliRunner().invoke(main, arguments)

    def tables(self, name: str) -> PipelineSettings:
        return PipelineSettings(name=name, tables=f"{self.folder}/tables/{name}")


@pytest.mark.usefixtures("without_pictures")
def test_the_command_line_reads_the_documents_before_it_embeds_them(
    tmp_path: Path, corpus: Path, tiny_bert: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.syspath_prepend("/nowhere")  # What is put on the path goes with the test.
    here = DeclaredProject(tmp_path / "project", corpus, tiny_bert)

    result = here.invoke("run", "--pipeline", "short")
    assert result.exit_code == 0, result.output
    assert "short: 4 files" in result.output
    assert "in the documents of notes" in result.output
    assert read(here.tables("short"), "embeddings")["shard"].n_unique() == 4
    # Its documents, and not its vectors, are what the other one was asked for.
    assert not {"chunks", "embeddings"} & versions(here.tables("notes")).keys()

    (corpus / "b.txt").write_text("Something else altogether. " * 40)
    (corpus / "d.txt").unlink()
    result = here.invoke("run", "--pipeline", "short")
    assert "1 shard: changed text or chunking" in result.output, result.output
    assert read(here.tables("short"), "embeddings")["shard"].n_unique() == 3
    assert "nothing to do: 3 shards" in here.invoke("run", "--pipeline", "short").output

    hits = here.invoke("search", "something else", "--pipeline", "short", "--device", "cpu")
    assert hits.exit_code == 0, hits.output
    assert "b.txt" in hits.output
    assert here.invoke("doctor", "--pipeline", "short").exit_code == 0

    status = here.invoke("status", "--pipeline", "short").output
    assert "every shard is up to date with the settings" in status
    declared = tmp_path / "project" / "src" / "two_models" / "defs" / "short" / "defs.yaml"
    declared.write_text(declared.read_text().replace("max_tokens: 16", "max_tokens: 24"))
    status = here.invoke("status", "--pipeline", "short").output
    assert "outdated: 3 shards: max_tokens 16 -> 24\n" in status
    assert "outdated" not in here.invoke("status", "--tables", "tables/short").output
    several = here.invoke("run")
    assert several.exit_code == 2
    assert "there are several pipelines, notes, short" in several.output
