"""What an import noted in its ledger, as findings: there the file and the line of each defect are known."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence

from pipeline.health.findings import Finding, Item, finding
from pipeline.labelling.importing import CHOSEN_REASONS, is_defect
from pipeline.ledger import Entry

CODE_OF_REASON: dict[str, str] = {
    "malformed_label_file": "label_file_malformed",
    "image_missing": "label_without_image",
    "unknown_image": "label_without_image",
    "no_file_name": "label_without_image",
    "unsafe_name": "label_unplaced",
    "no_size": "label_unplaced",
    "ambiguous_image": "label_ambiguous",
    "ambiguous_label": "label_ambiguous",
    "claimed_by_other": "label_ambiguous",
    "merged_records": "labels_merged",
    "matched_by_stem": "label_other_suffix",
    "suffix_assumed": "label_other_suffix",
    "no_label_file": "image_unlabelled",
    "unknown_class": "unknown_class",
    "no_class": "unknown_class",
    "duplicate_class_name": "class_name_twice",
    "class_names_invented": "class_names_missing",
    "overlapping_splits": "split_overlap",
    "malformed_box": "box_malformed",
    "malformed_row": "box_malformed",
    "not_finite": "box_not_finite",
    "inverted": "box_inverted",
    "zero_area": "box_zero_area",
    "outside_image": "box_outside_image",
    "out_of_bounds": "box_out_of_bounds",
    "rounding": "box_rounding",
    "duplicate_box": "box_duplicate",
    "in_two_sources": "box_in_two_sources",
    "duplicate_image": "image_duplicate",
    "size_mismatch": "size_mismatch",
    "size_swapped": "size_swapped",
    "resized": "size_scaled",
    "frame_undecided": "exif_undecided",
    "stored_frame": "exif_stored",
    "truncated": "image_unreadable",
    "empty_file": "image_unreadable",
    "not_an_image": "image_unreadable",
    "unreadable": "image_unreadable",
    "unsupported_kind": "image_unsupported",
    "too_many_pixels": "image_bomb",
    "polygon": "shape_converted",
    "mask": "shape_converted",
    "ellipse": "shape_converted",
    "circle": "shape_converted",
    "rotated_box": "shape_converted",
    "dangling_link": "link_left_out",
    "link_not_followed": "link_left_out",
}

SILENT_REASONS = frozenset(
    {
        *("class_dropped", "not_an_image_nor_labels", "in_no_source"),  # the user wanted it so
        *("image_dropped", "copies_differ", "straddles_given_split"),  # told by the image, or by what the data set shows
        *("exif_orientation", "pixel_format", "below_min_area", "outside_crop", "changed_side", "filled_empty_side"),  # work done
    }
)
"""No finding."""

UNUSABLE_IMAGE = frozenset({"truncated", "empty_file", "not_an_image", "unreadable", "unsupported_kind", "too_many_pixels"})
"""Why an image cannot be used; see `images.UnreadableImage`."""

CONSEQUENCES = UNUSABLE_IMAGE | {
    *("malformed_label_file", "image_missing", "ambiguous_image", "claimed_by_other", "size_mismatch", "unsafe_name", "no_size")
}
"""Reasons that an image's boxes share with their image: one finding for the image is enough."""

_INVENTED = re.compile(r"class_\d+")


def findings_of(entries: Sequence[Entry], invented: Collection[str] | None = None) -> list[Finding]:
    """A finding for each code that the entries of an import's ledger come to.

    Args:
        invented: what `invented_names` says of the data set; where nothing is left of such names, somebody has named the classes.
    """
    items: dict[str, list[Item]] = defaultdict(list)
    reasons: dict[str, list[str]] = defaultdict(list)
    lost = {(entry.path, entry.file) for entry in entries if (entry.item, entry.reason) == ("box", "image_missing")}
    gone = {entry.path for entry in entries if (entry.item, entry.action) == ("image", "dropped")}
    for entry in entries:
        code = _code_of(entry)
        if _is_line_of_list(entry) and (entry.path, entry.file) not in lost:
            code = "split_list_missing"
        if code == "image_unlabelled" and entry.path in gone:  # it is background for nobody
            continue
        if code == "class_names_missing" and invented is not None and not invented:
            continue
        if code:
            items[code].append(Item(entry.path, entry.file, entry.line, detail=entry.detail))
            reasons[code].append(entry.reason)
    return [finding(code, found, _telling(reasons[code])) for code, found in items.items()]


def unlabelled_of(entries: Iterable[Entry]) -> frozenset[str]:
    """Paths of the images that no label mentions: nobody says of them that they hold no object."""
    return frozenset(entry.path for entry in entries if (entry.item, entry.reason) == ("image", "no_label_file"))


def invented_names(names: Iterable[str], entries: Iterable[Entry]) -> frozenset[str]:
    """Those of the class names that stand for numbers, because no file says what they are called."""
    if not any(entry.reason == "class_names_invented" for entry in entries):
        return frozenset()
    return frozenset(name for name in names if _INVENTED.fullmatch(name))


def _is_line_of_list(entry: Entry) -> bool:
    """Whether an image that is missing was looked for by a list of a split, rather than by a label: those are of one file an
    image, or no plain text."""
    is_line = entry.line > 0 and entry.file.lower().endswith(".txt")
    return is_line and (entry.item, entry.action, entry.reason) == ("image", "dropped", "image_missing")


def _code_of(entry: Entry) -> str | None:
    if entry.reason in SILENT_REASONS or (entry.item == "box" and entry.reason in CONSEQUENCES):
        return None
    if entry.reason in CODE_OF_REASON:
        return CODE_OF_REASON[entry.reason]
    if entry.action == "dropped" and entry.reason in CHOSEN_REASONS:
        return "label_item_skipped"
    return "other_defect" if is_defect(entry) else "import_note"


def _telling(reasons: list[str]) -> str:
    """`3 polygon, 2 mask` where a code stands for several reasons that occur, else ""."""
    distinct = sorted(set(reasons), key=lambda reason: (-reasons.count(reason), reason))
    if len(distinct) < 2:
        return ""
    return ", ".join(f"{reasons.count(reason)} {reason.replace('_', ' ')}" for reason in distinct)
