"""Memory that shards need in turn is used again, and given back between them."""

import multiprocessing
import os
import sys
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest

from embed_assets.freed_memory import give_back_freed_memory, keep_freed_memory

_N_ARRAYS, _N_NUMBERS = 20, 500_000


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _measure(sender: Connection) -> None:
    keep_freed_memory()
    before = _resident_bytes()
    arrays = [np.ones(_N_NUMBERS) for _ in range(_N_ARRAYS)]
    del arrays
    kept = _resident_bytes() - before
    give_back_freed_memory()
    sender.send((kept, _resident_bytes() - before))


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_freed_arrays_stay_at_hand_until_they_are_given_back() -> None:
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(sender,))
    process.start()
    kept, left = receiver.recv()
    process.join()
    n_bytes = _N_ARRAYS * _N_NUMBERS * 8
    assert kept > 0.9 * n_bytes
    assert left < 0.1 * n_bytes
