"""The steps of an import, in their order: unlabelled photos, rows, headers, frames, checks.

Each takes out what cannot go on, and notes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.boxes import Boxes
from pipeline.images import Header, UnreadableImage, read_header
from pipeline.labelling import frames
from pipeline.labelling.checks import check
from pipeline.labelling.classes import Classes
from pipeline.labelling.fileset import FileSet
from pipeline.labelling.labels import Labels
from pipeline.labelling.resolve import Resolved
from pipeline.ledger import Action, Ledger
from pipeline.stage import Context

HEADERS_AT_ONCE = 256
UNDECIDED_KEPT = 20
"""Photos of an undecided frame whose boxes are kept in the other one too, to be shown."""


@dataclass(frozen=True)
class Policy:
    """What the user decides; see `stages/annotate.py`.

    Attributes:
        folder: the part of the tree that is meant; "" is all of it.
        images: the folder of the tree where the images lie, if not with the labels.
        has_images: False imports labels alone, by the paths and sizes that they declare.
    """

    folder: str = ""
    images: str = ""
    format: str = "auto"
    options: Mapping[str, object] = field(default_factory=dict)
    classes: Classes = field(default_factory=Classes)
    on_invalid: Literal["error", "drop", "fix"] = "fix"
    frame: Literal["auto", "upright", "stored"] = "auto"
    include_unlabelled: bool = True
    burst_seconds: float = 2.0
    has_images: bool = True


@dataclass(frozen=True)
class Rows:
    """Boxes on their way: positions of record, photo (-1: none) and class (-1: none), place in the label file, edges (N, 4)."""

    record: NDArray[np.int64]
    photo: NDArray[np.int64]
    class_id: NDArray[np.int64]
    place: NDArray[np.int64]
    boxes: Boxes

    def where(self, chosen: NDArray[np.bool_]) -> Rows:
        return Rows(self.record[chosen], self.photo[chosen], self.class_id[chosen], self.place[chosen], self.boxes[chosen])


class Import:
    """One import: what every step needs, and which photos have dropped out so far."""

    def __init__(self, files: FileSet, labels: Labels, found: Resolved, policy: Policy, ledger: Ledger, context: Context) -> None:
        self.files, self.labels, self.found = files, labels, found
        self.policy, self.ledger, self.context = policy, ledger, context
        self.labelled = {number for number in found.photo_of if number >= 0}
        self.dropped: dict[int, str] = {}
        self.undecided: dict[int, Boxes] = {}

    def drop_photo(self, number: int, reason: str, detail: str = "", file: str = "", line: int = 0) -> None:
        if number not in self.dropped:
            self.dropped[number] = reason
            self.ledger.add("image", "dropped", reason, path=self.found.photos[number], file=file, line=line, detail=detail)

    def note_boxes(self, rows: Rows, chosen: NDArray[np.int64], action: Action, reason: str) -> None:
        for number in chosen.tolist():
            image = self.labels.images[rows.record[number]]
            path = self.found.photos[rows.photo[number]] if rows.photo[number] >= 0 else image.label
            line, words = self.labels.locate(image.file, int(rows.place[number]))
            edges = ", ".join(f"{value:.6g}" for value in rows.boxes[number].tolist())
            self.ledger.add("box", action, reason, path=path, file=image.file, line=line, detail=f"{words} {edges}".strip())

    def drop_boxes(self, rows: Rows, bad: NDArray[np.bool_], reason: str) -> Rows:
        if not bad.any():
            return rows
        self.note_boxes(rows, np.flatnonzero(bad), "dropped", reason)
        return rows.where(~bad)

    def drop_boxes_by(self, rows: Rows, position: NDArray[np.int64], reasons: Mapping[int, str], count: int) -> Rows:
        """Drop the boxes whose `position` (of a record or photo, below `count`) has a reason."""
        for reason in sorted(set(reasons.values())):
            gone = np.zeros(count, dtype=bool)
            gone[[number for number, why in reasons.items() if why == reason]] = True
            bad = gone[position]
            rows, position = self.drop_boxes(rows, bad, reason), position[~bad]
        return rows


def drop_photos_without_labels(work: Import) -> None:
    """Photos that no label mentions are background or dropped, as the user says.

    Never background are those to which an unreadable or unclear label belongs.
    """
    photos = work.found.photos
    for malformed in work.labels.malformed:
        number = work.found.photo_of[malformed.image] if malformed.image is not None else -1
        if number >= 0:
            work.drop_photo(number, "malformed_label_file", malformed.message, malformed.file, malformed.line)
    for number, label in work.found.contested.items():
        work.drop_photo(number, "ambiguous_label", f"may be what {label} means")
    unlabelled = [number for number in range(len(photos)) if number not in work.labelled and number not in work.dropped]
    for number in unlabelled:
        if work.policy.include_unlabelled:
            work.ledger.add("image", "kept", "no_label_file", path=photos[number])
        else:
            work.drop_photo(number, "no_label_file")


def read_rows(work: Import, class_positions: Sequence[int]) -> Rows:
    """The boxes that have a photo and a class; `class_positions` maps the labels' classes, -1 where one is dropped."""
    table = work.labels.table()
    record, class_id, place = (table[:, column].astype(np.int64) for column in (0, 1, 6))
    photo = np.array(work.found.photo_of, dtype=np.int64)[record]
    rows = Rows(record, photo, np.array(class_positions, dtype=np.int64)[class_id], place, table[:, 2:6])
    rows = work.drop_boxes(rows, rows.class_id < 0, "class_dropped")
    return work.drop_boxes_by(rows, rows.record, work.found.why_not, len(work.labels.images))


