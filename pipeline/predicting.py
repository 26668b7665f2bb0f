"""Try a model on photos: pictures with boxes, and the boxes as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline import files
from pipeline.errors import DataError
from pipeline.inference import Thresholds
from pipeline.paths import is_image
from pipeline.stage import Advance
from pipeline.store import Store, Version

JSON = dict[str, Any]

DEFAULT_CONFIDENCE = 0.25


def find_photos(sources: Sequence[Path]) -> list[Path]:
    """The images that files and folders lead to, in order, each once.

    Raises:
        DataError: a source does not exist, or there is no image at all.
    """
    found: dict[Path, None] = {}
    for source in sources:
        if not source.exists():
            raise DataError(f"There is no {source}.")
        below = [Path(entry.path) for entry in files.walk(source)] if source.is_dir() else [source]
        # `._x.jpg` is what macOS leaves beside x.jpg on foreign disks; it is no image.
        found.update(dict.fromkeys(sorted(path for path in below if is_image(path.name) and not path.name.startswith("._"))))
    if not found:
        raise DataError(f"There is no image in {', '.join(map(str, sources))}.")
    return list(found)


def recommended_confidence(store: Store, train: Version) -> float | None:
    """The best threshold that an evaluation of this very training found, the newest one's; None without one."""
    for version in reversed(store.versions("evaluate")):
        if version.manifest["recipe"]["inputs"]["train"]["version"] == train.number:
            value = version.manifest["summary"]["confidence"]
            return None if value is None else float(value)
    return None


def predict(
    model: Path, photos: Sequence[Path], confidence: float, out: Path, device: str, cache: Path, advance: Advance
) -> list[JSON]:
    """Write `out/<name>.jpg` with drawn boxes for every photo and `out/detections.json`; returns the content of the latter.

    Boxes are pixel edges of the upright photo. A photo that cannot be read has an `error` and no picture; the others go on.
    """
    from pipeline import drawing, images, runtimes

    thresholds = Thresholds(confidence=confidence, multi_label=False)
    predictor = runtimes.for_file(model).load(model, device, runtimes.LoadOptions(thresholds=thresholds, cache=cache))
    results: list[JSON] = []
    taken: set[str] = set()
    for path in photos:
        result: JSON = {"image": str(path), "picture": "", "objects": [], "error": ""}
        results.append(result)
        try:
            image = images.decode(path)
        except images.UnreadableImage as error:
            result["error"] = f"cannot be read: {error.reason}"
        else:
            [found] = predictor.predict([image])
            result["picture"] = _free_name(path.stem, taken)
            drawn = drawing.draw_boxes(image, found.boxes, found.class_ids, predictor.class_names, scores=found.scores)
            images.save(out / result["picture"], drawn)
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
    files.write_text(out / "detections.json", json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    return results


def _free_name(stem: str, taken: set[str]) -> str:
    """`<stem>.jpg`, with a number where two photos would share it on any file system."""
    names = (f"{stem}{suffix}.jpg" for suffix in ("", *(f"-{number}" for number in range(2, len(taken) + 3))))
    name = next(name for name in names if name.casefold() not in taken)
    taken.add(name.casefold())
    return name
