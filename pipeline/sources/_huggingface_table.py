"""A table of images and their boxes in Parquet files: images become files, boxes become `metadata.jsonl`.

Which files make which split is decided by the library `datasets`, from the README or from the names of the files, and the rows
are read by it; images are never decoded, so that a file has the bytes that its author put there.

What is written is the label format `huggingface`: a folder a split, with `metadata.jsonl` beside the images, and the names of the
classes, in their order and also those that no box has, in `dataset_info.json`. A single split gets the folder `data/`, which is
no split's name: the stage split is to divide it.
"""

from __future__ import annotations

import json
import math
import random
import tempfile
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import Field

from pipeline import files
from pipeline.errors import DataError, ParamsError, did_you_mean
from pipeline.ledger import Action, Ledger
from pipeline.paths import SUFFIX_OF, folded, is_image, is_plain, is_safe_relative
from pipeline.sources import Fetched, Origin, folder
from pipeline.sources._huggingface_boxes import PIXELS, as_xywh, decide
from pipeline.sources._huggingface_card import Card
from pipeline.sources._huggingface_files import download
from pipeline.sources._huggingface_hub import Commit, Hub
from pipeline.sources._huggingface_rows import Row, count_rows, find_layout, load, rows_of
from pipeline.sources._packed import MAX_RATIO
from pipeline.sources._unpacking import MAX_BYTES
from pipeline.sources._url_list import safe_name
from pipeline.stage import StageParams
from pipeline.wording import plural

LABELS, CLASSES = "metadata.jsonl", "dataset_info.json"
ONLY = "data"
"""The folder of a data set with one split."""


class TableOptions(StageParams):
    """The options of `huggingface` that are about tables. `collect.seed` draws the rows where there is a `limit`."""

    config: str = Field(default="", description="which of several tables")
    splits: list[str] = Field(default_factory=list, description="only these; [] for all")
    image_column: str = Field(
        default="", description="the column of images, where the names and types of the columns do not tell"
    )
    objects_column: str = Field(
        default="", description="the column of boxes, where the names and types of the columns do not tell"
    )
    bbox: Literal["auto", "xywh", "xyxy", "cxcywh", "xywhn", "xyxyn", "cxcywhn"] = Field(
        default="auto",
        description="what the four numbers of a box mean (n: fractions of width and height); auto finds the meaning with which "
        "all boxes lie in their images",
    )
    limit: int = Field(default=0, ge=0, description="at most so many rows, of all splits together; 0 for all")


@dataclass
class _Collected:
    """What was written so far. `labels` has for each row: its split, the line to write, and the size of the image in pixels."""

    origins: list[Origin] = field(default_factory=list)
    ledger: Ledger = field(default_factory=Ledger)
    labels: list[tuple[str, dict[str, Any], tuple[float, float]]] = field(default_factory=list)
    taken: set[str] = field(default_factory=set)
    numbers: array[float] = field(default_factory=lambda: array("d"))
    """Four numbers of a box and the size of its image, one box after the other."""
    written: int = 0


def shards_in(commit: Commit) -> list[str]:
    """The Parquet files that can be parts of a table: `metadata.parquet` describes images that are files."""
    paths = (entry.path for entry in commit.entries)
    return [path for path in paths if path.lower().endswith(".parquet") and path.rpartition("/")[2].lower() != "metadata.parquet"]


def fetch(hub: Hub, commit: Commit, card: Card, options: TableOptions, seed: int, out: Path) -> Fetched:
    config = _config(card, options.config, commit.repo)
    shards = _splits(_shards(commit, card.configs.get(config, {})), options.splits, commit.repo)
    wanted = {path for paths in shards.values() for path in paths}
    local = download(hub, commit, [entry for entry in commit.entries if entry.path in wanted])
    first = next(path for paths in shards.values() for path in paths)
    found = find_layout(local[first].path, options.image_column, options.objects_column)
    names: Any = found.class_names or card.class_names(config or "default")
    collected = _Collected()
    counts = {split: count_rows([local[path].path for path in paths]) for split, paths in shards.items()}
    chosen = _sample(counts, options.limit, seed)
    folders = {split: split if len(shards) > 1 else ONLY for split in shards}
    limit = MAX_RATIO * sum(max(path.stat().st_size, 2**20) for path in (local[path].path for path in wanted))
    known = folder.held(hub.context.previous)
    with hub.context.progress("write images", sum(map(len, chosen.values()))) as advance:
        for split, paths in shards.items():
            for row in _chosen(rows_of([local[path].path for path in paths], found), chosen[split]):
                _write_image(
                    row, folders[split], out, f"huggingface:{commit.repo}@{commit.sha}:{split}/{row.number}", collected, known
                )
                if collected.written > min(limit, MAX_BYTES):
                    raise DataError(f"{commit.repo}: its images are {collected.written:,} bytes so far: taken for a bomb.")
                advance()
    kind = _write_labels(collected, options.bbox, names, out)
    told = ", ".join(f"{plural(len(chosen[split]), 'row')} of {split}" for split in shards)
    return Fetched(
        sorted(collected.origins, key=lambda origin: origin.path),
        license=card.license,
        homepage=f"{hub.page(commit.repo)}/tree/{commit.sha}",
        description=f"the Hugging Face data set {commit.repo} at commit {commit.sha[:12]}: {told}; boxes as {kind}",
        ledger=collected.ledger,
    )


