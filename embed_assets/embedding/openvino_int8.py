"""Quantise a converted model to int8 by nncf, fitted to texts such as those to come.

Post-training quantisation: the ranges of the activations are measured on the calibration texts,
whose digest is part of the fingerprint. nncf is the extra `int8`.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.metadata import version
from importlib.util import find_spec
from io import StringIO
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embed_assets.embedding.openvino_model import (
    INPUTS,
    converted,
    keep,
    model_key,
    pad_id,
    read_kept,
)
from embed_assets.embedding.token_rows import TokenRows
from embed_assets.embedding.torch_reference import TorchReference
from embed_assets.errors import SettingsError

if TYPE_CHECKING:
    import openvino


def refuse_without_nncf() -> None:
    """Raise SettingsError where the extra `int8` is not installed."""
    if find_spec("nncf") is None:
        raise SettingsError(
            "precision int8 needs nncf: pip install 'embed-assets[int8]', or choose another"
        )


def quantised(reference: TorchReference, calibration: TokenRows) -> "openvino.Model":
    """The model in int8: its matrix products, with ranges measured on the calibration texts.

    Raises CannotConvert, and SettingsError without nncf.
    """
    refuse_without_nncf()
    key = model_key(reference, "int8", f"nncf {version('nncf')}", calibration.digest)
    known = read_kept(key)
    if known is not None:
        return known
    model = converted(reference)
    import nncf

    pad = pad_id(model)
    batches = [_batch(calibration, row, pad) for row in range(len(calibration))]
    with _quietly():
        model = nncf.quantize(
            model,
            nncf.Dataset(batches),
            model_type=nncf.ModelType.TRANSFORMER,
            subset_size=len(batches),
        )
    keep(key, model)
    return model


def _batch(tokens: TokenRows, row: int, pad: int) -> dict[str, NDArray[np.int64]]:
    """One text alone: padding would be measured, too."""
    return dict(zip(INPUTS, tokens.padded(np.array([row]), pad), strict=True))


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep nncf's progress bars and its messages off the terminal."""
    from nncf.common.logging import nncf_logger

    level = nncf_logger.level
    nncf_logger.setLevel(logging.ERROR)
    try:
        with redirect_stdout(StringIO()):
            yield
    finally:
        nncf_logger.setLevel(level)