def read_headers(work: Import) -> list[Header | None]:
    """The header of every photo that is still in; a file that is no image drops out."""
    from concurrent.futures import ThreadPoolExecutor

    photos = work.found.photos
    headers: list[Header | None] = [None] * len(photos)
    wanted = [number for number in range(len(photos)) if number not in work.dropped]
    parts = [wanted[start : start + HEADERS_AT_ONCE] for start in range(0, len(wanted), HEADERS_AT_ONCE)]
    read = partial(_read_some_headers, work.files, photos)
    with work.context.progress("read image headers", len(wanted)) as advance, ThreadPoolExecutor(work.context.workers) as pool:
        for part, results in zip(parts, pool.map(read, parts), strict=True):
            advance(len(part))
            for number, result in zip(part, results, strict=True):
                if isinstance(result, Header):
                    headers[number] = result
                else:
                    work.drop_photo(number, result.reason)
    return headers


def _read_some_headers(files: FileSet, photos: Sequence[str], numbers: Sequence[int]) -> list[Header | UnreadableImage]:
    results: list[Header | UnreadableImage] = []
    for number in numbers:
        try:
            results.append(read_header(files.photo(photos[number])))
        except UnreadableImage as error:
            results.append(error)
    return results


def to_upright(work: Import, rows: Rows, headers: Sequence[Header | None]) -> Rows:
    """Boxes in pixels of the upright images; photos whose declared size contradicts the file drop out."""
    photo_of = work.found.photo_of
    pairs = [(record, header) for record, number in enumerate(photo_of) if number >= 0 and (header := headers[number])]
    records, of_record = [record for record, _ in pairs], [header for _, header in pairs]
    images = [work.labels.images[record] for record in records]
    decided = frames.decide(of_record, [(image.width, image.height) for image in images], work.policy.frame)
    for record, header, frame in zip(records, of_record, decided, strict=True):
        if frame.note:
            _note_frame(work, record, header, frame)
    undecided = sum(frame.note == "frame_undecided" for frame in decided)
    if undecided:
        work.context.warn(
            f"Photos turned by EXIF: {undecided}, and nothing says whether their labels were drawn upright or on the stored "
            "pixels. Upright is assumed; annotate.frame: upright or stored settles it."
        )
    rows = work.drop_boxes_by(rows, rows.photo, work.dropped, len(headers))
    position = np.full(len(work.labels.images), -1)
    position[records] = np.arange(len(records))
    boxes = frames.to_upright(rows.boxes, position[rows.record], decided, of_record, work.labels.normalised)
    if undecided:
        stored = [replace(frame, stored=True) if frame.note == "frame_undecided" else frame for frame in decided]
        others = frames.to_upright(rows.boxes, position[rows.record], stored, of_record, work.labels.normalised)
        photos = [photo_of[record] for record, frame in zip(records, decided, strict=True) if frame.note == "frame_undecided"]
        work.undecided = {number: others[rows.photo == number] for number in dict.fromkeys(photos[:UNDECIDED_KEPT])}
    return Rows(rows.record, rows.photo, rows.class_id, rows.place, boxes)


def _note_frame(work: Import, record: int, header: Header, frame: frames.Frame) -> None:
    image, number = work.labels.images[record], work.found.photo_of[record]
    detail = f"the image is {header.width}x{header.height}, EXIF orientation {header.orientation}"
    if image.width:
        detail = f"declared {image.width}x{image.height}, {detail}"
    if frame.note == "size_mismatch" or (frame.note == "size_swapped" and work.policy.on_invalid == "drop"):
        work.drop_photo(number, frame.note, detail, image.file, image.line)
        return
    actions: dict[str, Action] = {"frame_undecided": "kept", "size_swapped": "fixed"}
    action = actions.get(frame.note, "converted")
    path = work.found.photos[number]
    work.ledger.add("image", action, frame.note, path=path, file=image.file, line=image.line, detail=detail)


def check_boxes(work: Import, rows: Rows, headers: Sequence[Header | None]) -> Rows:
    """Sound boxes within their images: see `checks`."""
    sizes = np.array([(header.width, header.height) if header else (0, 0) for header in headers], dtype=np.float64)[rows.photo]
    verdict = check(rows.boxes, sizes[:, 0], sizes[:, 1], mend=work.policy.on_invalid != "drop")
    for reason, action, chosen in verdict.findings:
        work.note_boxes(rows, chosen, action, reason)
    rows = Rows(rows.record, rows.photo, rows.class_id, rows.place, verdict.boxes).where(verdict.keep)
    return work.drop_boxes(rows, _repeats(rows), "duplicate_box")


def _repeats(rows: Rows) -> NDArray[np.bool_]:
    """Which rows have the photo, class and edges of one before them."""
    table = np.column_stack([rows.photo, rows.class_id, rows.boxes]) + 0.0  # -0.0 is 0.0
    keys = table.view(np.dtype((np.void, table.itemsize * table.shape[1]))).ravel()
    repeated = np.ones(len(keys), dtype=bool)
    repeated[np.unique(keys, return_index=True)[1]] = False
    return repeated
