"""The results of the GPU benchmark and how they are shown."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass
class Row:
    """One shape with one kind of texts. Memory is what torch held of the device at most."""

    shape: str
    length: str
    encoder: str
    n_tokens: int
    tokens_per_second: float
    peer_tokens_per_second: float
    peer_batch_size: int
    share_of_peak: float | None
    idle_share: float | None
    peak_memory_bytes: int | None
    padding_waste: float
    lowest_cosine_to_fp32: float

    @property
    def ratio(self) -> float:
        """How many times as fast as the peer."""
        return self.tokens_per_second / self.peer_tokens_per_second


@dataclass
class Result:
    """A run on one chip."""

    chip: str
    date: str
    precision: str
    compiled: bool
    peak_tflops: float | None
    versions: dict[str, str]
    rows: list[Row] = field(default_factory=list)

    def write(self, folder: Path, name: str) -> None:
        """Write JSON and Markdown of that name."""
        folder.mkdir(parents=True, exist_ok=True)
        rows = [asdict(row) | {"ratio": row.ratio} for row in self.rows]
        written = json.dumps(asdict(self) | {"rows": rows}, indent=1)
        (folder / f"{name}.json").write_text(written + "\n")
        (folder / f"{name}.md").write_text(table(self))


_HEAD = (
    "| model | tokens per text | tok/s | encode fp16 tok/s (batch) | ratio | share of peak | idle "
    "| memory | fill | cosine to fp32 |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- | "
    "--- |\n"
)


def table(result: Result) -> str:
    """The run as Markdown: where, when, and a line per row."""
    versions = ", ".join(f"{name} {number}" for name, number in result.versions.items())
    peak = f"; matrix peak {result.peak_tflops:.0f} TFLOP/s" if result.peak_tflops else ""
    compiled = ", compiled" if result.compiled else ""
    head = f"{result.chip}, {result.date}, {result.precision}{compiled}, {versions}{peak}\n\n"
    return head + _HEAD + "".join(f"{line(row)}\n" for row in result.rows)


def line(row: Row) -> str:
    """A row of the table."""
    memory = None if row.peak_memory_bytes is None else f"{row.peak_memory_bytes / 2**30:.1f} GiB"
    cells = [
        row.shape + ("" if row.encoder == "PackedEncoder" else f" ({row.encoder})"),
        row.length,
        f"{row.tokens_per_second:,.0f}",
        f"{row.peer_tokens_per_second:,.0f} ({row.peer_batch_size})",
        f"{row.ratio:.2f}",
        _percent(row.share_of_peak),
        _percent(row.idle_share),
        memory or "-",
        _percent(row.padding_waste),
        f"{row.lowest_cosine_to_fp32:.6f}",
    ]
    return f"| {' | '.join(cells)} |"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}%"
