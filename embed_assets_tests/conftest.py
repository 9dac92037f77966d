"""What every test shares: no network, and each tiny model folder built once per session."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # Before huggingface_hub is imported: it reads this once.

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from embed_assets_tests.tiny_models import PACKED_FAMILIES, bert_model


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence-transformers folder: BERT, WordPiece, mean pooling, normalised, 32 dimensions."""
    return bert_model(tmp_path_factory.mktemp("models") / "tiny-bert")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a family named in `tiny_models.PACKED_FAMILIES`. Not to be written to."""
    return cache(lambda name: PACKED_FAMILIES[name](tmp_path_factory.mktemp("models") / name))


@pytest.fixture
def cuda() -> None:
    """Skips the test, visibly, where there is no GPU."""
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