# ---- which files


def _config(card: Card, wanted: str, repo: str) -> str:
    """The name of the table to read; "" where the README declares none.

    Raises:
        ParamsError: there is no such table, or none is the default.
    """
    if wanted and wanted not in card.configs:
        hint = did_you_mean(wanted, card.configs) if card.configs else "Its README declares no tables: leave the option out."
        raise ParamsError(f"collect.options.config: {repo} has no table '{wanted}'.", hint)
    marked = [name for name, config in card.configs.items() if str(config.get("default")).lower() == "true"]
    default = [*marked, *(name for name in card.configs if name == "default")]
    name = wanted or (default[0] if default else next(iter(card.configs), ""))
    if not wanted and not default and len(card.configs) > 1:
        raise ParamsError(
            f"{repo} has several tables, and none is the default.", f"Choose: collect.options.config={' or '.join(card.configs)}."
        )
    return name


def _shards(commit: Commit, config: Mapping[str, Any]) -> dict[str, list[str]]:
    """The Parquet files of each split, as `datasets` finds them in a folder of empty files with the same names.

    Raises:
        DataError: what the README says of them cannot be followed.
    """
    load()
    from datasets.data_files import DataFilesDict, get_data_patterns, sanitize_patterns

    paths = [path for path in shards_in(commit) if is_safe_relative(path) and is_plain(path)]
    if not paths:
        raise DataError(f"{commit.repo} has no Parquet files, so it is no table.", "Leave out collect.options.kind.")
    declared, below = config.get("data_files"), next(_texts(config.get("data_dir")), "")
    wrong = next((pattern for pattern in _texts([declared, below]) if not _is_pattern(pattern)), None)
    if wrong is not None:
        raise DataError(
            f"README.md of {commit.repo} names files outside of it: {wrong!a}.", "Only files of the data set are read."
        )
    with tempfile.TemporaryDirectory(prefix="huggingface-") as temporary:
        root = Path(temporary).resolve()
        for path in paths:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).touch()
        base = (root / below).as_posix()
        try:
            patterns = sanitize_patterns(declared) if declared else get_data_patterns(base)
            found = DataFilesDict.from_patterns(patterns, base_path=base, allowed_extensions=[".parquet"])
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(
                f"README.md of {commit.repo} names files that are not there, or no Parquet files ({type(error).__name__}).",
                f"It has {', '.join(paths[:5])}{' …' if len(paths) > 5 else ''}. Another table: collect.options.config.",
            ) from error
        return {
            str(split): [Path(path).relative_to(root).as_posix() for path in dict.fromkeys(listed)]
            for split, listed in found.items()
            if listed
        }


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, (list, tuple)):
        for part in value:
            yield from _texts(part)
    elif isinstance(value, dict):
        yield from _texts(value.get("path"))
    elif isinstance(value, str):
        yield value


def _is_pattern(text: str) -> bool:
    """Whether a pattern stays inside its folder: no other host, no place on this machine, no part of an archive."""
    return not (":" in text or "\\" in text or text.startswith(("/", "~")) or ".." in text.split("/"))


def _splits(shards: dict[str, list[str]], wanted: Sequence[str], repo: str) -> dict[str, list[str]]:
    """The splits to read, with names that can be folders.

    Raises:
        ParamsError: one that is asked for is not there.
        DataError: a name that no folder can have.
    """
    for split in wanted:
        if split not in shards:
            raise ParamsError(f"collect.options.splits: {repo} has no split '{split}'.", did_you_mean(split, shards))
    chosen = {split: paths for split, paths in shards.items() if not wanted or split in wanted}
    wrong = next((split for split in chosen if safe_name(split) != split), None)
    if wrong is not None or len(set(map(folded, chosen))) < len(chosen):
        raise DataError(f"{repo} has splits with names that cannot be folders: {', '.join(map(ascii, chosen))}.")
    return chosen


