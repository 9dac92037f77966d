"""Command line options made from the settings themselves, so that the two cannot drift apart."""

import types
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import click
from pydantic.fields import FieldInfo

from embed_assets.errors import SettingsError
from embed_assets.settings import PipelineSettings, load_settings
from embed_assets.wording import setting_value


def with_setting_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add one option per setting. A value not given is None, so that defaults stay in one place."""
    return setting_options(*PipelineSettings.model_fields)(command)


def setting_options(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the options of some settings, in this order."""

    def with_options(command: Callable[..., None]) -> Callable[..., None]:
        for name in reversed(names):
            command = _option(name, PipelineSettings.model_fields[name])(command)
        return command

    return with_options


def _option(name: str, field: FieldInfo) -> Callable[[Callable[..., None]], Callable[..., None]]:
    annotation = _without_none(field.annotation)
    many = get_origin(annotation) is tuple
    flag = f"--{name.replace('_', '-')}"
    is_switch = annotation is bool
    kind = _choice(annotation)
    shown = "" if field.default in (None, "", ()) or many else f"  [default: {field.default}]"
    return click.option(
        f"{flag}/--no-{name.replace('_', '-')}" if is_switch else flag,
        name,
        default=None,
        multiple=many,
        type=None if is_switch else kind,
        metavar=None if is_switch or isinstance(kind, click.Choice) else _metavar(annotation),
        help=f"{field.description}{shown}" + (" Repeatable." if many else ""),
    )


def _without_none(annotation: Any) -> Any:  # noqa: ANN401  an annotation can be anything
    if get_origin(annotation) in (Union, types.UnionType):
        return next(arg for arg in get_args(annotation) if arg is not type(None))
    return annotation


def _choice(annotation: object) -> click.ParamType[Any]:
    # Numbers stay text: the settings say what is wrong with them, in one voice with defs.yaml.
    if get_origin(annotation) is Literal:
        return click.Choice([str(word) for word in get_args(annotation)])
    return click.STRING


def _metavar(annotation: object) -> str:
    return (
        {int: "N", float: "X"}.get(annotation, "TEXT") if isinstance(annotation, type) else "TEXT"
    )


def chosen_settings(
    pipeline: str | None, values: dict[str, object]
) -> tuple[PipelineSettings, bool]:
    """The settings of a run, and whether they are a declared pipeline's, unchanged; what is changed
    is printed.

    Raises SettingsError for an unknown pipeline or a value that the settings refuse.
    """
    given = {name: value for name, value in values.items() if value not in (None, ())}
    if pipeline is None and ("corpus" in given or "documents_of" in given):
        place = given.get("tables") or given.get("corpus") or f"{given['documents_of']}_again"
        given.setdefault("name", _name_for(str(place)))
        return _with_documents(load_settings(given).located(Path.cwd())), False
    declared = declared_settings(pipeline)
    if "documents_of" in given:
        given.setdefault("documents_tables", None)
    settings = _with_documents(load_settings(given, base=declared).located(Path.cwd()))
    _tell_changes(settings, declared, given)
    return settings, settings == declared


def _tell_changes(
    settings: PipelineSettings, declared: PipelineSettings, given: Iterable[str]
) -> None:
    """What is not as a pipeline's own file has it: the next run without it goes back to that."""
    changes = [
        f"{name} {setting_value(before)} -> {setting_value(after)}"
        for name in given
        if (before := getattr(declared, name)) != (after := getattr(settings, name))
    ]
    if changes:
        click.echo(f"{declared.name}, for this run alone: {', '.join(changes)}", err=True)


def declared_settings(pipeline: str | None) -> PipelineSettings:
    """The settings of a declared pipeline: the one that is named, else python_docs, else the only
    one. Raises SettingsError if there is none.
    """
    from embed_assets.orchestration.project import declared_pipelines

    declared = declared_pipelines()
    if pipeline is None and len(declared) == 1:
        return next(iter(declared.values()))
    name = pipeline or PipelineSettings().name
    if name in declared:
        return declared[name]
    if not declared:
        raise SettingsError(
            f"there is no pipeline {name!r}, nor any other; "
            f"embed-assets init NAME --corpus FOLDER declares one"
        )
    names = ", ".join(sorted(declared))
    if pipeline is None:
        raise SettingsError(f"there are several pipelines, {names}; choose one with --pipeline")
    raise SettingsError(f"there is no pipeline {name!r}; declared are {names}")


def _with_documents(settings: PipelineSettings) -> PipelineSettings:
    """The same with the place of the documents of another declared pipeline, if it needs them."""
    if settings.documents_of is None or settings.documents_tables is not None:
        return settings
    from embed_assets.orchestration.project import declared_pipelines
    from embed_assets.siblings import Declared, side_by_side

    others = [each for each in declared_pipelines().values() if each.name != settings.name]
    return side_by_side(
        [
            *(Declared(each, f"defs/{each.name}") for each in others),
            Declared(settings, "--documents-of"),
        ]
    )[settings.name]


def _name_for(location: str) -> str:
    """A pipeline name from a folder's: letters, digits and underscores."""
    stem = Path(location.rstrip("/")).name
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in stem)[:64] or "corpus"
