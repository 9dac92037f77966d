"""Packed batches on a GPU against `SentenceTransformer.encode` in fp16, in one run.

    python -m benchmarks.gpu

Needs torch, transformers, sentence-transformers, numpy and this folder, nothing else. Ours goes
from stored token ids to arrays on the host; the peer from texts, with the best of several batch
sizes. Results go to `benchmarks/results/` as JSON and Markdown. `--device cpu --tiny` takes every
path with a model that means nothing.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from benchmarks.gpu_device import empty_cache, idle_share, peak_memory, peak_tflops
from benchmarks.gpu_models import (
    SHAPES,
    TINY,
    ModelShape,
    as_texts,
    first_rows,
    made_up,
    save_model,
    text_lengths,
)
from benchmarks.gpu_results import Result, Row, line, table
from benchmarks.plain_settings import PlainSettings
from embed_assets.embedding.cuda_encoder import new_cuda_encoder
from embed_assets.embedding.encoder import Encoder, encode_all
from embed_assets.embedding.model import open_model
from embed_assets.embedding.precision import lowest_cosine
from embed_assets.embedding.token_rows import TokenRows

RESULTS = Path(__file__).parent / "results"
_REPEATS = 3
_PEER_BATCH_SIZES = (32, 128, 512, 2_048)
# Share of the texts that the peer gets: for each batch size, and then with the best one.
_PEER_SCAN, _PEER_SHARE = 1 / 32, 1 / 8
_IDLE_SHARE_OF_TEXTS = 1 / 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and write the result. The exit code."""
    import torch

    options = _options(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        print("benchmarks.gpu: torch finds no CUDA device here", file=sys.stderr)
        return 1
    result = Result(
        chip=torch.cuda.get_device_name() if options.device == "cuda" else "CPU",
        date=datetime.now(UTC).strftime("%Y-%m-%d"),
        precision=options.precision,
        compiled=options.compile,
        peak_tflops=peak_tflops() if options.device == "cuda" else None,
        versions={
            name: version(name) for name in ("torch", "transformers", "sentence-transformers")
        },
    )
    shapes = TINY if options.tiny else SHAPES
    for name in options.shapes or shapes:
        with tempfile.TemporaryDirectory() as folder:
            save_model(shapes[name], Path(folder))
            for length in options.lengths:
                row = _measured(name, shapes[name], length, Path(folder) / "model", options, result)
                result.rows.append(row)
                print(line(row), file=sys.stderr)
                # Each time: an error in a later row does not cost the earlier ones.
                result.write(options.results, options.name)
    print(table(result))
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--tiny", action="store_true", help="a model that means nothing")
    parser.add_argument("--shapes", nargs="*", help=f"of {', '.join(SHAPES)}")
    parser.add_argument("--lengths", nargs="*", default=["50", "512", "mix"])
    parser.add_argument("--tokens", type=int, default=16_000_000, help="of each kind of texts")
    parser.add_argument("--budget", type=int, help="tokens per batch")
    parser.add_argument("--precision", default="bf16", choices=("bf16", "fp16", "fp32"))
    parser.add_argument("--compile", action="store_true", help="hand the model to torch.compile")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--name", default="gpu", help="name of the result's files")
    return parser.parse_args(arguments)


def _measured(
    name: str,
    shape: ModelShape,
    length: str,
    folder: Path,
    options: argparse.Namespace,
    result: Result,
) -> Row:
    empty_cache()
    # Large models get fewer tokens, so that each takes about as long.
    scale = min(1.0, SHAPES["MiniLM-L6"].hidden / shape.hidden)
    lengths = text_lengths(length, int(options.tokens * scale), shape.max_tokens)
    tokens = made_up(lengths, shape.n_words)
    settings = PlainSettings(
        str(folder), options.device, options.budget, precision=options.precision
    )
    model = open_model(settings)
    encoder = new_cuda_encoder(settings, options.precision, model, compiled=options.compile)
    seconds, waste = _ours(encoder, tokens)
    speed = len(tokens.flat) / seconds
    idle = idle_share(encoder, first_rows(tokens, _IDLE_SHARE_OF_TEXTS))
    memory = peak_memory()
    sample = first_rows(tokens, 64 / len(tokens))
    vectors, _ = encode_all(encoder, sample, encoder.max_tokens_per_batch)
    exact = new_cuda_encoder(settings, "fp32", model)
    expected, _ = encode_all(exact, sample, 8_192)
    kind = type(encoder).__name__
    del encoder, exact
    empty_cache()
    peer_speed, peer_batch_size = _peer(folder, options, tokens)
    empty_cache()
    peak = result.peak_tflops
    return Row(
        shape=name,
        length=length,
        encoder=kind,
        n_tokens=len(tokens.flat),
        tokens_per_second=speed,
        peer_tokens_per_second=peer_speed,
        peer_batch_size=peer_batch_size,
        share_of_peak=peak and speed * shape.flops_per_token(lengths) / (peak * 1e12),
        idle_share=idle,
        peak_memory_bytes=memory,
        padding_waste=waste,
        lowest_cosine_to_fp32=lowest_cosine(expected, vectors),
    )


def _ours(encoder: Encoder, tokens: TokenRows) -> tuple[float, float]:
    """Best wall seconds from token ids to host arrays, and the share computed for nothing."""
    budget = encoder.max_tokens_per_batch
    # The first run captures the graphs; a process that walks many shards does so once.
    _, stats = encode_all(encoder, tokens, budget)
    seconds = _best(lambda: encode_all(encoder, tokens, stats.max_tokens_per_batch))
    return seconds, stats.padding_waste


def _peer(folder: Path, options: argparse.Namespace, tokens: TokenRows) -> tuple[float, int]:
    """Tokens per second of `encode` in fp16 with the best batch size, and that size."""
    import torch
    from sentence_transformers import SentenceTransformer

    dtype = torch.float16 if options.device == "cuda" else torch.float32
    peer = SentenceTransformer(
        str(folder), device=options.device, model_kwargs={"dtype": dtype}, local_files_only=True
    )

    def speed(share: float, batch_size: int) -> float:
        part = first_rows(tokens, share)
        texts = as_texts(part)
        seconds = _best(lambda: peer.encode(texts, batch_size=batch_size), repeats=2)
        return len(part.flat) / seconds

    speeds: dict[int, float] = {}
    for batch_size in _PEER_BATCH_SIZES:
        try:
            speeds[batch_size] = speed(_PEER_SCAN, batch_size)
        except torch.OutOfMemoryError:
            break
    best = max(speeds, key=lambda size: speeds[size])
    return max(speeds[best], speed(_PEER_SHARE, best)), best


def _best(work: Callable[[], object], repeats: int = _REPEATS) -> float:
    """The least wall seconds of several runs. All of them end with arrays on the host."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


if __name__ == "__main__":
    sys.exit(main())
