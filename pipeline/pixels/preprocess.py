"""Apply preprocessing to a data set: which images need work, the work, and the account of what changed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import blake3
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from pipeline import files, images
from pipeline.boxes import area
from pipeline.dataset import EDGES, Dataset
from pipeline.errors import DataError
from pipeline.images import Header, UnreadableImage
from pipeline.ledger import Action, Ledger
from pipeline.parallel import imap_images
from pipeline.pixels.options import PreprocessParams
from pipeline.pixels.preprocessing import follow, is_untouched, output_path, plan, render
from pipeline.pixels.worklog import Row, WorkLog
from pipeline.stage import JSON, Context


@dataclass(frozen=True)
class _Job:
    """One content to work on: its hash, and the first image that has it."""

    hash: str
    path: str
    width: int
    height: int


def run(source: Path, params: PreprocessParams, out: Path, context: Context) -> JSON:
    """Preprocess the data set folder `source` into `out`; see `stages/preprocess.py`.

    Raises:
        DataError: no image is left, or one is unreadable and `on_invalid` is "error".
    """
    dataset = Dataset.load(source)
    log = WorkLog(out, context.previous)
    taken = frozenset(path.casefold() for path in dataset.images["path"])
    contents = dataset.images.drop_duplicates("hash")
    jobs = [_Job(*row) for row in zip(*(contents[name].tolist() for name in ("hash", "path", "width", "height")), strict=True)]
    found = {job.hash: hit for job in jobs if (hit := log.find(job.hash))}
    done: dict[str, tuple[Path, Row]] = dict(found)
    unreadable: dict[str, UnreadableImage] = {}

    def work(job: _Job) -> Row | UnreadableImage:
        try:
            return _process(job, source, out, params, taken)
        except UnreadableImage as error:
            return error

    todo = [job for job in jobs if job.hash not in found]
    with context.progress("preprocess", len(todo)) as advance:
        for job, result in zip(todo, imap_images(work, todo, context.workers), strict=True):
            if isinstance(result, UnreadableImage):
                unreadable[job.hash] = result
            else:
                log.add(result)
                done[job.hash] = (out / "images" / result["file"], result)
            advance()

    ledger = Ledger()
    kept = _without_unreadable(dataset, unreadable, params, ledger, context)
    output = _tables(kept, {key: row for key, (_, row) in done.items()}, taken, params, ledger)
    file_of: dict[str, str] = {}
    for key, path in zip(kept.images["hash"], output.images["path"], strict=True):
        files.link(done[key][0], out / "images" / path)
        file_of.setdefault(key, path)
    log.finish({**done[key][1], "file": path} for key, path in file_of.items())
    output.save(out)
    ledger.write(out)
    return {
        **output.counts(),
        "images_processed": len(todo),
        "images_reused": len(dataset.images) - len(todo),
        "images_unchanged": int((output.images["hash"].to_numpy() == kept.images["hash"].to_numpy()).sum()),
        "ledger": ledger.counts(),
    }


def _process(job: _Job, source: Path, out: Path, params: PreprocessParams, taken: frozenset[str]) -> Row:
    """Decode one image, and link or render it; the row for the work log."""
    path = source / "images" / job.path
    header = images.read_header(path)
    if (header.width, header.height) != (job.width, job.height):
        raise UnreadableImage(
            f"{path}: annotated as {job.width}x{job.height}, is {header.width}x{header.height}", "size_mismatch"
        )
    pixels = images.decode(path, header)
    geometry = plan(job.width, job.height, params.crop, params.resize)
    untouched = is_untouched(header, geometry, params)
    kind = header.kind if untouched or header.kind == "JPEG" else "PNG"
    name = output_path(job.path, kind, taken)
    target = out / "images" / name
    if untouched:
        files.link(path, target)
        new_hash = job.hash
    else:
        data = images.encode(render(pixels, geometry, params), Path(name).suffix, params.jpeg_quality)
        files.write_bytes(target, data)
        new_hash = blake3.blake3(data).hexdigest()
    return {
        "key": job.hash,
        "file": name,
        "hash": new_hash,
        "kind": kind,
        "dhash": images.dhash(pixels),
        "notes": [] if untouched else _notes(header),
    }


def _notes(header: Header) -> list[list[str]]:
    """What a file was that is now upright 8-bit RGB, as (action, reason, detail) for the ledger."""
    notes = []
    if header.orientation != 1:
        notes.append(["fixed", "exif_orientation", f"orientation {header.orientation}"])
    if not header.has_plain_pixels:
        notes.append(["converted", "pixel_format", f"{header.kind} {header.mode}"])
    return notes


def _without_unreadable(
    dataset: Dataset, unreadable: dict[str, UnreadableImage], params: PreprocessParams, ledger: Ledger, context: Context
) -> Dataset:
    bad = dataset.images["hash"].isin(list(unreadable)).to_numpy()
    if not bad.any():
        return dataset
    paths = dataset.images["path"].to_numpy()
    problems = [f"{paths[i]}: {unreadable[dataset.images['hash'].iloc[i]].reason}" for i in np.flatnonzero(bad)]
    if params.on_invalid == "error":
        raise DataError(
            f"{bad.sum()} of {len(bad)} images cannot be read.",
            "Replace them, or set preprocess.on_invalid: drop to leave them out.",
            problems,
        )
    for i in np.flatnonzero(bad):
        error = unreadable[dataset.images["hash"].iloc[i]]
        ledger.add("image", "dropped", error.reason, path=paths[i])
        for _ in range(len(dataset.boxes_of(int(i)))):
            ledger.add("box", "dropped", "image_dropped", path=paths[i])
    if bad.all():
        raise DataError("None of the images can be read.", "Look at the files: are they images?", problems)
    context.warn(f"{bad.sum()} of {len(bad)} images cannot be read and are left out; ledger.jsonl of preprocess names them.")
    return dataset.select(~bad)


def _tables(kept: Dataset, rows: dict[str, Row], taken: frozenset[str], params: PreprocessParams, ledger: Ledger) -> Dataset:
    """The data set that comes out: new names, sizes and hashes, boxes moved and filtered."""
    frame = kept.images.copy()
    row_of = [rows[key] for key in frame["hash"]]
    for path, row in zip(frame["path"], row_of, strict=True):
        for action, reason, detail in row["notes"]:
            ledger.add("image", action, reason, path=path, detail=detail)
    boxes, sizes = _moved_boxes(kept, params, ledger)
    frame = frame.assign(
        path=[output_path(path, row["kind"], taken) for path, row in zip(frame["path"], row_of, strict=True)],
        width=sizes[:, 0],
        height=sizes[:, 1],
        hash=[row["hash"] for row in row_of],
        dhash=[row["dhash"] for row in row_of],
    )
    return Dataset(kept.class_names, frame, boxes)


def _moved_boxes(kept: Dataset, params: PreprocessParams, ledger: Ledger) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """The boxes that remain, in output pixels, and the output's (width, height) of every image, (N, 2)."""
    number = kept.boxes["image"].to_numpy()
    edges = kept.boxes[EDGES].to_numpy().copy()
    share = np.ones(len(edges))
    sizes = kept.images[["width", "height"]].to_numpy().copy()
    for width, height in np.unique(sizes, axis=0).tolist():
        geometry = plan(width, height, params.crop, params.resize)
        of_size = (kept.images[["width", "height"]].to_numpy() == (width, height)).all(axis=1)
        theirs = of_size[number]
        edges[theirs], share[theirs] = follow(edges[theirs], geometry)
        sizes[of_size] = geometry.size
    least_area = np.maximum(params.min_area.pixels, params.min_area.fraction * sizes.prod(axis=1))[number]
    cut_off = (share < params.min_visibility) | (share == 0)
    too_small = ~cut_off & (area(edges) < least_area)
    paths = kept.images["path"].to_numpy()[number]
    for i in np.flatnonzero(cut_off | too_small | (share < 1 - 1e-9)):
        if too_small[i]:
            width, height = edges[i, 2:] - edges[i, :2]
            ledger.add("box", "dropped", "below_min_area", path=paths[i], detail=f"{width:.1f} x {height:.1f} px")
        else:
            action: Action = "dropped" if cut_off[i] else "clipped"
            ledger.add("box", action, "outside_crop", path=paths[i], detail=f"{share[i]:.1%} of it is left")
    boxes = kept.boxes.copy()
    boxes[EDGES] = edges
    return boxes[~(cut_off | too_small)], sizes
