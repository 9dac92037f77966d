"""Pictures of a corpus's vectors, each a PNG of 900 x 540 px and well under 100 KB.

For the Dagster UI, which keeps them in its event log, and for the README. How they look is in
`plot_card.py`; import both where a picture is wanted, not at the top of another module.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from numpy.typing import NDArray

from embed_assets.quality.drift import NEIGHBOURS, ModelDrift
from embed_assets.quality.plot_card import (
    BAR,
    GRID,
    INK,
    MARK,
    card,
    draw_histogram,
    draw_legend,
    drawable,
    mark_values,
    name_axes,
    png,
    say_nothing_to_show,
)
from embed_assets.quality.vectors import row_norms, sample_cosines, sample_directions, sample_rows

#: More points than this would hide each other on a card.
MAP_POINTS = 2000

# Okabe & Ito's colours, told apart under every common colour blindness; their yellow and black,
# too faint and too loud on a light card, gave way to olive and purple. The shapes help further.
_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#8a8a00", "#5d3a9b")
_SHAPES = ("o", "o", "o", "o", "^", "^", "s", "s")
_OTHER_COLOUR = "#b5b3ad"
_BEFORE = "#e69f00"


def token_lengths_plot(lengths: NDArray[Any]) -> bytes:
    """Histogram of chunk lengths (n,) in tokens, with median and 95th percentile."""
    figure, axes = card("Chunk lengths", _count(len(lengths), "chunk"))
    draw_histogram(axes, lengths, least_span=10.0, whole_numbers=True)
    name_axes(axes, "tokens per chunk", "chunks")
    if len(lengths):
        median, high = (float(value) for value in np.percentile(lengths, (50, 95)))
        mark_values(axes, [(median, f"median {median:,.0f}"), (high, f"95% up to {high:,.0f}")])
    return png(figure)


def norms_plot(norms: NDArray[Any]) -> bytes:
    """Histogram of Euclidean norms (n,); those not finite are counted in the subtitle."""
    finite = norms[np.isfinite(norms)]
    lost = len(norms) - len(finite)
    note = f", {lost:,} of them not finite and not shown" if lost else ""
    figure, axes = card("Vector norms", _count(len(norms), "vector") + note)
    # Norms of normalised vectors differ by rounding alone: one bar, not a distribution.
    draw_histogram(axes, finite, least_span=0.01)
    name_axes(axes, "Euclidean norm", "vectors")
    if len(finite):
        mark_values(axes, [(float(finite.mean()), f"mean {finite.mean():.4f}")])
    return png(figure)


def pairwise_similarity_plot(vectors: NDArray[np.float32]) -> bytes:
    """Histogram of the cosines between sampled pairs of vectors (n, d), with their mean."""
    cosines = sample_cosines(vectors)
    sizes = f"{_count(len(cosines), 'pair')} drawn from {_count(len(vectors), 'vector')}"
    figure, axes = card("Similarity of two vectors", sizes)
    draw_histogram(axes, cosines, least_span=0.1)
    name_axes(axes, "cosine similarity", "pairs")
    if len(cosines):
        mark_values(axes, [(float(cosines.mean()), f"mean {cosines.mean():.3f}")])
    return png(figure)


def throughput_plot(shards: Sequence[str], tokens_per_second: NDArray[Any]) -> bytes:
    """Speed (n,) at which each shard's vectors were made, in tokens per second, in key order.

    Shards that nothing was embedded for have no speed and no point. The dashed line is the median.
    """
    known = np.isfinite(tokens_per_second) & (tokens_per_second > 0)
    speeds, lacking = tokens_per_second[known], len(shards) - int(known.sum())
    parts = [_count(len(shards), "shard")]
    if lacking:
        parts.append(f"{lacking:,} of them without a speed: all vectors were at hand")
    if len(speeds):
        parts.append(f"median {np.median(speeds):,.0f}")
    figure, axes = card("Embedding speed by shard", ", ".join(parts))
    size = 42.0 if len(shards) <= 40 else 14.0 if len(shards) <= 400 else 5.0
    axes.scatter(np.flatnonzero(known), speeds, s=size, c=BAR, linewidths=0)
    axes.set_xlim(-0.5, max(1, len(shards)) - 0.5)
    _label_ends(axes, shards)
    axes.set_ylim(0, 1.1 * float(speeds.max()) if len(speeds) else 1.0)
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.6g}"))
    name_axes(axes, "shard", "tokens per second")
    if len(speeds):
        median = float(np.median(speeds))
        axes.axhline(median, color=MARK, linewidth=1.2, linestyle=(0, (4, 3)), zorder=3)
    return png(figure)


def _label_ends(axes: Axes, names: Sequence[str]) -> None:
    """Name the first, the middle and the last position of the x axis."""
    ticks = sorted({0, len(names) // 2, len(names) - 1})
    axes.set_xticks(ticks, [drawable(names[tick]) for tick in ticks])
    labels = axes.get_xticklabels()
    _without_math(labels)
    if len(names) > 2:
        # Inwards, or the outermost would stand beyond the card.
        labels[0].set_horizontalalignment("left")
        labels[-1].set_horizontalalignment("right")


def drift_plot(drift: ModelDrift) -> bytes:
    """Histograms of the cosines of the same pairs of texts, before and after a change of model."""
    same = f"{drift.neighbour_overlap:.0%} of the {NEIGHBOURS} nearest neighbours are the same"
    figure, axes = card(
        "Drift against the previous fingerprint",
        f"{_count(drift.n_texts, 'text')} under both; {same}",
    )
    low = min(float(drift.before.min()), float(drift.after.min()))
    high = max(float(drift.before.max()), float(drift.after.max()))
    bins = np.linspace(low, max(high, low + 0.1), 61).tolist()
    axes.hist(drift.before, bins=bins, color=_BEFORE, alpha=0.35)
    axes.hist(drift.before, bins=bins, histtype="step", color=_BEFORE, linewidth=1.6)
    axes.hist(drift.after, bins=bins, histtype="step", color=BAR, linewidth=1.9)
    axes.margins(x=0.01, y=0.14)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:,.6g}"))
    name_axes(axes, "cosine similarity", "pairs of texts")
    shown = (
        (f"before: {drift.earlier_fingerprint[:8]}, mean {drift.before.mean():.3f}", _BEFORE, 0.35),
        (f"now, mean {drift.after.mean():.3f}", BAR, 0.0),
    )
    legend = axes.legend(
        handles=[
            Patch(facecolor=(colour, alpha), edgecolor=colour, linewidth=1.6, label=label)
            for label, colour, alpha in shown
        ],
        loc="upper right",
        frameon=False,
        fontsize=9,
        labelcolor=INK,
    )
    _without_math(legend.get_texts())
    return png(figure)


def token_budget_plot(
    budgets: NDArray[Any], tokens_per_second: NDArray[Any], best: int, device: str
) -> bytes:
    """Speed (n,) over token budgets (n,) in ascending order; `best` is the one to use."""
    figure, axes = card("Speed over token budget", f"{device}, {_count(len(budgets), 'budget')}")
    axes.set_xscale("log", base=2)
    axes.plot(budgets, tokens_per_second, color=BAR, marker="o", linewidth=1.5)
    axes.set_xticks(budgets, [f"{int(budget):,}" for budget in budgets], rotation=30, fontsize=8)
    axes.minorticks_off()
    axes.set_ylim(0, 1.12 * float(np.max(tokens_per_second)))
    axes.grid(axis="y", color=GRID)
    name_axes(axes, "tokens per batch", "tokens per second")
    mark_values(axes, [(best, f"best {best:,}")])
    return png(figure)


def vector_map_plot(vectors: NDArray[np.float32], groups: Sequence[str]) -> bytes:
    """Vectors (n, d) on their first two principal components, coloured by group (n names).

    The eight largest groups have a colour, all others are "other". Vectors are scaled to length 1
    first; those without a direction are not shown.
    """
    norms = row_norms(vectors)
    usable = np.flatnonzero(np.isfinite(norms) & (norms > 0))
    shown = usable[sample_rows(len(usable), MAP_POINTS)]
    points, explained = _principal_components(sample_directions(vectors[shown]))
    counted = _count(len(vectors), "vector")
    sizes = counted if len(shown) == len(vectors) else f"{len(shown):,} of {counted}"
    figure, axes = card("Map of the vectors", f"{sizes}, coloured by source folder", legend=True)
    if len(shown):
        _draw_groups(axes, points, np.array([groups[i] for i in shown], dtype=np.str_))
    else:
        say_nothing_to_show(axes)
    x, y = (f"principal component {i + 1} ({explained[i]:.0%} of variance)" for i in (0, 1))
    name_axes(axes, x, y)
    return png(figure)


def _principal_components(
    directions: NDArray[np.float32],
) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Coordinates (n, 2) and each one's share of the variance; zeros where nothing varies."""
    points = np.zeros((len(directions), 2))
    if len(directions) < 2:
        return points, (0.0, 0.0)
    centred = directions.astype(np.float64) - directions.mean(axis=0, dtype=np.float64)
    variances, components = np.linalg.eigh(centred.T @ centred)
    first = components[:, ::-1][:, :2]
    # An eigenvector's sign is arbitrary. Fixed, or tomorrow's map might be today's mirrored.
    largest = first[np.abs(first).argmax(axis=0), np.arange(first.shape[1])]
    points[:, : first.shape[1]] = centred @ (first * np.sign(largest))
    shares = np.append(variances[::-1], 0.0)[:2] / max(float(variances.sum()), 1e-12)
    return points, (float(shares[0]), float(shares[1]))


