"""The file that declares a new pipeline: checked before it is written, with comments to go on from.

`embed-assets init` and `dg scaffold defs` both write it.
"""

import os
import re
import textwrap
import types
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Union, get_args, get_origin

import yaml

from embed_assets.bundled import BUNDLED_CORPUS
from embed_assets.embedding.model import open_model, resolved_max_tokens
from embed_assets.errors import InputError, SettingsError
from embed_assets.orchestration.build import build_pipeline
from embed_assets.settings import DOCUMENT_SETTINGS, NAME_PATTERN, PipelineSettings, load_settings
from embed_assets.sources.open_source import open_source
from embed_assets.sources.source import Listing

# What a new pipeline wants most; the others are in `dg list components` and `run --help`.
_SUGGESTED = ("tables", "model", "max_tokens", "overlap", "precision", "exclude")
_PLACES = ("corpus", "tables", "model", "documents_tables")
_DECLARING = ("defs.yaml", "defs.yml", "component.yaml", "component.py")
_TEMPLATE = "{{"


@dataclass(frozen=True, slots=True)
class NewPipeline:
    """A pipeline that can be written down: its folder, the values to write, what they come to, and
    the files of its corpus, where it names one.
    """

    folder: Path
    values: Mapping[str, object]
    settings: PipelineSettings
    files: Listing | None


def new_pipeline(folder: Path, values: Mapping[str, object], project_root: Path) -> NewPipeline:
    """A pipeline of what was given on a command line.

    Relative paths were meant from the working folder and are written from the project's root.
    Raises InputError, and nothing has been touched, if the name cannot be had or is taken, a
    setting is wrong, or the corpus, the model or the hook of on_failure is not there.
    """
    check_name(folder.name)
    _check_is_new(folder)
    given = {key: _from_root(key, value, project_root) for key, value in values.items()}
    plain = {k: v for k, v in given.items() if not (isinstance(v, str) and _TEMPLATE in v)}
    settings = load_settings({"name": folder.name, **plain}).located(project_root)
    written = {key: _typed(key, value, settings) for key, value in given.items()}
    _check_loads(settings)
    files = open_source(settings).files() if "corpus" in plain else None
    if settings.revision is None:  # With one it is in a hub, and would be fetched here.
        resolved_max_tokens(settings, open_model(settings))
    return NewPipeline(folder, written, settings, files)


def _check_loads(settings: PipelineSettings) -> None:
    """Raise SettingsError for a cron line or a hook that would keep the project from loading."""
    # Here: the project loads the component, which can be scaffolded by this module.
    from embed_assets.orchestration.project import current_project, make_importable

    project = current_project()
    if project is not None:
        make_importable(project)
    if settings.documents_of is not None and settings.documents_tables is None:
        # Its place is looked up among the declared pipelines, later; any will do here.
        settings = settings.model_copy(update={"documents_tables": settings.tables_root})
    with warnings.catch_warnings():
        # Dagster tells of its own beta parameters.
        warnings.simplefilter("ignore")
        build_pipeline(settings)


def check_name(name: str) -> None:
    """Raise SettingsError if a pipeline cannot be called so."""
    if not re.fullmatch(NAME_PATTERN, name):
        raise SettingsError(
            f"a pipeline cannot be called {name!r}: take letters, digits and underscores, "
            "64 at most"
        )


def _check_is_new(folder: Path) -> None:
    taken = next((folder / name for name in _DECLARING if (folder / name).exists()), None)
    if taken is not None:
        raise InputError(f"{taken} is there already; choose another name, or edit that file")


def yaml_text(type_name: str, name: str, values: Mapping[str, object]) -> str:
    """A short `defs.yaml`: what was given, and what is wanted most as comments."""
    lines = [f"type: {type_name}", "", "attributes:"]
    for key, value in (values or {"corpus": BUNDLED_CORPUS}).items():
        lines += [*_comment(key), f"  {_yaml_line(key, value)}"]
    is_reader = "documents_of" not in values
    for key in _SUGGESTED:
        if key not in values and (is_reader or key not in DOCUMENT_SETTINGS):
            value = f"tables/{name}" if key == "tables" else _example(key)
            lines += ["", *_comment(key), f"  # {_yaml_line(key, value)}"]
    return "\n".join(lines) + "\n"


def python_text(type_name: str, name: str, values: Mapping[str, object]) -> str:
    """A `component.py` that makes the same pipeline."""
    module, _, cls = type_name.rpartition(".")
    arguments = "".join(f"        {k}={v!r},\n" for k, v in {"name": name, **values}.items())
    return (
        "import dagster as dg\n\n"
        f"from {module} import {cls}\n\n\n"
        "@dg.component_instance\n"
        f"def load(context: dg.ComponentLoadContext) -> {cls}:\n"
        f"    pipeline = {cls}(\n{arguments}    )\n"
        "    # Relative paths start at the project's root.\n"
        "    return pipeline.located(context.project_root)\n"
    )


def _comment(key: str) -> list[str]:
    """A setting's description."""
    lines = textwrap.wrap(PipelineSettings.model_fields[key].description or "", 94)
    return [f"  # {line}" for line in lines]


def _example(key: str) -> object:
    field = PipelineSettings.model_fields[key]
    return field.examples[0] if field.examples else field.get_default()


def _yaml_line(key: str, value: object) -> str:
    # Of a list of one, without its brackets: one line, however long, and lists in brackets.
    listed = yaml.safe_dump([value], default_flow_style=True, allow_unicode=True, width=10_000)
    return f"{key}: {listed.strip()[1:-1]}"


def _from_root(key: str, value: object, project_root: Path) -> object:
    """A relative path of the working folder as one of the project's root; others as they are."""
    if key not in _PLACES or not isinstance(value, str) or _TEMPLATE in value:
        return value
    is_path = key != "model" or value.startswith(".") or Path(value).is_dir()
    if not is_path or ":" in value or value.startswith(("~", "/")):
        return value
    absolute = Path(os.path.normpath(Path.cwd() / value))
    if absolute.is_relative_to(project_root):
        relative = str(absolute.relative_to(project_root))
        # "e5" could be a hub's name, "./e5" is a folder.
        return f"./{relative}" if key == "model" else relative
    return str(absolute)


def _typed(key: str, value: object, settings: PipelineSettings) -> Any:  # noqa: ANN401  any setting
    """A number of the command line, which is text there, as a number; sizes stay as written."""
    annotation = PipelineSettings.model_fields[key].annotation
    if get_origin(annotation) in (Union, types.UnionType):
        annotation = next(arg for arg in get_args(annotation) if arg is not type(None))
    if get_origin(annotation) is tuple:
        return list(getattr(settings, key))
    is_number = annotation in (int, float, bool) and not key.endswith("_bytes")
    is_plain = not (isinstance(value, str) and _TEMPLATE in value)
    return getattr(settings, key) if is_number and is_plain else value
