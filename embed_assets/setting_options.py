"""Command line options made from the settings themselves, so that the two cannot drift apart."""

import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import click
from pydantic.fields import FieldInfo

from embed_assets.errors import SettingsError
from embed_assets.settings import PipelineSettings, load_settings


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
    """The settings of a run, and whether they are a declared pipeline's, unchanged.

    Raises SettingsError for an unknown pipeline or a value that the settings refuse.
    """
    given = {name: value for name, value in values.items() if value not in (None, ())}
    if "corpus" in given and pipeline is None:
        given.setdefault("name", _name_for(str(given.get("tables", given["corpus"]))))
        return load_settings(given).located(Path.cwd()), False
    from embed_assets.orchestration.project import declared_pipelines

    declared = declared_pipelines()
    name = pipeline or PipelineSettings().name
    if name not in declared:
        raise SettingsError(
            f"there is no pipeline {name!r}; declared are {', '.join(sorted(declared)) or 'none'}"
        )
    settings = load_settings(given, base=declared[name]).located(Path.cwd())
    return settings, settings == declared[name]


def _name_for(location: str) -> str:
    """A pipeline name from a folder's: letters, digits and underscores."""
    stem = Path(location.rstrip("/")).name
    return "".join(c if c.isascii() and c.isalnum() else "_" for c in stem)[:64] or "corpus"
