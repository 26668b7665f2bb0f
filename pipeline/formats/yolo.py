"""YOLO: one text file an image, a row `class cx cy w h` a box; names in data.yaml, darknet's obj.names or classes.txt.

Specifications: https://docs.ultralytics.com/datasets/detect/ (data.yaml),
https://github.com/AlexeyAB/darknet#how-to-train-to-detect-your-custom-objects (darknet),
https://roboflow.com/formats/yolov8-pytorch-txt (Roboflow's exports).

Units: fractions of the image's width and height, origin at the top-left corner; class numbers start at 0.

A label file lies where `images` is replaced by `labels` in the image's path (the last such folder), or beside the image, or
anywhere under the image's name. An image without a label file is unlabelled, an empty label file says that nothing is on
it.

Quirks: a sixth column is a confidence and is ignored. A longer row is a polygon (`class x1 y1 x2 y2 …`, also four corners
of a rotated box): it gets its tight box. In a pose data set (`kpt_shape`) the box is followed by keypoints. Paths in
data.yaml are absolute on another machine, or Roboflow's `../train/images`: see `_yolo_config`. Where no file lists names,
classes are called `class_0` and so on, unless `options: {names: [...]}` says otherwise.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
from pydantic import Field

from pipeline.errors import DataError
from pipeline.files import write_text, write_unseen
from pipeline.formats import Evidence, Holdable
from pipeline.formats._common import label_file_names, link_images, plain_number, spread
from pipeline.formats._shapes import of_flat
from pipeline.formats._yolo_config import MAX_CLASSES, class_names, find_configs, label_paths
from pipeline.labelling.labels import LabelledImage, Labels, Malformed
from pipeline.ledger import Ledger
from pipeline.stage import StageParams

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.boxes import Boxes
    from pipeline.dataset import Dataset
    from pipeline.labelling.fileset import FileSet


HOLDS: frozenset[Holdable] = frozenset({"splits", "class_order", "background"})
IMAGES = "images"


class Options(StageParams):
    """`names`: class names in the order of their numbers, instead of those that the files list."""

    names: list[str] = Field(default_factory=list)


def detect(files: FileSet) -> Evidence | None:
    configs = find_configs(files, Labels(), Ledger())
    lists = {path for config in configs for path in config.lists}
    texts = [path for path in spread(_text_files(files, lists), 200) if _has_rows(files, path)]
    if configs and configs[0].kind < 2 and (texts or configs[0].splits):
        return Evidence(f"{configs[0].file} lists classes or splits")
    if not texts:
        return None
    if configs:
        return Evidence(f"{texts[0]} has rows of a class number and fractions, {configs[0].file} lists classes")
    return Evidence(f"{texts[0]} has rows of a class number and fractions")


def _text_files(files: FileSet, lists: set[str]) -> list[str]:
    return [path for path in files.with_suffix(".txt") if path not in lists]


def _has_rows(files: FileSet, path: str) -> bool:
    """Whether one of the first rows of a text file is ours: a whole number and at least four numbers around 0 to 1."""
    rows = files.read_bytes(path)[:10_000].removeprefix(b"\xef\xbb\xbf").split(b"\n", 10)[:10]
    return any(_is_row(row.split()) for row in rows)


def _is_row(fields: list[bytes]) -> bool:
    if len(fields) < 5 or not fields[0].isdigit():
        return False
    shown = fields[1:5] if len(fields) <= 6 else fields[1:8]  # KITTI's rows, whose class may be a number, have pixels in 4 to 7
    try:
        return all(-1 <= float(value) <= 2 for value in shown)
    except ValueError:
        return False


def read(files: FileSet, ledger: Ledger, options: Options) -> Labels:
    labels = Labels(normalised=True)
    configs = find_configs(files, labels, ledger)
    lists = {path for config in configs for path in config.lists}
    names, source = (options.names, "annotate.options.names") if options.names else class_names(configs, labels, ledger)
    keypoints = max((config.keypoints for config in configs), default=0)
    rows = _Rows(labels, ledger, names, source, keypoints)
    for image in _pair(files, lists):
        rows.read(files, labels.add_image(image))
    if names is None:
        names = [f"class_{number}" for number in range(rows.highest + 1)]
        detail = f"no file lists class names: they are called {', '.join(names[:3])}{' …' if len(names) > 3 else ''}"
        where = labels.images[0].file if labels.images else ""
        ledger.add("file", "converted", "class_names_invented", file=where, detail=detail)
    _name_classes(labels, names, source, ledger)
    labels.splits = [split for config in configs for split in config.splits]
    return labels


def _pair(files: FileSet, lists: set[str]) -> list[LabelledImage]:
    """One record a label file; where the folders say surely whose it is, with the photo's path."""
    texts = {path[:-4]: path for path in _text_files(files, lists)}
    owners: dict[str, list[str]] = {}
    without = []
    for photo in files.photos:
        place = label_paths(photo)[0][:-4]
        if place in texts:
            owners.setdefault(place, []).append(photo)
        else:
            without.append(photo)
    by_place = set(owners)
    for photo in without:
        beside = label_paths(photo)[1][:-4]
        if beside in texts and beside not in by_place:
            owners.setdefault(beside, []).append(photo)
    records = []
    for stem, path in texts.items():
        photos = owners.get(stem, [])
        if len(photos) == 1:
            records.append(LabelledImage(path, path=photos[0]))
        elif photos or _has_rows(files, path):  # a.jpg and a.png with one a.txt are for `resolve` to report
            records.append(LabelledImage(path, (stem.rpartition("/")[2],)))
    return records


