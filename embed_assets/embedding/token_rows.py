"""Token ids of many texts as two flat arrays: no Python object per token. Pure numpy."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from embed_assets.digests import digest, digest_of

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, slots=True, eq=False)
class TokenRows:
    """Ragged rows of token ids: row i is `flat[offsets[i]:offsets[i + 1]]`.

    `flat` is int32 (n_tokens,), `offsets` int64 (n_rows + 1,).
    """

    flat: NDArray[np.int32]
    offsets: NDArray[np.int64]

    @classmethod
    def from_series(cls, token_ids: "pl.Series") -> "TokenRows":
        """From a polars List(Int32) column without nulls or empty lists."""
        lengths = token_ids.list.len().to_numpy().astype(np.int64)
        flat = token_ids.explode(empty_as_null=False).to_numpy().astype(np.int32, copy=False)
        return cls(flat, np.concatenate(([0], np.cumsum(lengths))))

    @property
    def digest(self) -> str:
        """Hex digest (32 characters) of the rows in order: what equality and hash go by."""
        return digest_of(digest(*row.tolist()) for row in np.split(self.flat, self.offsets[1:-1]))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TokenRows) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens per row, (n_rows,)."""
        return np.diff(self.offsets)

    def gather(self, rows: NDArray[np.int64]) -> "TokenRows":
        """Some rows (n,), in this order and as often as they stand there."""
        starts = self.offsets[rows]
        lengths = self.offsets[rows + 1] - starts
        offsets = np.concatenate(([0], np.cumsum(lengths)))
        source = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
        return TokenRows(self.flat[source], offsets)

    def padded(
        self, rows: NDArray[np.int64], pad_id: int, *, left: bool = False
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Token ids and attention mask of some rows, int64 (len(rows), longest row)."""
        lengths = self.lengths[rows]
        width = int(lengths.max())
        column = np.arange(width)
        taken = column >= (width - lengths)[:, None] if left else column < lengths[:, None]
        ids = np.full((len(rows), width), pad_id, dtype=np.int64)
        ids[taken] = np.concatenate(
            [self.flat[self.offsets[row] : self.offsets[row + 1]] for row in rows]
        )
        return ids, taken.astype(np.int64)
