"""Make artifacts out of trained weights, and let none pass that does not answer like them.

Every artifact is loaded in its own runtime and run over the same images as the checkpoint; each image is decoded once for all.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline import devices, files, images, parity, runtimes
from pipeline.dataset import Dataset
from pipeline.detections import Detections, Predictor
from pipeline.errors import ExportMismatch
from pipeline.runtimes import REFERENCE, ExportOptions, LoadOptions, Wanted
from pipeline.stage import JSON, Context

RECORD = "export.json"


@dataclass(frozen=True)
class Limits:
    """How far an artifact may be from the checkpoint.

    Attributes:
        max_map_drop: mAP50-95 may be lower by at most this.
        min_agreement: at least this share of the boxes must have a partner.
    """

    max_map_drop: float
    min_agreement: float


def make(wanted: Wanted, weights: Path, out: Path, options: ExportOptions) -> JSON:
    """Export one artifact to its folder in `out`; one that is there already, from a run that was killed, is kept.

    Returns:
        Its record: format, precision, status ("ok" or "skipped"), reason, file (relative to `out`), size_bytes, export_s.
    """
    folder = out / wanted.folder
    if (folder / RECORD).exists():
        record: JSON = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        return record
    module = runtimes.module(wanted.runtime)
    record = {"format": wanted.runtime, "precision": wanted.precision, "status": "ok", "reason": ""}
    reason = runtimes.unavailable(wanted.runtime)
    started = time.monotonic()
    if reason:
        left = module.leave_instructions(weights, folder, options) if hasattr(module, "leave_instructions") else ""
        record |= {"status": "skipped", "reason": f"{reason}; {left}" if left else reason, "file": "", "size_bytes": 0}
    else:
        made = module.export(weights, folder, options)
        whole = [path for path in (made, made.with_suffix(".bin")) if path.exists()]  # OpenVINO's graph has its weights beside it
        record |= {"file": made.relative_to(out).as_posix(), "size_bytes": sum(path.stat().st_size for path in whole)}
    record |= {"imgsz": list(options.imgsz), "batch": options.batch, "export_s": round(time.monotonic() - started, 1)}
    # Written last: a folder with a record holds a whole artifact.
    files.write_text(folder / RECORD, json.dumps(record, indent=1) + "\n")
    return record


def load_all(
    wanted: Sequence[Wanted], records: Sequence[JSON], weights: Path, out: Path, options: ExportOptions, context: Context
) -> dict[str, Predictor]:
    """The checkpoint as `REFERENCE`, and every artifact that was made, each in its own runtime."""
    device = devices.for_artifacts(context.device)
    load_options = LoadOptions(imgsz=options.imgsz, batch=options.batch, cache=options.cache)
    predictors: dict[str, Predictor] = {REFERENCE: runtimes.module(REFERENCE).load(weights, context.device, load_options)}
    for each, record in zip(wanted, records, strict=True):
        if record["status"] == "ok":
            predictors[str(each)] = runtimes.module(each.runtime).load(out / record["file"], device, load_options)
    return predictors


def predict_all(
    predictors: Mapping[str, Predictor], dataset: Dataset, folder: Path, batch: int, context: Context
) -> dict[str, list[Detections]]:
    """The answers of every predictor to every image of a data set, by predictor; images are decoded once, `batch` at a time."""
    paths = [folder / "images" / path for path in dataset.images["path"]]
    found: dict[str, list[Detections]] = {name: [] for name in predictors}
    with context.progress("compare", len(paths)) as advance:
        for start in range(0, len(paths), batch):
            pixels = [images.decode(path) for path in paths[start : start + batch]]
            for name, predictor in predictors.items():
                found[name] += predictor.predict(pixels)
            advance(len(pixels))
    return found


def compare(dataset: Dataset, found: Mapping[str, Sequence[Detections]]) -> dict[str, JSON]:
    """For every predictor: mAP50-95 and mAP50 (None without labels), and for the artifacts `map_drop` and `parity`."""
    reference = parity.mean_average_precision(dataset, found[REFERENCE])
    figures: dict[str, JSON] = {}
    for name, detections in found.items():
        own = reference if name == REFERENCE else parity.mean_average_precision(dataset, detections)
        figures[name] = {"map50_95": own and own[0], "map50": own and own[1]}
        if name != REFERENCE:
            agreement = asdict(parity.agreement(found[REFERENCE], detections))
            worst = agreement["worst_image"]
            agreement["worst_image"] = None if worst is None else str(dataset.images["path"].iloc[worst])
            figures[name] |= {"map_drop": reference[0] - own[0] if reference and own else None, "parity": agreement}
    return figures


def check(figures: Mapping[str, JSON], limits: Limits) -> None:
    """Let no artifact pass that is beyond the limits.

    Raises:
        ExportMismatch: names every one with what was measured, what is allowed, and its worst image.
    """
    problems = [problem for name, values in figures.items() if name != REFERENCE for problem in _problems(name, values, limits)]
    if problems:
        raise ExportMismatch(
            "Exported models do not behave like the trained one, so nothing was published:",
            "int8: calibrate on more images (export.calibration_images) or choose a higher precision. "
            "fp32 should not differ: try another export.opset, or simplify: false. "
            "If the loss is acceptable, raise export.max_map_drop or lower export.min_agreement.",
            problems,
        )


def _problems(name: str, values: JSON, limits: Limits) -> list[str]:
    drop, agreement = values["map_drop"], values["parity"]
    edge = agreement["max_edge_px"]
    where = f"worst image: {agreement['worst_image']}" + (f" (boxes up to {edge:.1f} px apart)" if edge is not None else "")
    problems = []
    if drop is not None and drop > limits.max_map_drop:
        problems.append(
            f"{name}: mAP50-95 is {drop:.4f} lower ({values['map50_95'] + drop:.4f} → {values['map50_95']:.4f}), "
            f"allowed is {limits.max_map_drop} (export.max_map_drop); {where}"
        )
    if agreement["fraction"] < limits.min_agreement:
        problems.append(
            f"{name}: {agreement['matched']} of {agreement['boxes']} boxes have a partner ({agreement['fraction']:.1%}), "
            f"needed are {limits.min_agreement:.1%} (export.min_agreement); {where}"
        )
    return problems
