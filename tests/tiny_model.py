"""A detector with random weights that finds something in every image, so that runtimes can be compared without a download."""

from __future__ import annotations

from pathlib import Path

NAMES = ("cat", "dog", "traffic light")
IMGSZ = 96


def write(path: Path, cache: Path, seed: int = 0) -> Path:
    """Write yolo11n with three classes as a checkpoint that was trained, or so it says, at `IMGSZ`."""
    from pipeline.yolo import ultralytics

    ultralytics(cache)
    import torch
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(seed)
    model = DetectionModel("yolo11n.yaml", nc=len(NAMES), verbose=False)
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        for branch in model.model[-1].cv3:
            branch[-1].bias.fill_(-1.0)
        # One step in training mode measures every layer: without it random convolutions shrink all signal to nothing.
        for norm in norms:
            norm.momentum = 1.0
        blocks = torch.nn.functional.interpolate(torch.rand(16, 3, IMGSZ // 6, IMGSZ // 6), size=(IMGSZ, IMGSZ))
        model.train()(blocks)
        for norm in norms:
            norm.momentum = 0.03
    model.eval()
    model.names = dict(enumerate(NAMES))
    model.task = "detect"
    model.args = {"task": "detect", "imgsz": IMGSZ, "model": "yolo11n.yaml"}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"epoch": -1, "model": model, "ema": None, "optimizer": None, "train_args": model.args}, path)
    return path