def _sample(counts: Mapping[str, int], limit: int, seed: int) -> dict[str, Sequence[int]]:
    """The numbers of the rows to read in each split, ascending; `limit` of all are drawn at random."""
    total = sum(counts.values())
    if not limit or limit >= total:
        return {split: range(count) for split, count in counts.items()}
    drawn = sorted(random.Random(seed).sample(range(total), limit))  # noqa: S311 - no secret
    chosen: dict[str, Sequence[int]] = {}
    first = 0
    for split, count in counts.items():
        chosen[split] = [number - first for number in drawn if first <= number < first + count]
        first += count
    return chosen


def _chosen(rows: Iterator[Row], numbers: Sequence[int]) -> Iterator[Row]:
    wanted = numbers if isinstance(numbers, range) else frozenset(numbers)
    last = numbers[-1] if numbers else -1
    for row in rows:
        if row.number in wanted:
            yield row
        if row.number >= last:
            return


# ---- images


def _write_image(row: Row, place: str, out: Path, origin: str, collected: _Collected, known: Mapping[str, Path]) -> None:
    """Write the bytes of a row's image, and remember its labels; a row without an image goes to the ledger."""
    from blake3 import blake3

    from pipeline import images

    wanted = row.name.replace("\\", "/").rpartition("/")[2]
    if not row.data:
        detail = f"the row only names {wanted}" if wanted else "the row has none"
        collected.ledger.add(
            "image", "dropped", "no_image", path=f"{place}/{wanted}" if wanted else "", detail=f"{origin}: {detail}"
        )
        return
    digest, target = blake3(row.data).hexdigest(), out / place / f".{row.number}"
    held = known.get(digest)
    if held is not None and held.exists():
        files.link(held, target)
    else:
        files.write_bytes(target, row.data)
    try:
        header = images.read_header(target)
    except images.UnreadableImage as error:
        target.unlink()
        collected.ledger.add("image", "dropped", error.reason, path=f"{place}/{wanted}", detail=origin)
        return
    name = _name(wanted, row.number, SUFFIX_OF.get(header.kind, ".png"), place, collected.taken)
    target.replace(out / place / name)
    collected.written += len(row.data)
    collected.taken.add(folded(f"{place}/{name}"))
    collected.origins.append(Origin(f"{place}/{name}", origin, hash=digest))
    width, height = row.size or (float(header.width), float(header.height))
    line: dict[str, Any] = {"file_name": name}
    if row.size:  # the size that the labels were drawn in, where the data set tells: a photo may be stored turned
        line |= {"width": int(width), "height": int(height)}
    collected.labels.append((place, line | {"objects": row.objects}, (width, height)))
    if row.size or header.orientation == 1:
        for box in row.objects["bbox"]:
            if _is_box(box):
                collected.numbers.extend((*map(float, box), width, height))


def _name(wanted: str, number: int, suffix: str, place: str, taken: set[str]) -> str:
    """The name that the image had as a file, made safe, or its row's number; with the number added where another has the name."""
    name = safe_name(wanted) if is_image(wanted) else f"{number:06}{suffix}"
    while folded(f"{place}/{name}") in taken:
        path = PurePosixPath(name)
        name = f"{path.stem}-{number:06}{path.suffix}"
    return name


# ---- labels


def _is_box(box: Any) -> bool:
    is_list = isinstance(box, (list, tuple)) and len(box) == 4
    return is_list and all(isinstance(value, (int, float)) and math.isfinite(value) for value in box)


def _write_labels(collected: _Collected, bbox: str, names: Any, out: Path) -> str:
    """Write the label files; what the numbers of a box were taken for."""
    import numpy as np

    kind, how = bbox, "as collect.options.bbox says"
    if bbox == "auto":
        table = np.frombuffer(collected.numbers, dtype=np.float64).reshape(-1, 6) if collected.numbers else np.zeros((0, 6))
        decision = decide(table[:, :4], table[:, 4:])
        kind, how = decision.kind, decision.why
    texts: dict[str, list[str]] = {}
    encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode
    for place, line, (width, height) in collected.labels:
        boxes = [as_xywh(box, kind, width, height) if _is_box(box) else [] for box in line["objects"]["bbox"]]
        texts.setdefault(place, []).append(encode({**line, "objects": {**line["objects"], "bbox": boxes}}) + "\n")
    for place, lines in texts.items():
        path = f"{place}/{LABELS}"
        files.write_text(out / path, "".join(lines))
        collected.origins.append(Origin(path, "made from the columns of the table"))
        action: Action = "kept" if kind == PIXELS[0] else "converted"
        collected.ledger.add("file", action, f"boxes_are_{kind}", path=path, detail=how)
    if names:
        feature = {"names": names, "_type": "ClassLabel"}
        files.write_text(out / CLASSES, encode({"features": {"objects": {"feature": {"category": feature}}}}) + "\n")
        collected.origins.append(Origin(CLASSES, "made from the columns of the table"))
    return kind
