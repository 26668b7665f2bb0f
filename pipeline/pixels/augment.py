"""Apply augmentation to a data set: copies of the training images, reuse of earlier ones, the contact sheet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path, PurePosixPath

import blake3
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline import files, images
from pipeline.boxes import Boxes, area, as_boxes
from pipeline.dataset import EDGES, Dataset
from pipeline.detections import Image
from pipeline.drawing import Tile, colour_of, contact_sheet, draw_boxes, shrink
from pipeline.fonts import legible
from pipeline.ledger import Ledger
from pipeline.parallel import imap_images
from pipeline.pixels.augmentation import albumentations, augment
from pipeline.pixels.options import AugmentParams
from pipeline.pixels.worklog import Row, WorkLog
from pipeline.stage import JSON, Context

SHEET = "contact_sheet.jpg"
SHEET_COLUMNS = 6
TILE_WIDTH = 300
LABELS_UP_TO = 6
"""Boxes on a tile of the sheet that still get their names; the legend names the colours of all."""


@dataclass(frozen=True)
class _Copy:
    """One copy that is wanted: its number from 1, its key in the work log, its file under `images/`."""

    number: int
    key: str
    file: str


@dataclass(frozen=True)
class _Job:
    """One training image, decoded once, and copies of it. `image` is its row in the training split; `boxes` (N, 4)."""

    image: int
    path: str
    hash: str
    boxes: Boxes
    class_ids: NDArray[np.int64]
    copies: tuple[_Copy, ...]


def run(source: Path, params: AugmentParams, out: Path, context: Context) -> JSON:
    """Augment the training split of the data set folder `source` into `out`; see `stages/augment.py`."""
    dataset = Dataset.load(source)
    for path in dataset.images["path"]:
        files.link(source / "images" / path, out / "images" / path)
    jobs = _jobs(dataset.of_split("train"), params, taken={path.casefold() for path in dataset.images["path"]})
    log = WorkLog(out, context.previous)
    rows = _reused(jobs, log, out)
    todo = [replace(job, copies=missing) for job in jobs if (missing := tuple(c for c in job.copies if c.key not in rows))]
    if todo:
        albumentations()  # a failing import belongs here, not into the first worker

    def work(job: _Job) -> list[Row]:
        return _make_copies(job, source, out, params)

    with context.progress("augment", len(todo)) as advance:
        for made in imap_images(work, todo, context.workers):
            for row in made:
                log.add(row)
                rows[row["key"]] = row
            advance()
    log.finish(rows.values())
    ledger = Ledger()
    output = _with_copies(dataset, jobs, rows, params, ledger)
    output.save(out)
    ledger.write(out)
    if params.contact_sheet_images and jobs:
        images.save(out / SHEET, _sheet(output, jobs, rows, out, params))
    applied = Counter(name for row in rows.values() for name in row["applied"])
    return {
        **output.counts(),
        "copies": sum(len(job.copies) for job in jobs),
        "copies_unchanged": sum(not row["applied"] for row in rows.values()),
        "images_processed": len(todo),
        "images_reused": len(jobs) - len(todo),
        "transforms_applied": {transform.name: applied[transform.name] for transform in params.transforms},
        "ledger": ledger.counts(),
    }


def _jobs(train: Dataset, params: AugmentParams, taken: set[str]) -> list[_Job]:
    """What is wanted, in the order of the table. Copies lie beside their original: `<stem>__aug1.jpg`."""
    jobs = []
    columns = zip(train.images["path"], train.images["hash"], train.by_image(), strict=True)
    for image, (path, content, (edges, class_ids)) in enumerate(columns):
        copies = []
        for number in range(1, params.copies + 1):
            file = _copy_name(path, number, taken)
            taken.add(file.casefold())
            # The row holds the moved boxes too, so corrected labels mean new work.
            key = blake3.blake3(f"{content}/{number}/".encode() + edges.tobytes()).hexdigest()
            copies.append(_Copy(number, key, file))
        jobs.append(_Job(image, path, content, edges, class_ids, tuple(copies)))
    return jobs


def _copy_name(path: str, number: int, taken: set[str]) -> str:
    """Where `a.png` and `a.jpg` lie in one folder, the second one's copies are called after its whole name."""
    original = PurePosixPath(path)
    for base in (original.stem, original.name, f"{original.name}_"):
        file = str(original.with_name(f"{base}__aug{number}.jpg"))
        if file.casefold() not in taken:
            return file
    return str(original.with_name(f"{original.name}-{blake3.blake3(path.encode()).hexdigest(8)}__aug{number}.jpg"))


def _reused(jobs: Sequence[_Job], log: WorkLog, out: Path) -> dict[str, Row]:
    """Link the copies that are known already; their rows by key."""
    rows = {}
    for copy in (copy for job in jobs for copy in job.copies):
        if hit := log.find(copy.key):
            path, row = hit
            files.link(path, out / "images" / copy.file)
            rows[copy.key] = {**row, "file": copy.file}
    return rows


