"""Plots are small, whole PNG files, for corpora of any shape."""

import io
import warnings
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from embed_assets.quality import plots
from embed_assets.quality.drift import ModelDrift
from embed_assets.quality.plot_card import HEIGHT_PX, WIDTH_PX, drawable

RANDOM = np.random.default_rng(0)
VECTORS = RANDOM.normal(size=(2500, 32)).astype(np.float32)
SHARDS = [f"shard-{n:06d}" for n in range(80)]
DRIFT = ModelDrift(
    "f" * 32,
    900,
    0.8,
    0.9,
    (9.0, 8.0),
    RANDOM.normal(0.2, 0.1, 9000),
    RANDOM.normal(0.3, 0.1, 9000),
)
FOLDERS = ["library", "_private", "$x_1$", "日本語", "a very long folder name indeed", *"efghij"]


def colours(png: bytes) -> int:
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(png) < 100_000
    with Image.open(io.BytesIO(png)) as image:
        assert image.size == (WIDTH_PX, HEIGHT_PX)
        return len(image.getcolors() or ())


def test_a_real_corpus_gets_all_its_pictures() -> None:
    groups = [FOLDERS[i] for i in RANDOM.integers(0, len(FOLDERS), len(VECTORS))]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pictures = (
            plots.token_lengths_plot(RANDOM.integers(3, 256, 5000)),
            plots.norms_plot(np.append(RANDOM.normal(1.0, 1e-7, 5000), np.nan)),
            plots.pairwise_similarity_plot(VECTORS),
            plots.throughput_plot(SHARDS, RANDOM.normal(41_000, 2_000, 80)),
            plots.drift_plot(DRIFT),
            plots.vector_map_plot(VECTORS, groups),
        )
    assert all(colours(png) > 8 for png in pictures)


BAD = np.array([[np.nan] * 3, [0.0] * 3], np.float32)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plots.token_lengths_plot(np.array([], np.int64)),
        lambda: plots.token_lengths_plot(np.array([256])),
        lambda: plots.norms_plot(np.array([np.nan])),
        lambda: plots.norms_plot(np.full(50, 1.0)),
        lambda: plots.pairwise_similarity_plot(VECTORS[:1]),
        lambda: plots.pairwise_similarity_plot(VECTORS[:2]),
        lambda: plots.throughput_plot(["$x_1$"], np.array([800.0])),
        lambda: plots.throughput_plot(["a", "b"], np.array([np.nan, 0.0])),
        lambda: plots.drift_plot(replace(DRIFT, before=np.ones(3), after=np.ones(3))),
        lambda: plots.vector_map_plot(VECTORS[:0], []),
        lambda: plots.vector_map_plot(VECTORS[:1], ["a"]),
        lambda: plots.vector_map_plot(np.ones((9, 1), np.float32), ["a"] * 9),
        lambda: plots.vector_map_plot(BAD, ["a", "b"]),
    ],
)
def test_tiny_and_constant_inputs_still_make_a_picture(draw: Callable[[], bytes]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert colours(draw()) > 2


def test_the_map_of_a_corpus_is_the_same_tomorrow() -> None:
    def draw(vectors: NDArray[np.float32]) -> bytes:
        return plots.vector_map_plot(vectors, ["a"] * len(vectors))

    assert draw(VECTORS[:300]) == draw(VECTORS[:300].copy())


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("library", "library"),
        ("a very long folder name indeed", "a very lon…ame indeed"),
        ("line\nbreak", "line□break"),
        ("日本", "□□"),
    ],
)
def test_group_names_become_labels_that_the_font_can_draw(name: str, label: str) -> None:
    assert drawable(name) == label
