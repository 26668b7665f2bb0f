"""Pascal VOC: one XML file an image, `<annotation>` with `<object><bndbox>`; splits in `ImageSets/Main/{train,val,test}.txt`.

Specification: M. Everingham, J. Winn, "The PASCAL VOC2012 Development Kit",
http://host.robots.ox.ac.uk/pascal/VOC/voc2012/htmldoc/devkit_doc.html (section 4, annotation files).

Units: pixels, origin at the top-left corner. The VOC challenge itself counts pixels from 1 and includes the last one, so that its
box 1..640 covers a 640 px wide image. LabelImg and nearly every tool since writes pixel edges counted from 0 (LabelImg only
raises a 0 to 1, https://github.com/HumanSignal/labelImg/blob/master/libs/pascal_voc_io.py). Nothing in a file tells the two
apart, so numbers are kept as they are; `options: {one_based: true}` reads the challenge's way: 1 less for xmin and ymin.

Quirks: `<filename>` may lack its suffix, or still bear the name of the image it was copied from: an image of the XML file's own
name is preferred. `<size>` may be 0 and counts as unknown then. `<part>` boxes are no objects. Edges may be floats, also
with the decimal comma of a program that ran in such a language (`12,5`); `1,024`, which may be a thousand, is dropped and stands
in the ledger. Classes have no numbers; they come in alphabetical order. Lists such as `dog_train.txt` name no split,
`trainval.txt` is the union of two.
An XML file that declares entities is refused: nothing needs them, and they are how a small file becomes a large one.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pipeline.errors import DataError
from pipeline.files import write_text, write_unseen
from pipeline.formats import Evidence, Holdable
from pipeline.formats._common import (
    as_size,
    decimal,
    image_stems,
    is_own_name,
    label_file_names,
    link_images,
    listed_name,
    plain_number,
    present_names,
    spread,
)
from pipeline.formats._xml import escape, locate_tag, parse, root_tag, text
from pipeline.labelling.labels import LabelledImage, Labels, Malformed, SplitList
from pipeline.ledger import Ledger
from pipeline.stage import StageParams

if TYPE_CHECKING:
    from pipeline.dataset import Dataset
    from pipeline.labelling.fileset import FileSet

HOLDS: frozenset[Holdable] = frozenset({"splits", "background", "sizes"})
IMAGES = "JPEGImages"
MASK_FOLDERS = ("SegmentationClass", "SegmentationObject")
_LABELME = re.compile(rb"<(pt|segm|imagesize|deleted)[\s>/]")
_EDGES = ("xmin", "ymin", "xmax", "ymax")


class Options(StageParams):
    """`one_based`: pixels count from 1, as in the VOC challenge; `difficult`: what to do with objects so marked."""

    one_based: bool = False
    difficult: Literal["keep", "drop"] = "keep"


def detect(files: FileSet) -> Evidence | None:
    xml = files.with_suffix(".xml")
    found = [path for path in spread(xml) if _is_annotation(files, path)]
    return Evidence(f"{found[0]} has the root element <annotation>") if found else None


def _is_annotation(files: FileSet, path: str) -> bool:
    if root_tag(files, path) != "annotation":
        return False
    data = files.read_bytes(path).replace(b"\0", b"")
    return b"<bndbox" in data or not _LABELME.search(data)  # the old LabelMe tool's files have the same root


def read(files: FileSet, ledger: Ledger, options: Options) -> Labels:
    labels = Labels(locate=locate_tag(files, "object"))
    for path in files.with_suffix(".xml"):
        _read_file(files, path, labels, ledger, options)
    labels.sort_classes()
    _read_splits(files, labels)
    labels.not_photos = frozenset(path for path in files.photos if any(f"/{name}/" in f"/{path}" for name in MASK_FOLDERS))
    return labels


def _read_splits(files: FileSet, labels: Labels) -> None:
    present = present_names(files)
    for path in files.with_suffix(".txt"):
        folder, _, name = path.lower().rpartition("/")
        if name in ("train.txt", "val.txt", "test.txt") and re.search("(^|/)imagesets(/main)?$", folder):
            try:
                lines = files.read_text(path).splitlines()
            except DataError as error:
                labels.malformed.append(Malformed.of(error, path))
                continue
            stems = [listed_name(line, present) for line in lines]
            names = [f"{IMAGES}/{stem}" if stem else "" for stem in stems]
            labels.splits.append(SplitList(name.removesuffix(".txt"), path, names))


def _read_file(files: FileSet, path: str, labels: Labels, ledger: Ledger, options: Options) -> None:
    stem = path.rpartition("/")[2][:-4]
    try:
        root = parse(files, path)
    except DataError as error:
        labels.malformed.append(Malformed.of(error, path, labels.add_image(LabelledImage(path, (stem,)))))
        return
    if root.tag != "annotation":
        return  # another tool's XML (a CVAT file, a project's settings)
    written, folder_path = root.findtext("filename") or "", text(root, "path")
    if not is_own_name(stem, written):
        written = written.strip()  # only then: a name may begin or end with a space
    size = root.find("size")
    width, height = (0, 0) if size is None else (as_size(size.findtext("width")), as_size(size.findtext("height")))
    names = [written, folder_path]
    if not is_own_name(stem, written):
        names.insert(0, stem)
        if written:
            ledger.add("file", "converted", "filename_mismatch", file=path, detail=f"<filename> says {written}")
    image = labels.add_image(LabelledImage(path, tuple(name for name in names if name), width=width, height=height))
    number = 0
    for item in root:
        if item.tag == "object":
            _read_object(item, number, image, labels, ledger, options)
            number += 1


def _read_object(item: ET.Element, number: int, image: int, labels: Labels, ledger: Ledger, options: Options) -> None:
    name, box = (item.findtext("name") or "").strip(), item.find("bndbox")
    record = labels.images[image]
    if options.difficult == "drop" and text(item, "difficult") == "1":
        _drop(ledger, "difficult", record, labels, number)
    elif not name:
        _drop(ledger, "no_class", record, labels, number)
    elif box is None or not len(box):
        _drop(ledger, "no_box", record, labels, number)
    else:
        try:
            x1, y1, x2, y2 = map(decimal, map(box.findtext, _EDGES))
        except ValueError:
            _drop(ledger, "malformed_box", record, labels, number, ", ".join(f"{edge.tag}={edge.text}" for edge in box))
            return
        shift = 1.0 if options.one_based else 0.0
        labels.rows.extend((image, labels.class_id(name), x1 - shift, y1 - shift, x2, y2, number))


def _drop(ledger: Ledger, reason: str, record: LabelledImage, labels: Labels, number: int, detail: str = "") -> None:
    line, _ = labels.locate(record.file, number)
    ledger.add("box", "dropped", reason, path=record.label, file=record.file, line=line, detail=detail)


def write(dataset: Dataset, images_folder: Path | None, out: Path) -> None:
    """`JPEGImages/<path>`, `Annotations/<path>.xml`, and `ImageSets/Main/<split>.txt` where the data set is split.

    Raises:
        DataError: two images of one folder differ only in their suffix and would share a label file, or the name of one in a
            list of a split could also be read as the path of another.
    """
    stems = image_stems(dataset)
    label_files = label_file_names(dataset, ".xml")
    link_images(dataset, images_folder, out / IMAGES)
    images = dataset.image_rows("path", "width", "height")
    for (path, width, height), label_file, (edges, class_ids) in zip(images, label_files, dataset.by_image(), strict=True):
        objects = "".join(
            f"\t<object>\n\t\t<name>{escape(dataset.class_names[class_id])}</name>\n\t\t<difficult>0</difficult>\n\t\t<bndbox>"
            + "".join(f"<{tag}>{plain_number(value)}</{tag}>" for tag, value in zip(_EDGES, box, strict=True))
            + "</bndbox>\n\t</object>\n"
            for class_id, box in zip(class_ids.tolist(), edges.tolist(), strict=True)
        )
        document = (
            f"<annotation>\n\t<filename>{escape(path.rpartition('/')[2])}</filename>\n"
            f"\t<size><width>{width}</width><height>{height}</height><depth>3</depth></size>\n{objects}</annotation>\n"
        )
        write_unseen(f"{out}/Annotations/{label_file}", document.encode())
    for split in sorted(set(dataset.splits) - {""}):
        chosen = [stem for stem, other in zip(stems, dataset.splits, strict=True) if other == split]
        write_text(out / "ImageSets" / "Main" / f"{split}.txt", "".join(f"{stem}\n" for stem in chosen))
