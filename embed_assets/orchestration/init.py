"""`embed-assets init`: declare a pipeline in the project, and say what can be done with it."""

import shlex
from collections.abc import Mapping
from pathlib import Path

from embed_assets.errors import SettingsError
from embed_assets.orchestration.new_pipeline import (
    NewPipeline,
    check_name,
    new_pipeline,
    yaml_text,
)
from embed_assets.orchestration.project import Project, current_project, declared_pipelines
from embed_assets.siblings import Declared, side_by_side
from embed_assets.terminal import console, plain, size
from embed_assets.wording import counted

_TYPE = "embed_assets.EmbeddingPipeline"


def init_pipeline(name: str, values: Mapping[str, object]) -> None:
    """Write `<defs>/<name>/defs.yaml`.

    Raises InputError, with nothing written, where there is no project, or for what `new_pipeline`
    and the pipelines that are there already say against it.
    """
    check_name(name)
    project = current_project()
    if project is None:
        raise SettingsError(
            f"{Path.cwd()} is in no Dagster project; `pip install create-dagster` and "
            "`create-dagster project NAME` make one, or run this in a checkout of embed_assets"
        )
    if not {"corpus", "documents_of"} & values.keys():
        raise SettingsError(
            "what is it to embed? give --corpus FOLDER, or --documents-of PIPELINE for a second "
            "model over the documents of a pipeline that is there"
        )
    made = new_pipeline(project.defs_folder / name, values, project.root)
    file = made.folder / "defs.yaml"
    others = [Declared(each, f"defs/{each.name}") for each in declared_pipelines().values()]
    side_by_side([*others, Declared(made.settings, str(file))])
    made.folder.mkdir(parents=True, exist_ok=True)
    # Exclusively: whoever was quicker keeps what is there.
    with file.open("x", encoding="utf-8") as out:
        out.write(yaml_text(_TYPE, name, made.values))
    _print_next(made, file, project)


def _print_next(made: NewPipeline, file: Path, project: Project) -> None:
    out, name = console(), made.settings.name
    out.print(f"wrote {plain(_shown(file))}")
    if made.files is not None:
        n_bytes = sum(each.n_bytes for each in made.files.files)
        out.print(f"corpus: {counted(len(made.files.files), 'file')}, {size(n_bytes)}")
    owner = made.settings.documents_of
    first = f"{owner}/raw_corpus, then {name}" if owner else f"{name}/shards first, then the rest"
    sensor = f"{name}_documents" if owner else f"{name}_files"
    switch = "leave it to" if made.settings.switched_on else "switch on"
    steps = {
        f"embed-assets run --pipeline {name}": "embed it now",
        f'embed-assets search "how do I open a file" --pipeline {name}': "the nearest chunks",
        "embed-assets ui": f"materialise {first}; or {switch} the sensor {sensor}. A UI that is "
        "open already sees it after Reload definitions",
    }
    if not Path.cwd().is_relative_to(project.root):
        steps = {f"cd {shlex.quote(str(project.root))}": "", **steps}
    out.print("next:")
    for command, what in steps.items():
        out.print(f"  {command}" + (f"    # {what}" if what else ""))


def _shown(file: Path) -> str:
    here = Path.cwd()
    return str(file.relative_to(here) if file.is_relative_to(here) else file)
