"""A column of lists from one flat array: no Python object per number, and no copy."""

import numpy as np
import polars as pl
from numpy.typing import NDArray


def list_series(flat: NDArray[np.generic], offsets: NDArray[np.int64]) -> pl.Series:
    """Lists flat[offsets[i]:offsets[i + 1]] of a flat array (n,), for offsets (n_lists + 1,)."""
    from arro3.core import Array, list_array

    return pl.Series(list_array(Array.from_numpy(offsets), Array.from_numpy(flat)))
