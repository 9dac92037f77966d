"""One of our encoders as a contender: stored token ids in, vectors out. See `contender.py`.

python -m benchmarks.ours PRECISION BACKEND /path/to/model
"""

import json
import sys
import time
from contextlib import redirect_stdout

import numpy as np

from embed_assets.embedding.backends import new_encoder
from embed_assets.embedding.encoder import encode_all
from embed_assets.embedding.model import open_model
from embed_assets.embedding.token_rows import TokenRows
from embed_assets.settings import load_settings
from embed_assets.terminal import quiet_libraries


def main() -> None:
    """Load when the first task names its calibration, warm up, and answer until input ends."""
    precision, backend, folder = sys.argv[1:]
    quiet_libraries()
    settings = load_settings({"model": folder, "device": "cpu", "backend": backend})
    answers = sys.stdout
    encoder = None
    with redirect_stdout(sys.stderr):
        print(json.dumps({"ready": True}), file=answers, flush=True)
        for line in sys.stdin:
            task = json.loads(line)
            tokens = rows_in(task["tokens"])
            if encoder is None:
                calibration = rows_in(task["calibration"])
                encoder = new_encoder(settings, precision, open_model(settings), calibration)
                encode_all(encoder, calibration, encoder.max_tokens_per_batch)
            started = time.perf_counter()
            vectors, _ = encode_all(encoder, tokens, encoder.max_tokens_per_batch)
            seconds = time.perf_counter() - started
            np.save(task["vectors"], vectors)
            print(json.dumps({"seconds": seconds}), file=answers, flush=True)


def rows_in(file: str) -> TokenRows:
    """Token ids written by `speed.py`."""
    arrays = np.load(file)
    return TokenRows(arrays["flat"], arrays["offsets"])


if __name__ == "__main__":
    main()
