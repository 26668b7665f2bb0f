"""ultralytics' exporter, tamed: a float32 file out of a checkpoint, and nothing else on disk.

The exporter writes beside the checkpoint, so it works on a copy in a scratch folder. It stamps the date and the path of the
training data into the file; both go, so that equal weights give equal bytes and no path leaves the machine. What it would do for
int8 (calibrate on a data set it downloads) is done by the runtimes themselves on the images they are given.

Must run in a process that may be changed (`runtimes._isolated`): it sets torch's threads and patches layers.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from pipeline import files
from pipeline.errors import TrainingError
from pipeline.runtimes import ExportOptions
from pipeline.yolo import ultralytics

_PRIVATE_METADATA = ("date", "description", "docs")
_ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)


def to_onnx(weights: Path, target: Path, options: ExportOptions) -> None:
    """Write float32 ONNX: input `images` (B, 3, H, W), output `output0` (B, 4 + classes, anchors), xywh in input pixels."""
    arguments = {"dynamic": options.dynamic, "simplify": options.simplify, "opset": options.opset}
    with tempfile.TemporaryDirectory(prefix="yolo-pipeline-") as scratch:
        made = _export(weights, Path(scratch), "onnx", options, **arguments)
        import onnx

        model = onnx.load(made)
        kept = {entry.key: entry.value for entry in model.metadata_props if entry.key not in _PRIVATE_METADATA}
        onnx.helper.set_model_props(model, dict(sorted(kept.items())))
        with files.atomic_path(target) as temporary:
            onnx.save(model, temporary)


def to_litert(weights: Path, options: ExportOptions) -> tuple[bytes, dict[str, Any]]:
    """A float32 LiteRT flatbuffer and its metadata: as `to_onnx`, but boxes relative to the input's size and a fixed batch.

    Relative boxes: with pixels and scores in one tensor, int8 would round every score to 0.
    """
    with tempfile.TemporaryDirectory(prefix="yolo-pipeline-") as scratch:
        made = _export(weights, Path(scratch), "litert", options)
        with zipfile.ZipFile(made) as archive:
            metadata = json.loads(archive.read("metadata.json"))
            flatbuffer_size = archive.infolist()[0].header_offset
        return made.read_bytes()[:flatbuffer_size], {k: v for k, v in metadata.items() if k not in _PRIVATE_METADATA}


def write_litert(target: Path, flatbuffer: bytes, metadata: dict[str, Any]) -> None:
    """Write a `.tflite` with `metadata.json` appended as a zip entry, where ultralytics too looks for it."""
    with files.atomic_path(target) as temporary:
        temporary.write_bytes(flatbuffer)
        with zipfile.ZipFile(temporary, "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(zipfile.ZipInfo("metadata.json", _ZIP_EPOCH), json.dumps(metadata, sort_keys=True))


def _export(weights: Path, scratch: Path, kind: str, options: ExportOptions, **arguments: Any) -> Path:
    library = ultralytics(options.cache)
    copy = scratch / "model.pt"
    shutil.copyfile(weights, copy)
    model = library.YOLO(str(copy))
    if model.task != options.task:
        raise TrainingError(f"{weights} is a '{model.task}' model; to be exported was one for '{options.task}'.")
    made = model.export(
        format=kind, imgsz=list(options.imgsz), batch=options.batch, device="cpu", verbose=False, nms=None, **arguments
    )
    return Path(made)