class _Rows:
    """Reads label files into `labels`; boxes as centre and size until `_name_classes`."""

    def __init__(self, labels: Labels, ledger: Ledger, names: list[str] | None, source: str, keypoints: int) -> None:
        self.labels, self.ledger, self.source = labels, ledger, source
        self.limit = MAX_CLASSES if names is None else len(names)
        self.numbers = {str(number): number for number in range(self.limit)}
        self.keypoints = keypoints
        self.highest = -1

    def read(self, files: FileSet, image: int) -> None:
        record = self.labels.images[image]
        try:
            text = files.read_text(record.file)
        except DataError as error:
            self.labels.malformed.append(Malformed.of(error, record.file, image))
            return
        append, numbers = self.labels.rows.extend, self.numbers
        for line, row in enumerate(text.split("\n"), 1):
            fields = row.split()
            if len(fields) == 5:
                try:
                    x, y, width, height = map(float, fields[1:])
                    number = numbers[fields[0]]
                except (ValueError, KeyError):
                    self._odd(fields, line, image)
                    continue
                append((image, number, x, y, width, height, line))
                if number > self.highest:
                    self.highest = number
            elif fields:
                self._odd(fields, line, image)

    def _odd(self, fields: list[str], line: int, image: int) -> None:
        """A row that is no plain box: a confidence, a polygon, keypoints, a class beyond the names, or nothing of the kind."""
        record = self.labels.images[image]
        try:
            number, *values = (float(field) for field in fields)
        except ValueError:
            number, values = -1.5, []
        if not number.is_integer() or not self._is_row(len(values)):
            detail = " ".join(fields)[:120]
            self.ledger.add("box", "dropped", "malformed_row", path=record.label, file=record.file, line=line, detail=detail)
            return
        if not 0 <= number < self.limit:
            detail = f"class {number:.0f}" + (f", but {self.source} lists {self.limit}" if self.source else "")
            self.ledger.add("box", "dropped", "unknown_class", path=record.label, file=record.file, line=line, detail=detail)
            return
        if len(values) > 5:
            reason = "keypoints" if self.keypoints else "polygon"
            self.ledger.add("box", "converted", reason, path=record.label, file=record.file, line=line)
            if not self.keypoints:
                values = _tight(values)
        self.highest = max(self.highest, int(number))
        self.labels.rows.extend((image, number, *values[:4], line))

    def _is_row(self, count: int) -> bool:
        if self.keypoints:
            return count in (4, 5, 4 + self.keypoints)
        return count in (4, 5) or (count >= 6 and count % 2 == 0)


def _tight(values: list[float]) -> list[float]:
    """Centre and size of the tight box of a polygon; NaN, which no check lets pass, where one of its numbers is not finite."""
    x1, y1, x2, y2 = of_flat(values) or (math.nan,) * 4
    return [(x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1]


def _name_classes(labels: Labels, names: list[str], source: str, ledger: Ledger) -> None:
    """Turn class numbers into positions in `labels.class_names`, and centres and sizes into edges."""
    import numpy as np

    from pipeline.boxes import from_cxcywhn

    table = labels.table()
    positions = np.array(labels.class_ids(names, source, ledger), dtype=np.float64)
    if len(table):
        table[:, 1] = positions[table[:, 1].astype(np.int64)]
        with np.errstate(invalid="ignore", over="ignore"):  # NaN and infinity are for `checks` to find
            table[:, 2:6] = from_cxcywhn(table[:, 2:6], 1, 1)


def _rows(class_ids: NDArray[np.int64], fractions: Boxes) -> list[bytes]:
    """A row a box. Python takes ten times as long as orjson to write a number."""
    import numpy as np

    if not len(fractions):
        return []
    numbers = np.ascontiguousarray(fractions.round(15))  # 0.1 + 0.2 is 0.3
    lines = orjson.dumps(numbers, option=orjson.OPT_SERIALIZE_NUMPY)[2:-2].replace(b",", b" ").split(b"] [")
    plain = [_without_exponent(line) if b"e" in line else line for line in lines]
    heads = [f"{number} ".encode() for number in range(class_ids.max() + 1)]
    return [heads[class_id] + line for class_id, line in zip(class_ids.tolist(), plain, strict=True)]


def _without_exponent(line: bytes) -> bytes:
    return b" ".join(plain_number(float(value)).encode() for value in line.split())


def write(dataset: Dataset, images_folder: Path | None, out: Path) -> None:
    """`images/<path>`, `labels/<path>.txt`, data.yaml, and `<split>.txt` where the data set is split.

    Raises:
        DataError: two images of one folder differ only in their suffix and would share a label file.
    """
    import yaml

    from pipeline.boxes import to_cxcywhn

    label_file_names(dataset, ".txt")
    link_images(dataset, images_folder, out / IMAGES)
    width, height = dataset.sizes[dataset.image_of_box].T
    rows = _rows(dataset.class_ids, to_cxcywhn(dataset.edges, width, height))
    for path, (start, end) in zip(dataset.paths, dataset.row_ranges(), strict=True):
        lines = b"\n".join(rows[start:end])
        write_unseen(f"{out}/{label_paths(f'{IMAGES}/{path}')[0]}", lines + b"\n" if lines else b"")
    config: dict[str, object] = {"path": "."}
    for split in ("train", "val", "test"):
        chosen = [path for path, other in zip(dataset.paths, dataset.splits, strict=True) if other == split]
        if chosen:
            write_text(out / f"{split}.txt", "".join(f"./images/{path}\n" for path in chosen))
            config[split] = f"{split}.txt"
    if len(config) == 1:
        config |= {"train": "images", "val": "images"}  # the tools want both; the same in both says that there is no split
    config["names"] = dict(enumerate(dataset.class_names))
    write_text(out / "data.yaml", yaml.safe_dump(config, allow_unicode=True, sort_keys=False))
