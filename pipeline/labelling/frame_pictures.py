"""A picture that lets a person decide what nothing in the files says: were the labels drawn upright, or on the stored pixels?"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pipeline import images
from pipeline.boxes import Boxes
from pipeline.dataset import Dataset
from pipeline.drawing import Tile, contact_sheet, draw_boxes, shrink
from pipeline.errors import DataError
from pipeline.labelling.fileset import FileSet

NAME = "frames.jpg"
PHOTOS = 4
TILE_PX = 420


def draw_frames(dataset: Dataset, undecided: Mapping[str, Boxes], files: FileSet, out: Path) -> None:
    """Write `out/frames.jpg`: each photo with its boxes taken as upright, and beside it as stored.

    Args:
        undecided: path → the boxes (N, 4), pixel edges of the upright photo, if they were drawn on the stored pixels.
    """
    numbers = {path: number for number, path in enumerate(dataset.images["path"])}
    tiles: list[Tile] = []
    for path in [path for path in undecided if path in numbers and len(undecided[path])][:PHOTOS]:
        edges, _ = dataset.edges_of(numbers[path])
        try:
            photo = images.decode(files.photo(path))
        except DataError:
            continue  # preprocess will say what is wrong with it
        for boxes, said in ((edges, "as if upright (assumed)"), (undecided[path], "as if on the stored pixels")):
            small, scaled = shrink(photo, boxes, TILE_PX, TILE_PX)
            drawn = draw_boxes(small, scaled, np.zeros(len(scaled), dtype=np.int64), dataset.class_names, labels=False)
            tiles.append(Tile(drawn, f"{path}: {said}"))
    if tiles:
        title = "Which column fits? annotate.frame: upright, or stored"
        images.save(out / NAME, contact_sheet(tiles, 2, TILE_PX, TILE_PX, title))