def _draw_groups(axes: Axes, points: NDArray[np.float64], groups: NDArray[np.str_]) -> None:
    names, counts = np.unique(groups, return_counts=True)
    largest = names[np.argsort(-counts, kind="stable")][: len(_COLOURS)]
    layers = [
        (str(name), groups == name, colour, shape)
        for name, colour, shape in zip(largest, _COLOURS, _SHAPES, strict=False)
    ]
    rest = ~np.isin(groups, largest)
    if rest.any():
        layers.append(("other", rest, _OTHER_COLOUR, "o"))
    size = 9.0 if len(points) > 500 else 20.0
    handles, labels = [], []
    for depth, (name, rows, colour, shape) in enumerate(layers):
        handles.append(
            axes.scatter(
                points[rows, 0],
                points[rows, 1],
                s=size,
                c=colour,
                marker=shape,
                linewidths=0,
                alpha=0.75,
                # "other" lies below, and a small group above a large one.
                zorder=2.0 if colour == _OTHER_COLOUR else 2.1 + 0.1 * depth,
            )
        )
        labels.append(f"{drawable(name)} ({int(rows.sum()):,})")
    draw_legend(axes, handles, labels)
    axes.grid(visible=True, color=GRID, linewidth=0.8)
    # One unit is as long on both axes, or distances on the map would mislead.
    axes.set_aspect("equal", adjustable="datalim")


def _without_math(texts: Iterable[Text]) -> None:
    """A name such as `$x_1$` is not a formula."""
    for text in texts:
        text.set_parse_math(False)


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}" if n == 1 else f"{n:,} {noun}s"