def _make_copies(job: _Job, source: Path, out: Path, params: AugmentParams) -> list[Row]:
    original = images.decode(source / "images" / job.path)
    rows = []
    for copy in job.copies:
        result = augment(original, job.boxes, params.transforms, params.seed, job.hash, copy.number)
        data = images.encode(result.image, ".jpg", params.jpeg_quality)
        files.write_bytes(out / "images" / copy.file, data)
        rows.append(
            {
                "key": copy.key,
                "file": copy.file,
                "hash": blake3.blake3(data).hexdigest(),
                "dhash": images.dhash(result.image),
                "boxes": result.boxes.tolist(),
                "visible": result.visible.tolist(),
                "applied": list(result.applied),
            }
        )
    return rows


def _with_copies(dataset: Dataset, jobs: Sequence[_Job], rows: dict[str, Row], params: AugmentParams, ledger: Ledger) -> Dataset:
    """The data set with its copies after the originals; a copy keeps its original's source, group and split."""
    wanted = [(job, copy.file, rows[copy.key]) for job in jobs for copy in job.copies]
    train = np.flatnonzero((dataset.images["split"] == "train").to_numpy())
    originals = train[np.array([job.image for job, _, _ in wanted], dtype=np.int64)]
    copies = dataset.images.iloc[originals].assign(
        path=[file for _, file, _ in wanted],
        hash=[row["hash"] for _, _, row in wanted],
        dhash=[row["dhash"] for _, _, row in wanted],
    )
    boxes = _boxes_of_copies(wanted, len(dataset.images), params, ledger)
    return Dataset(dataset.class_names, pd.concat([dataset.images, copies]), pd.concat([dataset.boxes, boxes]))


def _boxes_of_copies(wanted: Sequence[tuple[_Job, str, Row]], first: int, params: AugmentParams, ledger: Ledger) -> pd.DataFrame:
    """The boxes that are still to be seen in the copies, whose image numbers begin at `first`; all copies in one table, for one
    table a copy takes a millisecond each."""
    edges = as_boxes(list(chain.from_iterable(row["boxes"] for _, _, row in wanted)))
    visible = np.array(list(chain.from_iterable(row["visible"] for _, _, row in wanted)), dtype=np.float64)
    class_ids = np.concatenate([np.zeros(0, dtype=np.int64), *(job.class_ids for job, _, _ in wanted)])
    number = np.repeat(np.arange(len(wanted)), [len(row["boxes"]) for _, _, row in wanted])
    keep = (visible >= params.min_visibility) & (area(edges) > 0)
    for copy, share in zip(number[~keep], visible[~keep], strict=True):
        ledger.add("box", "dropped", "hidden_in_copy", path=wanted[copy][1], detail=f"{share:.1%} of it is visible")
    return pd.DataFrame(edges[keep], columns=EDGES).assign(image=first + number[keep], class_id=class_ids[keep])


def _sheet(output: Dataset, jobs: Sequence[_Job], rows: dict[str, Row], out: Path, params: AugmentParams) -> Image:
    """Training images evenly drawn from the split, each beside its first copies and what was done to them."""
    copies_shown = min(2, params.copies)
    with_boxes = [job for job in jobs if len(job.boxes)] or list(jobs)
    count = max(1, min(len(with_boxes), params.contact_sheet_images // (1 + copies_shown)))
    shown = [with_boxes[i] for i in np.linspace(0, len(with_boxes) - 1, count).round().astype(int)]
    row_of = {path: number for number, path in enumerate(output.images["path"])}
    shapes = output.images.iloc[[row_of[job.path] for job in shown]]
    tile_height = round(TILE_WIDTH * float(np.clip((shapes["height"] / shapes["width"]).median(), 0.5, 1.5)))
    tiles = []
    for job in shown:
        captions = {job.path: PurePosixPath(job.path).name}
        for copy in job.copies[:copies_shown]:
            captions[copy.file] = f"copy {copy.number}: {', '.join(rows[copy.key]['applied']) or 'unchanged'}"
        for path, caption in captions.items():
            edges, class_ids = output.edges_of(row_of[path])
            small, edges = shrink(images.decode(out / "images" / path), edges, TILE_WIDTH, tile_height)
            drawn = draw_boxes(small, edges, class_ids, output.class_names, labels=len(edges) <= LABELS_UP_TO)
            tiles.append(Tile(drawn, caption))
    title = f"Training images{', each beside its augmented copies' if copies_shown else ''}"
    present = np.unique(output.boxes["class_id"].to_numpy()).tolist()
    legend = [(legible(output.class_names[i], f"class {i}"), colour_of(i)) for i in present]
    return contact_sheet(tiles, SHEET_COLUMNS, TILE_WIDTH, tile_height, title, legend)
