"""What every test shares: no network, a cache of their own, threads that sleep while they wait,
and each tiny model folder built once per session.
"""

import os
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"  # Before huggingface_hub is imported: it reads this once.
# Before torch is imported. Otherwise its idle threads spin, on cores that other tests need: on two
# cores with two workers, tests with a model took three times as much of the processor.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Here, so that xdist's workers and what tests start have it, too: what one converts, others load.
if "PYTEST_XDIST_WORKER" not in os.environ:
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="embed-assets-tests-")

import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import hypothesis
import pytest

from embed_assets_tests.tiny_models import PACKED_FAMILIES, bert_model

# How long an example takes depends on what else the machine does.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first: of several processes, none is left alone with them."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_unconfigure() -> None:
    """Nothing is left of the cache behind the last test of the last worker."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        shutil.rmtree(os.environ["XDG_CACHE_HOME"], ignore_errors=True)


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sentence-transformers folder: BERT, WordPiece, mean pooling, normalised, 32 dimensions."""
    return bert_model(tmp_path_factory.mktemp("models") / "tiny-bert")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a family named in `tiny_models.PACKED_FAMILIES`. Not to be written to."""
    return cache(lambda name: PACKED_FAMILIES[name](tmp_path_factory.mktemp("models") / name))


@pytest.fixture
def without_pictures() -> Iterator[None]:
    """Reports without plots, for tests of something else: drawing takes longer than running."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("embed_assets.quality.report._plots", lambda *_: {})
        yield


@pytest.fixture
def cuda() -> None:
    """Skips the test, visibly, where there is no GPU."""
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
