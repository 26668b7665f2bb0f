"""Models to be timed where real weights cannot be had: the architecture, another model's weights where they fit, and chance.

How long a network takes does not depend on the values of its weights, but what it answers should depend on the image: random
layers shrink all signal to nothing, so their BatchNorm is measured on a photo. And what comes after the network takes the longer
the more boxes there are: where the class scores are a matter of chance, they are scaled and shifted until it gives a handful.
"""

from __future__ import annotations

import io
from collections.abc import Collection
from pathlib import Path
from typing import Any

from pipeline import files
from pipeline.yolo import ultralytics

SEED = 0
VERSION = 1
"""Raised when equal inputs would give another model."""
CANDIDATES = 24
"""Boxes of the photo, before suppression, whose score is above `CONFIDENCE`."""
CONFIDENCE = 0.25


def build(name: str, task: str, source: Path | None, target: Path, cache: Path) -> dict[str, Any]:
    """Write a checkpoint of an architecture of ultralytics'. To be run in a process of its own: it seeds torch.

    Args:
        name: of an official model, such as "yolo11n-seg".
        task: "detect", "segment", "classify" or "pose".
        source: a detector whose weights are taken over wherever name and shape are the same; None for none.

    Returns:
        `transferred` and `items`: how many tensors are the source's, and how many there are.
    """
    ultralytics(cache)
    import torch
    from ultralytics.nn import tasks
    from ultralytics.nn.tasks import torch_safe_load

    torch.manual_seed(SEED)
    classes = {"detect": "Detection", "segment": "Segmentation", "classify": "Classification", "pose": "Pose"}
    number = {"nc": 1} if task == "pose" else {}  # persons; the file of the architecture says 80
    model = getattr(tasks, f"{classes[task]}Model")(f"{name}.yaml", verbose=False, **number).eval()
    state, taken = model.state_dict(), {}
    if source is not None:
        given = torch_safe_load(source, safe_only=True)[0]["model"].float()
        taken = {key: value for key, value in given.state_dict().items() if key in state and state[key].shape == value.shape}
        model.load_state_dict(taken, strict=False)
        if len(given.names) == len(model.names):
            model.names = given.names
    if task == "pose":
        model.names = {0: "person"}
    photo = _photo()
    _measure_norms(model, taken, photo)
    if task != "classify" and not all(key in taken for key in state if ".cv3." in key):
        _give_scores(model, photo)
    model.task = task
    model.args = {"task": task, "imgsz": 224 if task == "classify" else 640, "model": f"{name}.yaml"}
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    buffer = io.BytesIO()  # torch.save writes the name of the file it is given into the archive
    torch.save({"epoch": -1, "model": model, "ema": None, "optimizer": None, "train_args": model.args}, buffer)
    files.write_bytes(target, buffer.getvalue())
    return {"transferred": len(taken), "items": len(state)}


def _photo() -> Any:
    """(1, 3, 640, 640) float32 in [0, 1], letterboxed."""
    import torch
    from ultralytics.utils import ASSETS

    from pipeline import images
    from pipeline.inference import Letterbox, to_batch

    photo = images.decode(Path(ASSETS) / "bus.jpg")
    return torch.from_numpy(to_batch([Letterbox.fit(photo.shape[:2], (640, 640)).apply(photo)]))


def _measure_norms(model: Any, taken: Collection[str], photo: Any) -> None:
    """Give every BatchNorm that is not the source's the mean and variance of what flows into it."""
    import torch

    norms = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.BatchNorm2d)}
    random = [(norm, norm.momentum) for name, norm in norms.items() if f"{name}.running_var" not in taken]
    for norm, _ in random:
        norm.momentum = 1.0
        norm.train()
    with torch.inference_mode():
        model(photo)
    for norm, momentum in random:
        norm.momentum = momentum
        norm.eval()


def _give_scores(model: Any, photo: Any) -> None:
    """Scale the logits of the classes to unit spread, and shift them so that `CANDIDATES` of the photo are above `CONFIDENCE`."""
    import torch

    last = [branch[-1] for branch in model.model[-1].cv3]
    seen: list[Any] = []
    handles = [conv.register_forward_hook(lambda _, __, output: seen.append(output.flatten())) for conv in last]
    with torch.inference_mode():
        model(photo)
    for handle in handles:
        handle.remove()
    logits = torch.cat(seen)
    threshold, spread = logits.topk(CANDIDATES + 1).values[-1], logits.std()
    wanted = torch.logit(torch.tensor(CONFIDENCE))
    with torch.no_grad():
        for conv in last:
            conv.weight.div_(spread)
            conv.bias.sub_(threshold).div_(spread).add_(wanted)


def describe(checkpoint: Path, cache: Path) -> dict[str, Any]:
    """Task, `imgsz` [height, width] of its training, number of `parameters`, and `gflops` (10⁹ multiplications and additions) of
    one image of 640, for classifiers 224 px.

    Both of the network as it was trained, before convolutions and BatchNorm are fused, as ultralytics' tables have them.
    """
    library = ultralytics(cache)
    from ultralytics.utils.torch_utils import get_flops, get_num_params

    model = library.YOLO(str(checkpoint)).model.float()
    task = str(getattr(model, "task", "unknown"))
    usual = 224 if task == "classify" else 640
    arguments = getattr(model, "args", None)
    imgsz = (arguments if isinstance(arguments, dict) else {}).get("imgsz") or usual
    described = {"task": task, "imgsz": imgsz if isinstance(imgsz, list) else [imgsz, imgsz]}
    return described | {"parameters": int(get_num_params(model)), "gflops": round(float(get_flops(model, usual)), 3) or None}
