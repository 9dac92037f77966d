"""What an encoder wants to know, where there is no pydantic for a pipeline's settings."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PlainSettings:
    """An `EncoderSettings`; `embed_assets.settings` says what each field means."""

    model: str
    device: str
    max_tokens_per_batch: int | None
    revision: str | None = None
    document_prompt: str | None = None
    query_prompt: str | None = None
    normalize: bool = False
    truncate_dim: int | None = None
    max_tokens: int | None = None
    overlap: int = 0
    precision: str = "bf16"
    backend: str = "auto"
