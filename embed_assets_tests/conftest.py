"""What every test shares: no network, and one tiny model folder per session."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # Before huggingface_hub is imported: it reads this once.

from pathlib import Path

import pytest

from embed_assets_tests.tiny_models import bert_model


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence-transformers folder: BERT, WordPiece, mean pooling, normalised, 32 dimensions."""
    return bert_model(tmp_path_factory.mktemp("models") / "tiny-bert")
