"""Try a model on photos: pictures with boxes, and the boxes as JSON."""

from __future__ import annotations

import json
from collections import Counter
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
        found.update(dict.fromkeys(sorted(path for path in below if is_image(path.name))))
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

    Boxes are pixel edges of the upright photo.
    """
    from pipeline import drawing, images, runtimes

    thresholds = Thresholds(confidence=confidence, multi_label=False)
    runtime = runtimes.for_file(model)
    predictor = runtime.load(model, device, runtimes.LoadOptions(thresholds=thresholds, cache=cache))
    results: list[JSON] = []
    taken: Counter[str] = Counter()
    for path in photos:
        image = images.decode(path)
        [found] = predictor.predict([image])
        taken[path.stem] += 1
        name = path.stem if taken[path.stem] == 1 else f"{path.stem}-{taken[path.stem]}"
        drawn = drawing.draw_boxes(image, found.boxes, found.class_ids, predictor.class_names, scores=found.scores)
        images.save(out / f"{name}.jpg", drawn)
        rows = zip(found.class_ids, found.scores, found.boxes, strict=True)
        objects = [
            {"class": predictor.class_names[class_id], "score": round(float(score), 4), "box": [round(float(x), 2) for x in box]}
            for class_id, score, box in rows
        ]
        results.append({"image": str(path), "picture": f"{name}.jpg", "objects": objects})
        advance()
    files.write_text(out / "detections.json", json.dumps(results, indent=1, ensure_ascii=False) + "\n")
    return results
