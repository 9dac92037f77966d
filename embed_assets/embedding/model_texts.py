"""What a model reads for a text, by its tokenizer alone: no torch is loaded for it."""

from functools import cached_property
from typing import TYPE_CHECKING

from embed_assets.embedding.encoder_settings import EncoderSettings
from embed_assets.embedding.model import Model, document_prompt, query_prompt
from embed_assets.embedding.tokenizer import cut_texts, load_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class ModelTexts:
    """Token ids of texts: prompt in front, special tokens in, cut at the model's limit."""

    def __init__(self, settings: EncoderSettings, model: Model) -> None:
        self._model = model
        self._document_prompt = document_prompt(settings, model)
        self._query_prompt = query_prompt(settings, model)

    def document(self, text: str) -> list[int]:
        """What the model reads for a document."""
        return self._tokenizer.encode(self._document_prompt + text).ids

    def query(self, text: str) -> list[int]:
        """What the model reads for a search query."""
        return self._tokenizer.encode(self._query_prompt + text).ids

    @cached_property
    def _tokenizer(self) -> "Tokenizer":
        tokenizer = load_tokenizer(self._model)
        if self._model.max_tokens is not None:
            cut_texts(tokenizer, self._model.folder, self._model.max_tokens)
        return tokenizer
