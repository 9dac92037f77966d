"""One way of others to embed texts, in a process of its own, in whatever environment has it.

    python encode.py sentence-transformers /path/to/model

Standalone: imports nothing of this project, because a peer may need other versions of the same
libraries. Reads one JSON line {"texts": FILE, "vectors": FILE} per round from standard input,
writes the vectors (n, d) as .npy, and answers {"seconds": S} on standard output.
"""

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

Encode = Callable[[list[str]], Any]


def sentence_transformers(folder: str) -> Encode:
    """`encode` with its defaults: torch, fp32, batches of 32."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(folder, device="cpu", local_files_only=True)
    return lambda texts: model.encode(texts, show_progress_bar=False)


def sentence_transformers_batch_8(folder: str) -> Encode:
    """The same with the batch size that suits a CPU's caches."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(folder, device="cpu", local_files_only=True)
    return lambda texts: model.encode(texts, batch_size=8, show_progress_bar=False)


def sentence_transformers_openvino(folder: str) -> Encode:
    """Its own OpenVINO backend, by optimum-intel."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(folder, device="cpu", backend="openvino", local_files_only=True)
    return lambda texts: model.encode(texts, batch_size=8, show_progress_bar=False)


def ray_data(folder: str) -> Encode:
    """Ray Data: one actor that calls `encode`, to Parquet and back."""
    import ray  # type: ignore[import-not-found, unused-ignore]

    ray.init(include_dashboard=False, configure_logging=False, log_to_driver=False)
    ray.data.DataContext.get_current().enable_progress_bars = False

    class Actor:
        def __init__(self) -> None:
            from sentence_transformers import SentenceTransformer

            self.model = SentenceTransformer(folder, device="cpu", local_files_only=True)

        def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
            vectors = self.model.encode(batch["text"].tolist(), show_progress_bar=False)
            return {"row": batch["row"], "vector": vectors}

    def encode(texts: list[str]) -> Any:  # noqa: ANN401  an array of numpy's
        rows = ray.data.from_items([{"row": i, "text": text} for i, text in enumerate(texts)])
        with tempfile.TemporaryDirectory() as out:
            rows.map_batches(Actor, concurrency=1, batch_size=256).write_parquet(out)
            done = ray.data.read_parquet(out).to_pandas().sort_values("row")
        return np.stack(done["vector"].to_list())

    return encode


PEERS: dict[str, Callable[[str], Encode]] = {
    "sentence-transformers": sentence_transformers,
    "sentence-transformers-batch-8": sentence_transformers_batch_8,
    "sentence-transformers-openvino": sentence_transformers_openvino,
    "ray-data": ray_data,
}


def main() -> None:
    """Load, warm up, and answer until standard input ends."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    answers = sys.stdout
    # Libraries that print must not answer in our place.
    with redirect_stdout(sys.stderr):
        encode = PEERS[sys.argv[1]](sys.argv[2])
        encode(["warm up, with a few words of text"] * 64)
        print(json.dumps({"ready": True}), file=answers, flush=True)
        for line in sys.stdin:
            task = json.loads(line)
            texts = json.loads(Path(task["texts"]).read_text())
            started = time.perf_counter()
            vectors = np.asarray(encode(texts), dtype=np.float32)
            seconds = time.perf_counter() - started
            np.save(task["vectors"], vectors)
            print(json.dumps({"seconds": seconds}), file=answers, flush=True)


if __name__ == "__main__":
    main()
