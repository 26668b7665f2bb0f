"""The trained checkpoint itself, in PyTorch; what every other runtime is held against.

The network is used without ultralytics' predictor: convolutions and BatchNorm fused, evaluation mode, float32. A checkpoint is a
pickle, which could run code when it is loaded: `pipeline.weights` reads it first and refuses what no checkpoint needs.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import devices, machine
from pipeline.errors import TrainingError
from pipeline.runtimes import LoadOptions, Requires

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.inference import Batch, Detector

REQUIRES = Requires("train", load=("torch", "ultralytics"))
SUFFIX = ".pt"
PRECISIONS: tuple[str, ...] = ()


def load(path: Path, device: str = "auto", options: LoadOptions | None = None) -> Detector:
    """A detector from a checkpoint that ultralytics can read.

    Args:
        device: see `devices.pick`.

    Raises:
        TrainingError: not a detection checkpoint.
        UsageError: there is no such device.
    """
    from pipeline import weights
    from pipeline.inference import Detector
    from pipeline.yolo import ultralytics

    options = options or LoadOptions()
    weights.check(path)
    library = ultralytics(options.cache)
    import torch

    place = torch.device(devices.pick(device))
    torch.set_num_threads(options.threads or machine.usable_cores())
    try:
        network = library.YOLO(str(path)).model
    except Exception as error:  # unpickling raises anything
        raise TrainingError(f"{path} cannot be loaded as a checkpoint: {error}") from error
    if getattr(network, "task", "") != "detect":
        raise TrainingError(f"{path} is a '{getattr(network, 'task', 'unknown')}' model; a detector is needed.")
    network.end2end = False  # as in the exports: the raw head and our own suppression, for every model generation
    network = network.float().fuse(verbose=False).eval().to(place)
    trained = (getattr(network, "args", None) or {}).get("imgsz", 640)

    def forward(batch: Batch) -> NDArray[np.float32]:
        with torch.inference_mode():
            raw = network(torch.from_numpy(batch).to(place))
        result: NDArray[np.float32] = (raw[0] if isinstance(raw, (tuple, list)) else raw).cpu().numpy()
        return result

    return Detector(
        forward,
        [network.names[number] for number in sorted(network.names)],
        options.imgsz or _square(trained),
        "pytorch",
        device=str(place),
        thresholds=options.thresholds,
        batch=options.batch,
        fixed_batch=False,
        rectangular=options.rectangular,
    )


def _square(imgsz: int | list[int]) -> tuple[int, int]:
    from pipeline.inference import STRIDE

    side = -(-(max(imgsz) if isinstance(imgsz, list) else imgsz) // STRIDE) * STRIDE
    return side, side
