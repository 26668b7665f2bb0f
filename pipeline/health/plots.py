"""Plots of the statistics: classes, boxes in an image, sizes, shapes, places, and how the sides of a split differ."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.dataset import EDGES, Dataset
from pipeline.health.splits import Histogram, shares
from pipeline.metrics.pictures import ACCENT, MUTED, SERIES, label_of, save, style, subtitle

MOST_CLASSES = 40
MOST_BARS = 12
MOST_DOTS = 20_000
"""More would only cover each other."""


def _class_balance(dataset: Dataset, path: Path) -> None:
    counts = np.bincount(dataset.boxes["class_id"].to_numpy(), minlength=len(dataset.class_names))
    order = np.argsort(-counts, kind="stable")[:MOST_CLASSES][::-1]
    with style():
        figure, axes = _axes(6.4, 1.2 + 0.28 * len(order))
        axes.barh(np.arange(len(order)), counts[order], color=ACCENT, height=0.7)
        axes.set_yticks(np.arange(len(order)), [label_of(dataset.class_names[k], k) for k in order])
        for place, k in enumerate(order):
            axes.annotate(f"{counts[k]:,}", (counts[k], place), (4, 0), textcoords="offset points", va="center", color=MUTED)
        axes.set_title("Boxes of each class")
        axes.grid(axis="y", visible=False)
        save(figure, path)


def _boxes_per_image(dataset: Dataset, path: Path) -> None:
    per_image = np.bincount(dataset.boxes["image"].to_numpy(), minlength=len(dataset.images))
    most = int(per_image.max())
    edges = np.arange(most + 2) - 0.5 if most <= 60 else np.linspace(-0.5, most + 0.5, 61)
    with style():
        figure, axes = _axes(6.4, 3.6)
        axes.hist(per_image, bins=edges, color=ACCENT)
        axes.set_title("Boxes in an image")
        axes.locator_params(integer=True)
        axes.set_xlabel("boxes")
        axes.set_ylabel("images")
        save(figure, path)


def _box_sizes(dataset: Dataset, path: Path) -> None:
    edges, sizes = dataset.boxes[EDGES].to_numpy(), dataset.images[["width", "height"]].to_numpy()
    share = np.maximum((edges[:, 2:] - edges[:, :2]) / np.maximum(sizes[dataset.boxes["image"].to_numpy()], 1), 1e-4)
    share = np.minimum(share, 1.05)
    class_ids = dataset.boxes["class_id"].to_numpy()
    chosen = np.random.default_rng(0).permutation(len(share))[:MOST_DOTS]
    with style():
        figure, axes = _axes(5.6, 5.2)
        counts = np.bincount(class_ids)
        frequent = [k for k in np.argsort(-counts, kind="stable").tolist() if counts[k]][: len(SERIES)]
        for place, k in enumerate(frequent):
            rows = chosen[class_ids[chosen] == k]
            axes.scatter(
                share[rows, 0], share[rows, 1], s=5, alpha=0.5, color=SERIES[place], label=label_of(dataset.class_names[k], k)
            )
        axes.set(xscale="log", yscale="log", xlim=(share.min() / 1.2, 1.1), ylim=(share.min() / 1.2, 1.1))
        ticks = [tick for tick in (1e-4, 1e-3, 1e-2, 1e-1, 1) if tick > share.min() / 1.2]
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks(ticks, [f"{100 * tick:g} %" for tick in ticks])
            axis.set_minor_formatter("")
        axes.set_title("Box sizes")
        subtitle(axes, "width and height as shares of the image's")
        axes.set_xlabel("width")
        axes.set_ylabel("height")
        axes.legend(loc="upper left", markerscale=3)
        save(figure, path)


def _box_shapes(dataset: Dataset, path: Path) -> None:
    edges = dataset.boxes[EDGES].to_numpy()
    ratio = np.maximum(edges[:, 2] - edges[:, 0], 1e-3) / np.maximum(edges[:, 3] - edges[:, 1], 1e-3)
    with style():
        figure, axes = _axes(6.4, 3.6)
        axes.hist(np.log2(np.clip(ratio, 1 / 32, 32)), bins=np.linspace(-5, 5, 61), color=ACCENT)
        axes.set_xticks(np.arange(-4, 5, 2), ["1:16", "1:4", "1:1", "4:1", "16:1"])
        axes.locator_params(axis="y", integer=True)
        axes.set_title("Width over height of the boxes")
        axes.set_ylabel("boxes")
        save(figure, path)


def _box_positions(dataset: Dataset, path: Path) -> None:
    heat = heat_map(dataset)
    with style():
        figure, axes = _axes(5.6, 4.8)
        shape = float((dataset.images["height"] / dataset.images["width"]).median())
        axes.imshow(heat, cmap="magma", extent=(0, 1, 1, 0), aspect=shape, vmin=0)
        axes.grid(visible=False)
        axes.set(xticks=(), yticks=())
        axes.set_title("Where the boxes lie")
        subtitle(axes, "boxes over each place, in an image scaled to one size; dark is none")
        save(figure, path)


def heat_map(dataset: Dataset, cells: int = 64) -> NDArray[np.float64]:
    """How many boxes cover each of `cells` x `cells` places of the image, (cells, cells), first index from top to bottom."""
    sizes = dataset.images[["width", "height"]].to_numpy()[dataset.boxes["image"].to_numpy()]
    share = dataset.boxes[EDGES].to_numpy() / np.maximum(np.tile(sizes, 2), 1)
    low = np.clip(np.floor(share[:, :2] * cells), 0, cells).astype(int)
    high = np.clip(np.ceil(share[:, 2:] * cells), 0, cells).astype(int)
    # Corners with signs, summed up along both axes, fill each box without a loop over boxes.
    corners = np.zeros((cells + 1, cells + 1))
    for x, y, sign in ((low, low, 1), (high, high, 1), (low, high, -1), (high, low, -1)):
        np.add.at(corners, (y[:, 1], x[:, 0]), sign)
    return np.asarray(corners.cumsum(axis=0).cumsum(axis=1)[:cells, :cells])


PLOTS: dict[str, Callable[[Dataset, Path], None]] = {
    "class_balance": _class_balance,
    "boxes_per_image": _boxes_per_image,
    "box_sizes": _box_sizes,
    "box_shapes": _box_shapes,
    "box_positions": _box_positions,
}


def drift(path: Path, title: str, histogram: Histogram) -> None:
    """The distributions of the sides beside each other; of many bins the fullest."""
    share = shares(histogram)
    total = np.sum(list(share.values()), axis=0)
    bins = np.sort(np.argsort(-total, kind="stable")[:MOST_BARS])
    with style():
        figure, axes = _axes(6.4, 3.6)
        width = 0.8 / len(share)
        for place, (name, values) in enumerate(share.items()):
            axes.bar(np.arange(len(bins)) + (place + 0.5) * width - 0.4, values[bins], width, color=SERIES[place], label=name)
        axes.set_xticks(np.arange(len(bins)), [label_of(histogram.names[k], k) for k in bins], rotation=30, ha="right")
        axes.set_title(title)
        axes.set_ylabel(f"share of the {histogram.what}")
        axes.legend()
        save(figure, path)


def _axes(width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()
