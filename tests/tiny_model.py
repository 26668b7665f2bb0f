"""Models with random weights that find something in every image, so that runtimes can be compared without a download."""

from __future__ import annotations

from pathlib import Path

NAMES = ("cat", "dog", "traffic light")
IMGSZ = 96


MODELS = {
    "detect": ("DetectionModel", "yolo11n.yaml"),
    "segment": ("SegmentationModel", "yolo11n-seg.yaml"),
    "pose": ("PoseModel", "yolo11n-pose.yaml"),
    "classify": ("ClassificationModel", "yolo11n-cls.yaml"),
}


def write(path: Path, cache: Path, seed: int = 0, task: str = "detect") -> Path:
    """Write yolo11n with three classes as a checkpoint that was trained, or so it says, at `IMGSZ`."""
    from pipeline.yolo import ultralytics

    ultralytics(cache)
    import torch
    from ultralytics.nn import tasks

    torch.manual_seed(seed)
    kind, architecture = MODELS[task]
    model = getattr(tasks, kind)(architecture, nc=len(NAMES), verbose=False)
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        for branch in getattr(model.model[-1], "cv3", ()):
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
    model.task = task
    model.args = {"task": task, "imgsz": IMGSZ, "model": architecture}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"epoch": -1, "model": model, "ema": None, "optimizer": None, "train_args": model.args}, path)
    return path
