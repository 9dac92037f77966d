"""The house style of the plots: one opaque card with a title, named axes and few colours.

What is drawn on it is in `plots.py`. Figures are made without pyplot, whose global state is not
safe across threads. matplotlib takes half a second to load: import this module and `plots.py`
where a picture is wanted, not at the top of another.
"""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, StrMethodFormatter
from numpy.typing import NDArray
from PIL import Image

WIDTH_PX, HEIGHT_PX = 900, 540
_DPI = 120

# Opaque and nearly white: the same on a light and a dark page.
CARD, GRID = "#fbfaf7", "#e4e2dc"
INK, FAINT = "#26292e", "#6b7078"
BAR, MARK = "#0072b2", "#b3470b"

# Odd, so that equal values stand in the middle of one bar rather than at the edge of two.
_LEAST_BINS, _MOST_BINS = 11, 51
_MAX_LABEL_CHARS = 22
# Cyrillic is the last block that matplotlib's own font has whole; the rest would draw as warnings.
_LAST_DRAWN = "\u04ff"


def card(title: str, subtitle: str, *, legend: bool = False) -> tuple[Figure, Axes]:
    """Empty card of WIDTH_PX x HEIGHT_PX and the axes to draw on.

    With `legend` the right quarter stays free for `draw_legend`.
    """
    figure = Figure(
        figsize=(WIDTH_PX / _DPI, HEIGHT_PX / _DPI),
        dpi=_DPI,
        facecolor=CARD,
    )
    # Fixed margins rather than a layout engine: titles and axes stand at the same place on every
    # card, and it draws twice as fast. Tick labels up to 999,999 fit.
    axes = figure.add_axes((0.125, 0.135, 0.6 if legend else 0.845, 0.715), facecolor=CARD)
    axes.set_title(title, loc="left", color=INK, fontsize=13, fontweight="bold", pad=24)
    axes.annotate(
        subtitle,
        (0, 1),
        xytext=(0, 9),
        xycoords="axes fraction",
        textcoords="offset points",
        color=FAINT,
        fontsize=9.5,
    )
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(FAINT)
    axes.tick_params(colors=FAINT, labelsize=9, length=0, pad=6)
    axes.grid(axis="y", color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def name_axes(axes: Axes, x: str, y: str) -> None:
    """Label both axes; `x` and `y` name the quantity and its unit."""
    axes.set_xlabel(x, color=INK, fontsize=10, labelpad=7)
    axes.set_ylabel(y, color=INK, fontsize=10, labelpad=7)


def draw_histogram(
    axes: Axes, values: NDArray[Any], *, least_span: float, whole_numbers: bool = False
) -> None:
    """Bars of how many `values` (n,) lie where, on an x axis at least `least_span` wide.

    Values closer together than that differ by nothing worth a look, and draw as one bar. With
    `whole_numbers` every bar holds the same number of integers. The number of bars follows the
    Rice rule, 2 n^(1/3), within bounds.
    """
    if len(values) == 0:
        say_nothing_to_show(axes)
        return
    bins = min(_MOST_BINS, max(_LEAST_BINS, 2 * int(np.cbrt(len(values))) + 1))
    low, high = float(values.min()), float(values.max())
    margin = max(0.0, least_span - (high - low)) / 2
    low, high = low - margin, high + margin
    if whole_numbers:
        width = max(1, int(np.ceil((high - low + 1) / bins)))
        edges = np.arange(np.floor(low), np.ceil(high) + width + 1, width) - 0.5
    else:
        edges = np.linspace(low, high, bins + 1)
    axes.hist(values, bins=edges.tolist(), color=BAR, edgecolor=CARD, linewidth=0.5)
    axes.margins(x=0.01)
    # Room above the highest bar for the labels of `mark_values`.
    axes.margins(y=0.14)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(StrMethodFormatter("{x:,.6g}"))


def say_nothing_to_show(axes: Axes) -> None:
    """Leave the axes empty, and say that this is meant."""
    axes.set(xticks=[], yticks=[])
    axes.text(0.5, 0.5, "nothing to show", ha="center", color=FAINT, transform=axes.transAxes)


def mark_values(axes: Axes, marks: Sequence[tuple[float, str]]) -> None:
    """Draw a dashed line at each (value, label), ascending; labels step down, not to overlap."""
    left, right = axes.get_xlim()
    for i, (value, label) in enumerate(marks):
        axes.axvline(value, color=MARK, linewidth=1.2, linestyle=(0, (4, 3)))
        # On the side where there is room.
        on_left = value > (left + right) / 2
        axes.annotate(
            label,
            (value, 1),
            xycoords=("data", "axes fraction"),
            xytext=(-5 if on_left else 5, -11 - 14 * i),
            textcoords="offset points",
            ha="right" if on_left else "left",
            color=MARK,
            fontsize=9,
            bbox={"facecolor": CARD, "edgecolor": "none", "pad": 1.0, "alpha": 0.85},
        )


def drawable(name: str) -> str:
    """`name` as a short label: its middle cut out, and what the font lacks as empty squares."""
    if len(name) > _MAX_LABEL_CHARS:
        half = (_MAX_LABEL_CHARS - 1) // 2
        name = f"{name[:half]}…{name[-half:]}"
    return "".join(
        c if (c.isprintable() and c <= _LAST_DRAWN) or c == "…" else "\N{WHITE SQUARE}"
        for c in name
    )


def draw_legend(axes: Axes, points: Sequence[PathCollection], labels: Sequence[str]) -> None:
    """List what the points of each colour are, to the right of the axes."""
    legend = axes.legend(
        points,
        labels,
        loc="upper left",
        bbox_to_anchor=(1.01, 1.03),
        frameon=False,
        fontsize=8,
        labelcolor=INK,
        handletextpad=0.2,
        labelspacing=0.6,
    )
    for handle in legend.legend_handles:
        if isinstance(handle, PathCollection):
            handle.set_sizes([36.0])
    for text in legend.get_texts():
        # A folder named `$x_1$` is not a formula.
        text.set_parse_math(False)


def png(figure: Figure) -> bytes:
    """Figure as PNG with a palette of 128 colours: a third of the bytes of true colour."""
    pixels, file = io.BytesIO(), io.BytesIO()
    figure.savefig(pixels, format="rgba", dpi=_DPI)
    image = Image.frombytes("RGBA", (WIDTH_PX, HEIGHT_PX), pixels.getvalue())
    image.convert("RGB").quantize(128).save(file, format="png", optimize=True)
    return file.getvalue()
