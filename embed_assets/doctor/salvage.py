"""Save sound vectors from a table whose log is lost: what is embedded once is paid for."""

import numpy as np

from embed_assets.checksums import is_sound
from embed_assets.frames import checkpoint_frame
from embed_assets.rows import EMBEDDINGS, SHARD
from embed_assets.tables.delta import open_delta_tables
from embed_assets.tables.delta_files import reading, scan_files


def salvage_vectors(root: str, path: str) -> int:
    """Put the sound vectors of a file of `embeddings` into the checkpoints. Returns how many.

    A vector is a pure function of fingerprint and text, so one from an old file is as good.
    Raises InputError if the file cannot be read.
    """
    scan = scan_files([path], EMBEDDINGS, [SHARD])
    rows = reading(path, scan.collect)
    sound = rows.filter(is_sound(rows)).unique("text_hash")
    for (shard, fingerprint), group in sound.group_by(SHARD, "fingerprint"):
        vectors = group["embedding"].list.to_array(len(group["embedding"][0])).to_numpy()
        frame = checkpoint_frame(
            str(shard), str(fingerprint), group["text_hash"], np.asarray(vectors, np.float32)
        )
        open_delta_tables(root).checkpoints.add(frame)
    return sound.height
