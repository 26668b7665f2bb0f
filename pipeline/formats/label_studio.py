"""Label Studio: JSON, a list of tasks with `data` and `annotations`, or JSON_MIN, with `annotation_id` and `annotator`.

Specification: https://labelstud.io/guide/task_format (tasks), https://labelstud.io/guide/export (JSON, JSON_MIN),
https://labelstud.io/tags/rectanglelabels and its neighbours (what a region holds).

Units: per cent of the image's width and height (0–100), origin at the top-left corner. A rectangle is x, y, width and height, and
turns by `rotation` degrees clockwise about its top-left corner; an ellipse has its centre at x, y (the documentation says its
corner). A turn is one in pixels of the image as it was shown: `original_width` and `original_height`, which also tell the frame
of a photo turned by EXIF (upright in browsers since 2020). `image_rotation` is how it was turned on the screen: it moves nothing.

Quirks: of several annotations of a task the ground truth counts, else the one changed last; cancelled ones never do, and
`options: {completed_by: 3}` picks those of one person. What is left out stands in the ledger. Predictions and drafts are no
labels. A task without annotations is unlabelled; one with an empty annotation is background. The tags Rectangle and Labels make
two results with one id; a region with several labels makes several boxes. Polygons, ellipses and masks give their tight box;
relations of regions, and texts and choices about one, are not read. JSON_MIN writes a single choice like a column of data:
nothing tells the two apart. JSON holds no order of the classes: it is that of the labelling configuration where that lies beside
it as an XML file, and alphabetical otherwise. How images are called: `_label_studio.py`.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import orjson

from pipeline.errors import DataError
from pipeline.files import write_bytes, write_text
from pipeline.formats import Evidence, Holdable
from pipeline.formats._common import link_images, spread
from pipeline.formats._json import SNIFFED_FILES, has_keys, parse
from pipeline.formats._label_studio import Config, image_columns, names_before_upload, read_config, spellings
from pipeline.formats._label_studio_regions import NO_BOX, Region, regions_of, tight_box
from pipeline.formats._label_studio_tasks import SIZE, Task, as_list, as_text, choose, finished, tasks_of
from pipeline.formats._xml import quoteattr
from pipeline.labelling.labels import LabelledImage, Labels, Malformed
from pipeline.ledger import Action, Item, Ledger
from pipeline.stage import StageParams

if TYPE_CHECKING:
    from pipeline.dataset import Dataset
    from pipeline.labelling.fileset import FileSet

HOLDS: frozenset[Holdable] = frozenset({"class_order", "background", "sizes"})
IMAGES = "images"
TASKS, CONFIG = "tasks.json", "label_config.xml"
RESULTS_A_TASK = 1 << 20  # a box's place holds the number of its task and that of its result


class Options(StageParams):
    """`completed_by`: read only the annotations of this person (the id or e-mail address in the file)."""

    completed_by: int | str | None = None


def detect(files: FileSet) -> Evidence | None:
    candidates = spread(files.with_suffix(".json"), SNIFFED_FILES)
    found = next((path for path in candidates if _is_label_studio(files, path)), None)
    return Evidence(f"{found} holds tasks of Label Studio") if found else None


def _is_label_studio(files: FileSet, path: str) -> bool:
    if has_keys(files, path, "data", opening=b"["):
        return any(has_keys(files, path, key, opening=b"[") for key in ("annotations", "completions", "predictions"))
    if has_keys(files, path, "annotation_id", "annotator", opening=b"["):
        return True
    return has_keys(files, path, "data", "result", "annotations") or has_keys(files, path, "task", "result", "completed_by")


@dataclass(frozen=True)
class _File:
    """One file of tasks, and what reading it needs."""

    path: str
    labels: Labels
    ledger: Ledger
    options: Options
    config: Config
    originals: Mapping[str, str]

    def note(self, item: Item, action: Action, reason: str, detail: str, image: str = "") -> None:
        self.ledger.add(item, action, reason, path=image, file=self.path, detail=detail)


def read(files: FileSet, ledger: Ledger, options: Options) -> Labels:
    labels = Labels(normalised=True, locate=lambda file, place: (0, _where(*divmod(place, RESULTS_A_TASK))))
    config = read_config(files, labels)
    for name in config.names:
        labels.class_id(name)
    originals = names_before_upload(files.photos)
    for path in files.with_suffix(".json"):
        if not _is_label_studio(files, path):
            continue
        try:
            document = parse(files, path)
        except DataError as error:
            labels.malformed.append(Malformed.of(error, path))
            continue
        if not isinstance(document, (list, dict)):
            labels.malformed.append(Malformed(path, 0, "expected a list of tasks"))
            continue
        rows = document if isinstance(document, list) else [document]
        _read_rows(rows, _File(path, labels, ledger, options, config, originals))
    if not config.names:
        labels.sort_classes()
    return labels


def _where(task: int, result: int) -> str:
    return f"task {task}, result {result}"


def _read_rows(rows: Sequence[Any], file: _File) -> None:
    unread: Counter[str] = Counter()
    for task in tasks_of(rows):
        if task.data is None:
            file.note("image", "dropped", "no_file_name", f"task {task.number} has no data")
            continue
        unread["predictions"] += task.unread[0]
        unread["drafts"] += task.unread[1]
        columns = image_columns(task.data, file.config)
        annotation = _annotation(task, columns, file)
        if annotation is not None:
            results = as_list(annotation.get("result"))
            unread["relations"] += sum(isinstance(result, dict) and result.get("type") == "relation" for result in results)
            _read_regions(regions_of(results), columns, task, file)
    for what, count in unread.items():
        if count:
            file.note("file", "kept", f"{what}_ignored", f"{count} {what}")


def _annotation(task: Task, columns: Mapping[str, list[str]], file: _File) -> dict[str, Any] | None:
    """The annotation that counts; None where the task is unlabelled."""
    candidates = finished(task.annotations)
    chosen = choose(candidates, file.options.completed_by)
    others = [annotation for annotation in candidates if annotation is not chosen]
    image = next((name for references in columns.values() for name in spellings(references[0], file.originals)), "")
    if task.annotations and not candidates:
        file.note("image", "kept", "annotation_cancelled", f"task {task.number}", image)
    if others:
        kept, left = (", ".join(as_text(one.get("id")) or "?" for one in some) for some in ([chosen] if chosen else [], others))
        detail = f"task {task.number}: annotation {kept or 'none'} is read, left out: {left}"
        file.note("image", "kept", "other_annotations", detail, image)
    return chosen


def _read_regions(regions: Sequence[Region], columns: Mapping[str, list[str]], task: Task, file: _File) -> None:
    by_page: dict[tuple[str, int], list[Region]] = defaultdict(list)
    is_one_target = len({region.target for region in regions if region.shape}) < 2
    for region in regions:
        by_page[_column(region, columns, is_one_target, file.config), region.page].append(region)
    drawn_on = {column for column, _ in by_page}
    shown = columns.keys() & (file.config.columns.values() or drawn_on)
    if not shown and "" not in drawn_on:
        shown = set(list(columns)[:1])
    if not columns:
        file.note("image", "dropped", "no_file_name", f"no column of task {task.number} leads to an image")
    for column, references in columns.items():
        for page, reference in enumerate(references if column in shown else ()):
            names = spellings(reference, file.originals)
            if names:
                _add_image(names, by_page.pop((column, page), []), task, file)
            else:
                file.note("image", "dropped", "no_file_name", f"task {task.number}: {column} holds no name")
    for lost in by_page.values():
        for region in lost:
            _, kind = tight_box(region.shape, region.size)
            reason = kind if kind in NO_BOX else "unknown_image"
            file.note("box", "dropped", reason, _where(task.number, region.number))


def _column(region: Region, columns: Mapping[str, list[str]], is_one_target: bool, config: Config) -> str:
    """The column that a region was drawn on: as the configuration or the region says, or because there is no other."""
    for column in (config.columns.get(region.target, ""), region.target, region.source):
        if column in columns:
            return column
    return next(iter(columns), "") if is_one_target else ""


def _add_image(names: tuple[str, ...], regions: Sequence[Region], task: Task, file: _File) -> None:
    sizes = (region.size for region in regions if all(region.size))
    width, height = size = next(sizes, task.size)
    image = file.labels.add_image(LabelledImage(file.path, names, width=width, height=height))
    for region in regions:
        where = _where(task.number, region.number)
        box, kind = tight_box(region.shape, region.size if all(region.size) else size)
        if box is None:
            file.note("box", "dropped", kind if kind in NO_BOX else "malformed_box", where, names[0])
            continue
        if not region.names:
            file.note("box", "dropped", "no_class", where, names[0])
            continue
        if kind != "rectangle":
            file.note("box", "converted", kind, where, names[0])
        if len(region.names) > 1:
            file.note("box", "converted", "several_labels", f"{where} {', '.join(region.names)}", names[0])
        place = task.number * RESULTS_A_TASK + min(region.number, RESULTS_A_TASK - 1)
        for name in region.names:
            file.labels.rows.extend((image, file.labels.class_id(name), *box, place))


def write(dataset: Dataset, images_folder: Path | None, out: Path) -> None:
    """`images/<path>`, `tasks.json` to import, and `label_config.xml`, the labelling configuration with the classes.

    The tasks lead to files on the server's disk: `LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT` is to be `out`, and `images` a local
    storage of the project (https://labelstud.io/guide/storage#Local-storage).

    Raises:
        DataError: a class name that XML cannot hold, or that begins with `$`, which stands for a column of the tasks there.
    """
    columns_by_name = [name for name in dataset.class_names if name.startswith("$")]
    if columns_by_name:
        raise DataError(
            "Label Studio takes these class names for columns", "Rename them (annotate.classes.rename).", columns_by_name
        )
    link_images(dataset, images_folder, out / IMAGES)
    images = dataset.image_rows("path", "width", "height")
    tasks = []
    for number, ((path, width, height), (edges, class_ids)) in enumerate(zip(images, dataset.by_image(), strict=True), 1):
        size = dict(zip(SIZE, (width, height), strict=True))
        results = [
            {
                "id": f"{number}-{position}",
                "from_name": "label",
                "to_name": "image",
                "type": "rectanglelabels",
                **size,
                "image_rotation": 0,
                "value": {**_rectangle(box, width, height), "rectanglelabels": [dataset.class_names[class_id]]},
            }
            for position, (box, class_id) in enumerate(zip(edges.tolist(), class_ids.tolist(), strict=True), 1)
        ]
        data = {"image": f"/data/local-files/?d={quote(f'{IMAGES}/{path}')}"}
        annotation = {"id": number, "result": results, "was_cancelled": False, "ground_truth": False}
        tasks.append({"id": number, "data": data, "meta": size, "annotations": [annotation], "predictions": []})
    write_text(out / CONFIG, _configuration(dataset.class_names))
    write_bytes(out / TASKS, orjson.dumps(tasks))


def _rectangle(box: Sequence[float], width: int, height: int) -> dict[str, float]:
    x1, y1, x2, y2 = box
    x, dx = 100 * x1 / width, 100 * (x2 - x1) / width
    y, dy = 100 * y1 / height, 100 * (y2 - y1) / height
    return {"x": x, "y": y, "width": dx, "height": dy, "rotation": 0}


def _configuration(class_names: Sequence[str]) -> str:
    # The category is the class id in Label Studio's own exports to COCO and YOLO, which sort the classes by name without it.
    labels = "".join(f'    <Label value={quoteattr(name)} category="{number}"/>\n' for number, name in enumerate(class_names))
    document = (
        '<View>\n  <Image name="image" value="$image"/>\n  <RectangleLabels name="label" toName="image">\n'
        f"{labels}  </RectangleLabels>\n</View>\n"
    )
    try:
        ET.fromstring(document)  # noqa: S314 - our own
    except ET.ParseError as error:
        raise DataError("A class name has characters that XML cannot hold", "Rename it (annotate.classes.rename).") from error
    return document
