"""`dg scaffold defs embed_assets.EmbeddingPipeline NAME --corpus FOLDER`."""

import types
from typing import Any, Union, get_args, get_origin

import click
import dagster as dg
from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.fields import FieldInfo

from embed_assets.errors import InputError
from embed_assets.orchestration.new_pipeline import new_pipeline, python_text, yaml_text
from embed_assets.settings import PipelineSettings


def _parameter(setting: FieldInfo) -> Any:  # noqa: ANN401  as pydantic's own
    """Text, a switch or a list of texts: what they mean, and whether they fit, the settings say."""
    annotation = setting.annotation
    if get_origin(annotation) in (Union, types.UnionType):
        annotation = next(arg for arg in get_args(annotation) if arg is not type(None))
    if get_origin(annotation) is tuple:
        kind: Any = list[str] | None
    else:
        kind = bool | None if annotation is bool else str | None
    return kind, Field(default=None, description=setting.description)


class _Parameters(BaseModel):
    # A number in --json-params is as good as its text.
    model_config = ConfigDict(extra="forbid", coerce_numbers_to_str=True)


#: The settings that can be given when a pipeline is scaffolded: all but the name, the folder's.
PipelineParameters: type[BaseModel] = create_model(
    "PipelineParameters",
    __base__=_Parameters,
    **{k: _parameter(field) for k, field in PipelineSettings.model_fields.items() if k != "name"},
)


class PipelineScaffolder(dg.Scaffolder[BaseModel]):
    """Writes the file that declares a pipeline, once what was given has been found right."""

    @classmethod
    def get_scaffold_params(cls) -> type[BaseModel]:
        """The settings."""
        return PipelineParameters

    def scaffold(self, request: dg.ScaffoldRequest[BaseModel]) -> None:
        """Write it. Raises click.ClickException with what is wrong; then nothing is left behind."""
        if request.append:
            raise click.ClickException(
                f"a pipeline has a folder of its own; take another than {request.target_path}"
            )
        folder = request.target_path
        values = {k: v for k, v in request.params.model_dump().items() if v not in (None, [])}
        try:
            made = new_pipeline(folder, values, request.project_root or folder)
        except InputError as error:
            # Dagster has made it for us.
            if not any(folder.iterdir()):
                folder.rmdir()
            raise click.ClickException(str(error)) from error
        if request.scaffold_format == "python":
            text = python_text(request.type_name, folder.name, made.values)
            (folder / "component.py").write_text(text, encoding="utf-8")
        else:
            text = yaml_text(request.type_name, folder.name, made.values)
            (folder / "defs.yaml").write_text(text, encoding="utf-8")
