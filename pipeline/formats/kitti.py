"""KITTI: one text file an image, a row of 15 or 16 columns a box: `Car 0.00 0 -1.58 587.01 173.33 614.12 200.12 …`.

Specification: A. Geiger, P. Lenz, R. Urtasun, "Are we ready for Autonomous Driving?", readme of the object development kit,
https://www.cvlibs.net/datasets/kitti/eval_object.php: type, truncated, occluded, alpha, left, top, right, bottom, then height,
width, length, x, y, z and rotation of the object in space, and in results a score. NVIDIA TAO uses the same rows,
https://docs.nvidia.com/tao/tao-toolkit/text/data_annotation_format.html.

Units: pixels counted from 0, origin at the top-left corner; kept as they are, floats, as edges.

Quirks: a label file's image has the same name in the folder beside it: `label_2/000000.txt` and `image_2/000000.png`, or with
TAO `labels/` and `images/`. The right camera's `image_3` has files of the same names; labels are of `image_2`. `DontCare` marks
a region that nobody labelled: it is dropped, and the ledger says so. A type is one word; where a tool wrote several, the
last 14 columns are the numbers. An empty file says that nothing is on the image. Splits come from
`ImageSets/{train,val,test}.txt`, or from folders. Classes have no numbers; they come in alphabetical order, as they are
written (TAO makes them lower case).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import DataError
from pipeline.files import write_text, write_unseen
from pipeline.formats import Evidence, Holdable
from pipeline.formats._common import image_stems, label_file_names, link_images, listed_name, plain_number, present_names, spread
from pipeline.labelling.labels import LabelledImage, Labels, Malformed, SplitList
from pipeline.ledger import Ledger
from pipeline.stage import StageParams

if TYPE_CHECKING:
    from pipeline.dataset import Dataset
    from pipeline.labelling.fileset import FileSet

IMAGES = "image_2"
HOLDS: frozenset[Holdable] = frozenset({"splits", "background"})

NUMBERS = 14
_LABEL_FOLDER = re.compile(r"label(s?)((?:_\d+)?)", re.IGNORECASE)
_IGNORED = "dontcare"
_UNKNOWN = "-1 -1 -10", "-1 -1 -1 -1000 -1000 -1000 -10"
"""What the development kit writes for unknown truncation, occlusion and angle, and for unknown size, place and rotation."""


class Options(StageParams):
    """KITTI has none."""


def detect(files: FileSet) -> Evidence | None:
    for path in spread(files.with_suffix(".txt"), 200):
        rows = files.read_bytes(path)[:4000].removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace").split("\n", 10)[:10]
        if any(_is_ours(*_split_row(row)) for row in rows):
            return Evidence(f"{path} has rows of a type and {NUMBERS} numbers")
    return None


def _is_ours(name: str, numbers: list[float]) -> bool:
    """Whether a row's numbers are KITTI's; a type that is a number is also how a YOLO polygon of seven corners begins."""
    if not _is_number(name):
        return name != ""
    truncated, occluded, alpha, *box = numbers[:7]
    is_pixels = box[0] < box[2] and box[1] < box[3] and max(box) > 2
    return -1 <= truncated <= 1 and occluded in (-1, 0, 1, 2, 3) and -10 <= alpha <= 10 and is_pixels


def _split_row(row: str) -> tuple[str, list[float]]:
    """The type of a row and its 14 or 15 numbers; "" where it is none."""
    fields = row.split()
    for words in (len(fields) - NUMBERS, len(fields) - NUMBERS - 1):
        if words == 1 or (words > 1 and not _is_number(fields[0]) and not _is_number(fields[words - 1])):
            try:
                return " ".join(fields[:words]), [float(field) for field in fields[words:]]
            except ValueError:
                continue
    return "", []


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def read(files: FileSet, ledger: Ledger, options: Options) -> Labels:
    labels = Labels()
    photos: dict[str, list[str]] = {}
    for photo in files.photos:
        photos.setdefault(photo.rpartition(".")[0], []).append(photo)
    stems = {_stem(photo) for photo in files.photos}
    texts: dict[str, str] = {}
    for path in files.with_suffix(".txt"):
        try:
            texts[path] = files.read_text(path)
        except DataError as error:
            if _list_of_split(path):
                labels.malformed.append(Malformed.of(error, path))
            elif _stem(path) in stems:  # another text is nobody's concern
                labels.malformed.append(Malformed.of(error, path, labels.add_image(_record(path, photos, files.folders))))
    lists = [path for path in texts if path.rpartition("/")[0].rpartition("/")[2].lower() == "imagesets"]
    present = present_names(files)
    labels.splits = [split for path in lists if (split := _read_split_list(files, path, texts.pop(path), present))]
    with_rows = {path for path, text in texts.items() if any(_split_row(row)[0] for row in text.split("\n"))}
    folders = {path.rpartition("/")[0] for path in with_rows}
    for path, text in texts.items():
        folder = path.rpartition("/")[0]
        beside = folder in folders or any(map(_LABEL_FOLDER.fullmatch, folder.split("/")))
        if path in with_rows or (beside and _stem(path) in stems):
            _read_file(text, labels.add_image(_record(path, photos, files.folders)), labels, ledger)
        elif beside:
            ledger.add("file", "kept", "other_text", file=path, detail="no rows of KITTI, and no image of this name")
    labels.sort_classes()
    return labels


def _stem(path: str) -> str:
    return path.rpartition("/")[2].rpartition(".")[0]


def _record(path: str, photos: dict[str, list[str]], folders: frozenset[str]) -> LabelledImage:
    """The image of a label file: in the folder that mirrors its own, or else wherever there is one of that name.

    Args:
        photos: the image files without their suffix, and those of that name with it.
        folders: every folder that holds a file.
    """
    parts, stem = path.split("/")[:-1], _stem(path)
    for number, part in enumerate(parts):
        found = _LABEL_FOLDER.fullmatch(part)
        if found:
            mirror = "/".join([*parts[:number], f"image{found[1]}{found[2]}"])
            places = photos.get("/".join([mirror, *parts[number + 1 :], stem]), [])
            if len(places) == 1:
                return LabelledImage(path, path=places[0])
            if not places and found[2] and mirror in folders:
                return LabelledImage(path)  # missing: KITTI's images of this name elsewhere are others (testing, right camera)
    return LabelledImage(path, (stem,))


def _read_file(text: str, image: int, labels: Labels, ledger: Ledger) -> None:
    record = labels.images[image]
    for line, row in enumerate(text.split("\n"), 1):
        if not row.strip():
            continue
        name, numbers = _split_row(row)
        if not name or name.lower() == _IGNORED:
            reason = "ignored_region" if name else "malformed_box"
            ledger.add("box", "dropped", reason, path=record.label, file=record.file, line=line, detail=row.strip()[:120])
        else:
            labels.rows.extend((image, labels.class_id(name), *numbers[3:7], line))


def _list_of_split(path: str) -> str:
    """The split that a file `ImageSets/<split>.txt` lists; "" for another, and for trainval.txt, the union of two."""
    folder, _, name = path.lower().rpartition("/")
    split = name.removesuffix(".txt")
    return split if split in ("train", "val", "test") and folder.rpartition("/")[2] == "imagesets" else ""


def _read_split_list(files: FileSet, path: str, text: str, present: frozenset[str]) -> SplitList | None:
    """`ImageSets/<split>.txt`: names without suffix, of images that lie beside that folder or in `training/` and `testing/`."""
    split, parent = _list_of_split(path), path.rpartition("/")[0].rpartition("/")[0]
    if not split:
        return None
    half = "testing" if split == "test" else "training"
    places = [f"{parent}/{place}".lstrip("/") for place in (f"{half}/{IMAGES}", f"training/{IMAGES}", IMAGES, "images")]
    place = next((place for place in places if place in files.folders), IMAGES)
    stems = [listed_name(line, present) for line in text.splitlines()]
    return SplitList(split, path, [f"{place}/{stem}" if stem else "" for stem in stems])


def write(dataset: Dataset, images_folder: Path | None, out: Path) -> None:
    """`image_2/<path>`, `label_2/<path>.txt`, and `ImageSets/<split>.txt` where the data set is split.

    Raises:
        DataError: a class has a space in its name or is called DontCare, or two images of one folder differ only in their
            suffix and would share a label file, or the name of one in a list of a split could also be read as the path of
            another.
    """
    for name in (dataset.class_names[number] for number in sorted(set(dataset.class_ids.tolist()))):
        if name.lower() == _IGNORED:
            raise _cannot_hold(name, "marks a region that nobody labelled", f"{name}_")
        if len(name.split()) != 1:
            raise _cannot_hold(name, "would be several columns of a row", "_".join(name.split()))
    label_files, stems = label_file_names(dataset, ".txt"), image_stems(dataset)
    link_images(dataset, images_folder, out / IMAGES)
    for file, (edges, class_ids) in zip(label_files, dataset.by_image(), strict=True):
        rows = (
            f"{dataset.class_names[class_id]} {_UNKNOWN[0]} {' '.join(map(plain_number, box))} {_UNKNOWN[1]}\n"
            for class_id, box in zip(class_ids.tolist(), edges.tolist(), strict=True)
        )
        write_unseen(f"{out}/label_2/{file}", "".join(rows).encode())
    for split in sorted(set(dataset.splits) - {""}):
        chosen = [stem for stem, other in zip(stems, dataset.splits, strict=True) if other == split]
        write_text(out / "ImageSets" / f"{split}.txt", "".join(f"{stem}\n" for stem in chosen))


def _cannot_hold(name: str, why: str, instead: str) -> DataError:
    return DataError(f"KITTI cannot hold the class '{name}', which {why}", f"annotate.classes.rename: {{'{name}': '{instead}'}}")
