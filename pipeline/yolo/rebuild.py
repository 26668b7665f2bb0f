"""A trainable YOLO11n out of an ONNX file, for machines that cannot reach the release files.

An exporter has folded every BatchNorm into its convolution: the weights are all there, but a network without BatchNorm's scale of
things trains badly (first-epoch box loss 3.3 instead of 1.1 on a small set). The fold is undone: every convolution's output is
measured on real photos, and BatchNorm gets the statistics it would have learned there. The network computes what it computed
before, and its gradients have the size that training expects.

Tensor names in the file are PyTorch's module names, so the weights are copied by name and none may be missing.
"""

from __future__ import annotations

import ast
import io
from collections.abc import Iterator
from importlib import util
from pathlib import Path
from typing import Any

from pipeline import files
from pipeline.errors import DataError, MissingDependency, TrainingError, how_to_install

CALIBRATION_PX = 640
_PHOTOS = {
    # Photos that come with packages of the training environment; those that are missing are left out.
    "ultralytics": ("assets/bus.jpg", "assets/zidane.jpg"),
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
    "skimage": ("data/astronaut.png", "data/chelsea.png", "data/coffee.png", "data/motorcycle_left.png", "data/rocket.jpg"),
}


def from_onnx(onnx_file: Path, target: Path) -> dict[str, Any]:
    """Write a trainable checkpoint that `ultralytics.YOLO` loads; ultralytics must have been imported by `pipeline.yolo`.

    Args:
        onnx_file: export of YOLO11n with its BatchNorm folded, 80 classes.
        target: the `.pt` file.

    Returns:
        What it was made of: `onnx_metadata` (author, date, licence … as the exporter wrote them), `calibration` (the photos).

    Raises:
        TrainingError: a tensor is missing or has another shape.
    """
    import torch
    from ultralytics.nn.tasks import DetectionModel

    tensors, metadata = _read(onnx_file)
    names: dict[int, str] = ast.literal_eval(metadata["names"])
    model = DetectionModel("yolo11n.yaml", nc=len(names), verbose=False).eval()
    _copy_by_name(model, tensors, onnx_file)
    photos = list(_photos())
    _calibrate(model, [path for _, path in photos])
    model.names, model.task = names, "detect"
    model.args = {"task": "detect", "imgsz": CALIBRATION_PX, "model": "yolo11n.pt"}
    for parameter in model.parameters():
        parameter.requires_grad_(False)  # as in the official files; the trainer switches gradients on
    # Through a buffer: torch.save writes the name of the file it is given into the archive.
    buffer = io.BytesIO()
    torch.save({"epoch": -1, "best_fitness": None, "model": model, "ema": None, "updates": None, "optimizer": None,
                "train_args": model.args, "date": metadata.get("date"), "license": metadata.get("license")}, buffer)  # fmt: skip
    files.write_bytes(target, buffer.getvalue())
    kept = ("description", "author", "date", "version", "license")
    return {
        "onnx_metadata": {key: metadata[key] for key in kept if key in metadata},
        "calibration": [label for label, _ in photos],
    }


def _read(onnx_file: Path) -> tuple[dict[str, Any], dict[str, str]]:
    try:
        import onnx
    except ImportError as error:
        raise MissingDependency(f"reading {onnx_file.name} needs onnx: {error}", how_to_install("onnx")) from error
    model = onnx.load(onnx_file)
    tensors = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    return tensors, {entry.key: entry.value for entry in model.metadata_props}


def _copy_by_name(model: Any, tensors: dict[str, Any], onnx_file: Path) -> None:
    """Weights into convolutions; the folded bias into BatchNorm's shift, with statistics that leave everything else as it is."""
    import torch

    state = model.state_dict()
    for name in state:
        source = name.removesuffix(".bn.bias") + ".conv.bias" if name.endswith(".bn.bias") else name
        if name.endswith(".bn.running_mean"):
            state[name] = torch.zeros_like(state[name])
        elif name.endswith(".bn.running_var") or name.endswith(".bn.weight"):
            state[name] = torch.ones_like(state[name])
        elif not name.endswith(".bn.num_batches_tracked"):
            if source not in tensors or tensors[source].shape != tuple(state[name].shape):
                found = tensors[source].shape if source in tensors else "nothing"
                raise TrainingError(f"{onnx_file}: expected tensor '{source}' of shape {tuple(state[name].shape)}, found {found}")
            state[name] = torch.from_numpy(tensors[source].copy())
    model.load_state_dict(state)
    for norm in _norms(model).values():
        norm.weight.data.fill_((1 + norm.eps) ** 0.5)


def _norms(model: Any) -> dict[str, Any]:
    from torch import nn

    return {name: module for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}


def _calibrate(model: Any, photos: list[Path]) -> None:
    """Give every BatchNorm the mean and variance of what flows into it, and undo both in its scale and shift."""
    import torch

    sums: dict[str, list[Any]] = {}

    def watch(name: str) -> Any:
        def hook(_: Any, inputs: tuple[Any]) -> None:
            x = inputs[0].double()
            counted = sums.setdefault(name, [0, 0.0, 0.0])
            counted[0] += x.numel() // x.shape[1]
            counted[1] = counted[1] + x.sum(dim=(0, 2, 3))
            counted[2] = counted[2] + (x * x).sum(dim=(0, 2, 3))

        return hook

    norms = _norms(model)
    handles = [norm.register_forward_pre_hook(watch(name)) for name, norm in norms.items()]
    with torch.inference_mode():
        for path in photos:
            model(_as_input(path))
    for handle in handles:
        handle.remove()
    for name, norm in norms.items():
        count, total, squares = sums[name]
        mean = total / count
        variance = (squares / count - mean * mean).clamp_min(0)
        norm.running_mean.copy_(mean)
        norm.running_var.copy_(variance)
        norm.weight.data.copy_((variance.float() + norm.eps).sqrt())
        norm.bias.data.add_(mean.float())


def _as_input(path: Path) -> Any:
    """A photo as the network sees it: (1, 3, 640, 640) float32 in [0, 1], RGB, aspect kept, grey margins."""
    import torch

    from pipeline import images
    from pipeline.inference import Letterbox, to_batch

    photo = images.decode(path)
    letterbox = Letterbox.fit(photo.shape[:2], (CALIBRATION_PX, CALIBRATION_PX))
    return torch.from_numpy(to_batch([letterbox.apply(photo)]))


def _photos() -> Iterator[tuple[str, Path]]:
    found = 0
    for package, names in _PHOTOS.items():
        spec = util.find_spec(package)
        for folder in (spec.submodule_search_locations or ()) if spec else ():
            for name in names:
                path = Path(folder) / name
                if path.is_file():
                    found += 1
                    yield f"{package}/{name}", path
    if not found:
        raise DataError("no photo found to calibrate the rebuilt weights with", how_to_install("sample"))
