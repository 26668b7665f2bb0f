"""What can be found, in one table: code, severity, what it means, and the remedy.

An error makes data or figures wrong, or loses labels. A warning is something that a person would want to look at. The rest is
information: statistics, and conversions that lose nothing. `docs/health.md` shows the same table; a test holds the two together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pipeline.errors import ParamsError, did_you_mean

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")

MOST_ITEMS = 20
"""Items that a finding names; its `count` tells how many there are."""


@dataclass(frozen=True)
class Mark:
    """A box to point at: pixel edges x1, y1, x2, y2 of the upright image, and what to write on it."""

    box: tuple[float, float, float, float]
    text: str


@dataclass(frozen=True)
class Item:
    """One thing that was found.

    Attributes:
        path: the image, a relative POSIX path; "" where it is about no single image.
        file, line: the label file and the line in it (from 1), where they are known.
        other: a second image, where the finding is about two.
        detail: the values, for a reader.
        marks: the boxes it is about.
    """

    path: str = ""
    file: str = ""
    line: int = 0
    other: str = ""
    detail: str = ""
    marks: tuple[Mark, ...] = ()

    def where(self) -> str:
        """`file:line` where a label file is known, else the image or the two images, else the detail."""
        place = f"{self.file}:{self.line}" if self.file and self.line else self.file or self.path
        if self.other:
            return f"{place} = {self.other}"
        return place or self.detail

    def told(self) -> str:
        """The item in one line: where, which image where a label file does not say it by being it, and the detail."""
        where = self.where()
        if self.file and self.path not in ("", self.file):
            where = f"{where} ({self.path})"
        return f"{where}: {self.detail}" if self.detail and self.detail != where else where


@dataclass(frozen=True)
class Finding:
    """What was found, how often, and what to do.

    Attributes:
        title: what the code means.
        detail: the figures of this data set; "" when the items say it all.
        items: at most `MOST_ITEMS`, those that matter most first.
        count: how many items there are.
        picture: file name of its picture, where one was made.
    """

    code: str
    severity: Severity
    title: str
    detail: str
    items: tuple[Item, ...]
    count: int
    remedy: str
    picture: str | None = None


@dataclass(frozen=True)
class Kind:
    severity: Severity
    title: str
    remedy: str


CODES: dict[str, Kind] = {
    # Label files.
    "labels_unusable": Kind("error", "The labels cannot be read", "Do what the message says; images are checked without labels."),
    "label_file_malformed": Kind("error", "Label files that cannot be parsed", "Mend them, or export them from the tool again."),
    "label_without_image": Kind("error", "Labels whose image is not there", "Add the images, or delete their labels."),
    "split_list_missing": Kind(
        "warning", "Lines of split lists whose image is not there", "Add the images, or take the lines out: no label is lost."
    ),
    "label_unplaced": Kind(
        "error", "Labels that give no usable path or size of their image", "Give the images as well, or correct the labels."
    ),
    "label_ambiguous": Kind(
        "error", "Labels that fit several images, or images that several labels claim", "Give each image a name of its own."
    ),
    "unknown_class": Kind("error", "Boxes without a class, or of a class that is not in the list", "Add it, or correct them."),
    "box_malformed": Kind("error", "Label rows that are no box", "Correct the rows; an import leaves them out."),
    "class_name_twice": Kind("warning", "A class name that stands twice in the list", "Name them apart, or delete one."),
    "labels_other_format": Kind("info", "Labels of another format beside those that were read", "None, if they say the same."),
    "split_overlap": Kind("warning", "Images in two of the given splits", "Take them out of one; until then they are in none."),
    "labels_merged": Kind("info", "Images with several label records, which were joined", "None, if they are meant so."),
    "label_other_suffix": Kind(
        "info", "Labels that name their image with another suffix, or none", "None: the stem tells which is meant."
    ),
    "label_item_skipped": Kind("info", "Items that are no object to detect (crowds, lines, points, tags)", "None."),
    "shape_converted": Kind("info", "Polygons, masks and other shapes, of which the tight box is used", "None."),
    "import_note": Kind("info", "Other things that the import noted", "None, if they are meant so."),
    "other_defect": Kind("warning", "Other things that the import left out or mended", "See the ledger of the version."),
    "link_left_out": Kind("warning", "Links that lead to nothing, or out of the folder", "Put the files themselves there."),
    # Boxes.
    "box_not_finite": Kind("error", "Boxes with a coordinate that is no number", "Correct or delete them."),
    "box_zero_area": Kind("error", "Boxes without width or height", "Draw them again, or delete them."),
    "box_outside_image": Kind("error", "Boxes that lie outside their image", "Are they another image's? Correct or delete them."),
    "box_inverted": Kind(
        "warning", "Boxes whose edges are swapped (right of left, below of above)", "Swap them; an import does."
    ),
    "box_out_of_bounds": Kind("warning", "Boxes that reach beyond their image", "Clip them, as an import does; look at a few."),
    "box_duplicate": Kind(
        "warning", "Boxes that are there twice: same class, same edges", "Delete one of each, as an import does."
    ),
    "box_near_identical": Kind(
        "warning",
        "Two boxes of one class around the same object (IoU over 0.9)",
        "Delete one of each: the model would learn two.",
    ),
    "box_tiny": Kind("warning", "Boxes less than 3 px wide or high", "Slips of the mouse? Delete them, or label larger images."),
    "box_unlike_class": Kind(
        "warning", "Boxes far larger or smaller than nearly all of their class", "Look: they are often of another class."
    ),
    "box_giant": Kind("warning", "Boxes around nearly the whole image", "Forgotten, or drawn by a wrong click? Draw them again."),
    "box_in_two_sources": Kind("info", "Boxes that two of `annotate.sources` have, which were joined", "None."),
    "box_rounding": Kind("info", "Boxes that pass the edge by less than a pixel, which were clipped", "None: tools round."),
    "box_contained": Kind(
        "info", "Boxes inside another box of the same class", "Look whether the outer one is a group of objects."
    ),
    "box_sizes": Kind("info", "How large the boxes are", "Small ones need a large `train.imgsz`, or tiles."),
    "box_shapes": Kind("info", "How wide boxes are for their height", "None."),
    "box_positions": Kind("info", "Where the boxes lie", "None, unless objects come elsewhere in the field."),
    "boxes_per_image": Kind("info", "Boxes in an image", "None."),
    "image_crowded": Kind(
        "warning", "Images with more than 300 boxes", "Cut them into tiles: detectors answer 300 boxes an image, unless told."
    ),
    # Sizes and frames.
    "size_mismatch": Kind("error", "Images of another size than declared", "The labels are of another copy: find that one."),
    "size_swapped": Kind("warning", "Declared width and height are swapped", "Look at the boxes: was the photo turned later?"),
    "size_scaled": Kind("info", "Labels drawn on a smaller or larger copy, which were scaled", "None."),
    "exif_undecided": Kind(
        "warning", "EXIF-turned photos of which nothing says how they were labelled", "Look, then set `annotate.frame`."
    ),
    "exif_mixed": Kind(
        "warning", "Some EXIF-turned photos were labelled upright, others as stored", "Look at the boxes of both."
    ),
    "exif_stored": Kind("info", "EXIF-turned photos labelled as stored, whose boxes were turned", "None."),
    # Image files.
    "image_unreadable": Kind("error", "Images that are damaged, cut off or empty", "Bring them anew, or delete them."),
    "image_unsupported": Kind("error", "Images that cannot be opened here (HEIC, AVIF)", "Save them as JPEG or PNG."),
    "image_bomb": Kind("error", "Images that promise over 200 million pixels", "Cut them, or delete them."),
    "image_wrong_suffix": Kind("warning", "Images of another format than their suffix says", "Rename them: some tools go by it."),
    "image_wide_samples": Kind(
        "warning", "Images with more than 8 bits a sample", "Scale them to 8 bits yourself, or trust preprocess to do it."
    ),
    "image_cmyk": Kind(
        "warning", "Images in a colour space of print (CMYK, Lab)", "Convert them to RGB, or let preprocess do it."
    ),
    "image_palette": Kind("info", "Images with a palette or in black and white", "None: preprocess makes them RGB."),
    "image_alpha": Kind(
        "info", "Images with a channel of transparency, which is dropped", "None, if what lies below it is meant."
    ),
    "image_small": Kind("warning", "Images less than 32 px wide or high", "Thumbnails? Bring the originals, or delete them."),
    "image_aspect": Kind("warning", "Images over six times as wide as high, or reverse", "Cut them into tiles."),
    "image_blank": Kind("warning", "Images of one even colour", "Empty frames? Delete them."),
    "image_unlabelled": Kind(
        "warning", "Images that no label mentions, taken for background", "Label them, or give them an empty label file."
    ),
    "image_background": Kind("info", "Images labelled as having no object", "None: a tenth of background is healthy."),
    "name_case": Kind("warning", "Paths that differ in case only", "Rename them: Windows and macOS take them for one file."),
    "name_stem": Kind("warning", "Images that differ in their suffix only", "Rename them: in YOLO they share one label file."),
    "name_twice": Kind("info", "File names that occur in several folders", "None here; tools without folders lose one of them."),
    # Duplicates.
    "image_duplicate": Kind("warning", "The same image file more than once", "Keep one of each."),
    "image_duplicate_labels": Kind("error", "Copies of an image with different boxes", "Keep the copy that is labelled right."),
    "image_near_duplicate": Kind("info", "Images that look like another", "None: split keeps them together."),
    "near_unchecked": Kind("info", "Images that were not compared for near-duplicates: too many", "None."),
    # Classes.
    "class_names_missing": Kind(
        "warning",
        "No file says what the classes are called",
        "Add a `classes.txt` or `data.yaml`, or set `annotate.options.names` or `annotate.classes.rename`.",
    ),
    "class_empty": Kind("warning", "Classes without a box", "Label some, or leave them out by `annotate.classes`."),
    "class_rare": Kind("warning", "Classes in fewer than 20 images", "Collect more: too few to learn from, and to measure."),
    "class_names_alike": Kind(
        "warning", "Class names that differ in case, spaces or dashes only", "One class? Then `annotate.classes.merge`."
    ),
    "class_balance": Kind("info", "Boxes of each class", "None."),
    # Splits.
    "leak_duplicate": Kind("error", "The same image on two sides of the split", "Delete one, or set `split.given: ignore`."),
    "leak_group": Kind("error", "Images of one group or source on two sides of the split", "Set `split.given: ignore`."),
    "leak_near_duplicate": Kind(
        "warning", "Images that look alike on two sides of the split", "Figures are too good: set `split.given: ignore`."
    ),
    "split_class_missing": Kind("warning", "Classes that one side of the split has no box of", "Move some, or collect more."),
    "drift_classes": Kind(
        "warning", "A side of the split has other classes than train", "Split anew, or say why it must differ."
    ),
    "drift_box_sizes": Kind("warning", "A side of the split has other box sizes than train", "Split anew, or say why it must."),
    "drift_brightness": Kind(
        "warning", "A side of the split is brighter or darker than train", "Split anew, or say why it must."
    ),
    # What a model says of the labels.
    "model_missing_box": Kind(
        "warning", "Objects that the model sees and nobody labelled", "Look, and label those that are real."
    ),
    "model_other_class": Kind("warning", "Boxes that the model takes for another class", "Look, and correct the class."),
    "model_misplaced_box": Kind("warning", "Boxes that the model would draw elsewhere", "Look, and draw them tight."),
    "model_extra_box": Kind("info", "Boxes in which the model sees nothing", "Look: often it is the model that is wrong."),
    "model_weak": Kind("info", "The model finds too few of the labels to judge them", "Train longer, or on more images."),
}


def finding(code: str, items: Sequence[Item], detail: str = "", count: int | None = None) -> Finding:
    """A finding of the table; `count` where `items` are not all."""
    kind = CODES[code]
    total = len(items) if count is None else count
    return Finding(code, kind.severity, kind.title, detail, tuple(items[:MOST_ITEMS]), total, kind.remedy)


def arranged(findings: Iterable[Finding], ignore: Sequence[str] = ()) -> list[Finding]:
    """Findings of one code joined, those of `ignore` left out; errors first, then in the order of the table."""
    joined: dict[str, Finding] = {}
    for found in findings:
        if found.code in ignore:
            continue
        before = joined.get(found.code)
        if before is not None:
            detail = "; ".join(filter(None, (before.detail, found.detail)))
            items = (*before.items, *found.items)[:MOST_ITEMS]
            found = replace(before, detail=detail, items=items, count=before.count + found.count)
        joined[found.code] = found
    order = {code: number for number, code in enumerate(CODES)}
    return sorted(joined.values(), key=lambda found: (SEVERITIES.index(found.severity), order[found.code]))


def require_known(ignore: Iterable[str]) -> None:
    """Refuse a code that does not exist: a misspelled one would silence nothing, and nobody would notice.

    Raises:
        ParamsError: names each, with the nearest code where one is near.
    """
    problems = [f"health.ignore: '{code}' is no code.{_nearest(code)}" for code in ignore if code not in CODES]
    if problems:
        raise ParamsError("health.ignore names codes that do not exist", "docs/health.md lists them.", problems)


def _nearest(code: str) -> str:
    return f" {did_you_mean(code, CODES, '')}".rstrip()


def counts(findings: Iterable[Finding]) -> dict[str, int]:
    """How many findings of each severity, all three named."""
    number = Counter(found.severity for found in findings)
    return {severity: number[severity] for severity in SEVERITIES}
