"""What an import noted in its ledger, as findings: there the file and the line of each defect are known."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from pipeline.health.findings import Finding, Item, finding
from pipeline.labelling.importing import CHOSEN_REASONS, is_defect
from pipeline.ledger import Entry

CODE_OF_REASON: dict[str, str] = {
    "malformed_label_file": "label_file_malformed",
    "image_missing": "label_without_image",
    "unknown_image": "label_without_image",
    "no_file_name": "label_without_image",
    "ambiguous_image": "label_ambiguous",
    "ambiguous_label": "label_ambiguous",
    "claimed_by_other": "label_ambiguous",
    "merged_records": "labels_merged",
    "matched_by_stem": "label_other_suffix",
    "no_label_file": "image_unlabelled",
    "unknown_class": "unknown_class",
    "no_class": "unknown_class",
    "duplicate_class_name": "class_name_twice",
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
        *("class_dropped", "not_an_image_nor_labels", "in_no_source", "in_two_sources"),  # the user wanted it so
        *("image_dropped", "copies_differ", "straddles_given_split"),  # told by the image, or by what the data set shows
        *("exif_orientation", "pixel_format", "below_min_area", "outside_crop", "changed_side", "filled_empty_side"),  # work done
    }
)
"""No finding."""

CONSEQUENCES = frozenset({"malformed_label_file", "image_missing", "ambiguous_image", "claimed_by_other", "size_mismatch"})
"""Reasons that an image's boxes share with their image: one finding for the image is enough."""


def findings_of(entries: Iterable[Entry]) -> list[Finding]:
    """A finding for each code that the entries of an import's ledger come to."""
    items: dict[str, list[Item]] = defaultdict(list)
    reasons: dict[str, list[str]] = defaultdict(list)
    for entry in entries:
        code = _code_of(entry)
        if code:
            items[code].append(Item(entry.path, entry.file, entry.line, detail=entry.detail))
            reasons[code].append(entry.reason)
    return [finding(code, found, _telling(reasons[code])) for code, found in items.items()]


def _code_of(entry: Entry) -> str | None:
    image_reasons = CONSEQUENCES | {"truncated", "empty_file", "not_an_image", "unreadable", "too_many_pixels"}
    if entry.reason in SILENT_REASONS or (entry.item == "box" and entry.reason in image_reasons):
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
