"""The attributes of a `defs.yaml`: the settings as Dagster shows and checks them, key by key.

Dagster would derive a model from the settings itself, but one that takes text for every number, as
it may be a template, and that says nothing of what a key is for. So a wrong value would come to
light far from its line.
"""

from functools import cache
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model, field_validator
from pydantic.fields import FieldInfo
from pydantic_core.core_schema import ValidationInfo

from embed_assets.settings import PipelineSettings, expectation

# Filled in when the file is loaded: `{{ env.CORPUS }}`.
_TEMPLATE = "{{"
_IS_TEMPLATE = {"type": "string", "pattern": r"\{\{"}
# What the settings take beyond what their types say: numbers with a unit.
_SIZE: dict[str, Any] = {
    "type": ["integer", "string"],
    "pattern": r"^\s*\d+(\.\d+)?\s*[KMGTPkmgtp]?i?[Bb]?\s*$",
}
_SIZES = ("shard_bytes", "max_document_bytes", "max_decompressed_bytes")


class _Attributes(BaseModel):
    """Every key is checked by the settings; what is kept is the value as it was written."""

    model_config = ConfigDict(extra="forbid", title="Embedding Pipeline")

    @field_validator("*", mode="plain")
    @classmethod
    def _as_a_setting(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, str) and _TEMPLATE in value:
            return value
        # Alone: what two settings say together is told when the whole is loaded.
        try:
            PipelineSettings.model_validate({str(info.field_name): value})
        except ValidationError as error:
            for item in error.errors():
                if item["loc"]:
                    raise ValueError(expectation(str(item["msg"]))) from error
        return value


@cache
def attributes_model() -> type[BaseModel]:
    """The model of the attributes, one field a setting, with description, examples and default."""
    properties = PipelineSettings.model_json_schema()["properties"]
    fields: dict[str, Any] = {
        name: (Any, _field(name, field, properties[name]))
        for name, field in PipelineSettings.model_fields.items()
    }
    return create_model("EmbeddingPipelineAttributes", __base__=_Attributes, **fields)


def _field(name: str, setting: FieldInfo, schema: dict[str, Any]) -> Any:  # noqa: ANN401  as pydantic's own
    is_name = name == "name"
    description = setting.description or ""
    if is_name:
        description += " Default: the folder's name."
    # With `if`, a wrong value is told by what is expected of it, and not by a list of schemas that
    # it all fails.
    expected: dict[str, Any] = _SIZE if name in _SIZES else _expected(schema)
    shown: dict[str, Any] = {
        "type": sorted({*_types(expected), "string"}),
        "if": _IS_TEMPLATE,
        "else": expected,
    }
    return Field(
        default=None if is_name else setting.get_default(call_default_factory=True),
        description=description,
        examples=setting.examples,
        json_schema_extra=shown,
    )


def _expected(schema: dict[str, Any]) -> dict[str, Any]:
    """The part of a setting's JSON schema that says which values it takes, without a choice."""
    told = ("title", "description", "default", "examples", "anyOf")
    expected = {key: value for key, value in schema.items() if key not in told}
    for choice in schema.get("anyOf", []):
        expected |= {key: value for key, value in choice.items() if key != "type"}
    types = [choice["type"] for choice in schema.get("anyOf", [])]
    return expected | ({"type": types} if types else {})


def _types(expected: dict[str, Any]) -> list[str]:
    types = expected["type"]
    return [types] if isinstance(types, str) else list(types)
