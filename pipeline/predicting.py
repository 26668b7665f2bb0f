"""Try a model on photos: pictures with boxes, and the boxes as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import chain, count
from pathlib import Path
from typing import Any

from pipeline import files
from pipeline.errors import DataError, UsageError
from pipeline.fingerprint import stat_tree
from pipeline.inference import Thresholds
from pipeline.paths import is_image
from pipeline.stage import Advance
from pipeline.store import Store, Version

JSON = dict[str, Any]

DEFAULT_CONFIDENCE = 0.25
RESULTS = "detections.json"


def find_photos(sources: Sequence[Path]) -> list[Path]:
    """The images that files and folders lead to, in order, each once; below a folder as collect finds them: links are followed,
    hidden files and folders left out. A link that leads nowhere is among them, so that it is told of.

    Raises:
        DataError: a source does not exist or cannot be listed, or there is no image at all.
    """
    found: dict[Path, None] = {}
    for source in sources:
        if not source.exists():
            raise DataError(f"There is no {source}.")
        below = _below(source) if source.is_dir() else [source]
        found.update(dict.fromkeys(path for path in below if is_image(path.name)))
    if not found:
        raise DataError(f"There is no image in {', '.join(map(str, sources))}.")
    return list(found)


def _below(folder: Path) -> list[Path]:
    try:
        tree = stat_tree(folder)
    except OSError as error:
        raise DataError(f"{folder} cannot be listed: {error}.", "Check the permissions of its files and folders.") from error
    return sorted(folder / path for path in (*tree.paths, *tree.dangling))


def recommended_confidence(store: Store, model: Path) -> float | None:
    """The threshold that the newest evaluation of the training that a model file comes from counted at, found or given.

    None without one: a file in a version of train or export belongs to a known training; nothing is known of any other.
    """
    version = _version_of(store, model)
    if version is None:
        return None
    number = version.number if version.stage == "train" else version.manifest["recipe"]["inputs"]["train"]["version"]
    for evaluated in store.newest_first("evaluate"):
        if evaluated.manifest["recipe"]["inputs"]["train"]["version"] == number:
            return float(evaluated.manifest["summary"]["confidence"])
    return None


def _version_of(store: Store, file: Path) -> Version | None:
    """The version of train or export that a file lies in."""
    path = file.resolve()
    versions = (version for stage in ("train", "export") for version in store.versions(stage))
    return next((version for version in versions if path.is_relative_to(version.path.resolve())), None)


def predict(
    model: Path, photos: Sequence[Path], confidence: float, out: Path, device: str, cache: Path, advance: Advance
) -> list[JSON]:
    """Write `out/<name>.jpg` with drawn boxes for every photo and `out/detections.json`; returns the content of the latter.

    Boxes are pixel edges of the upright photo. A photo that cannot be read has an `error` and no picture; the others go on.
    What an earlier call left in `out` is removed, so that pictures and `detections.json` always are of one run.

    Raises:
        UsageError: a picture would take the place of one of the photos.
    """
    from pipeline import drawing, images, runtimes

    pictures = _picture_names(photos, out)
    thresholds = Thresholds(confidence=confidence, multi_label=False)
    predictor = runtimes.for_file(model).load(model, device, runtimes.LoadOptions(thresholds=thresholds, cache=cache))
    _remove_earlier(out, photos)
    results: list[JSON] = []
    for path, picture in zip(photos, pictures, strict=True):
        result: JSON = {"image": _unicode(str(path)), "picture": "", "objects": [], "error": ""}
        results.append(result)
        try:
            image = images.decode(path)
        except images.UnreadableImage as error:
            result["error"] = f"cannot be read: {error.reason}"
        except OSError as error:
            result["error"] = f"cannot be read: {error.strerror or error}"
        else:
            [found] = predictor.predict([image])
            result["picture"] = picture
            drawn = drawing.draw_boxes(image, found.boxes, found.class_ids, predictor.class_names, scores=found.scores)
            images.save(out / picture, drawn)
            rows = zip(found.class_ids, found.scores, found.boxes, strict=True)
            result["objects"] = [
                {
                    "class": predictor.class_names[number],
                    "score": round(float(score), 4),
                    "box": [round(float(x), 2) for x in box],
                }
                for number, score, box in rows
            ]
        advance()
    files.write_text(out / RESULTS, json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    return results


def _picture_names(photos: Sequence[Path], out: Path) -> list[str]:
    """`<stem>.jpg` for each photo, with a number where two would share it on any file system."""
    names: list[str] = []
    taken: set[str] = set()
    for path in photos:
        stem = _unicode(path.stem)
        numbered = (f"{stem}-{number}.jpg" for number in count(2))
        name = next(name for name in chain([f"{stem}.jpg"], numbered) if name.casefold() not in taken)
        taken.add(name.casefold())
        names.append(name)
    originals = {_identity(path) for path in photos}
    if spoilt := [name for name in names if (out / name).exists() and _identity(out / name) in originals]:
        raise UsageError(
            f"The pictures in {out} would take the place of photos that are to be read, such as {spoilt[0]}.",
            "Choose another --out.",
        )
    return names


def _remove_earlier(out: Path, photos: Sequence[Path]) -> None:
    """Remove the pictures that an earlier `detections.json` in `out` names, and then it; nothing else, and no photo to read."""
    try:
        results = json.loads((out / RESULTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    originals = {_identity(path) for path in photos}
    named = [str(row.get("picture")) for row in results if isinstance(row, dict)] if isinstance(results, list) else []
    # The file may have been edited: a name that leads elsewhere is none of ours.
    for name in (name for name in named if name.endswith(".jpg") and Path(name).name == name and "\0" not in name):
        if _identity(out / name) not in originals:
            (out / name).unlink(missing_ok=True)
    (out / RESULTS).unlink()


def _unicode(name: str) -> str:
    """A file name that JSON can hold: what is no Unicode in it (Linux takes any bytes) becomes a replacement character."""
    return re.sub("[\ud800-\udfff]", "\ufffd", name)


def _identity(path: Path) -> tuple[int, int] | None:
    """By what a file is known under all of its names; None for one that is gone."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino
