"""The model in torch, for those who need it seldom: it is loaded when it is first asked for."""

from functools import cached_property

from embed_assets.embedding.encoder_settings import EncoderSettings
from embed_assets.embedding.model import Model, document_prompt
from embed_assets.embedding.model_folder import leaves_prompt_out
from embed_assets.embedding.model_texts import ModelTexts
from embed_assets.embedding.torch_encoder import TorchEncoder, new_torch_encoder


class TorchReference:
    """A model on the CPU in fp32, as sentence-transformers runs it. Loading takes ten seconds."""

    def __init__(self, settings: EncoderSettings, model: Model) -> None:
        self._settings = settings
        #: The model's files, and what it reads for a text: at hand without loading it.
        self.model = model
        self.texts = ModelTexts(settings, model)

    @property
    def prompt_left_out(self) -> str:
        """The prompt whose tokens pooling leaves out: "" for nearly all models."""
        if not leaves_prompt_out(self.model.folder):
            return ""
        return document_prompt(self._settings, self.model)

    @cached_property
    def loaded(self) -> TorchEncoder:
        """The model."""
        return new_torch_encoder(self._settings, "fp32", self.model)
