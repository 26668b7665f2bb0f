"""The trained checkpoint itself, in PyTorch; what every other runtime is held against.

The network is used without ultralytics' predictor: convolutions and BatchNorm fused, evaluation mode, float32. A checkpoint is a
pickle, which could run code when it is loaded: `pipeline.weights` reads it first and refuses what no checkpoint needs.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import devices, machine
from pipeline.errors import TrainingError
from pipeline.runtimes import LoadOptions, Requires

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.inference import Batch, Detector, Network

REQUIRES = Requires("train", load=("torch", "ultralytics"))
SUFFIX = ".pt"
PRECISIONS: tuple[str, ...] = ()


def place(device: str) -> str:
    """See `devices.pick`."""
    return devices.pick(device)


def load(path: Path, device: str = "auto", options: LoadOptions | None = None) -> Detector:
    """A detector from a checkpoint that ultralytics can read.

    Args:
        device: see `devices.pick`.

    Raises:
        TrainingError: not a detection checkpoint.
        UsageError: there is no such device.
    """
    from pipeline.inference import Detector

    options = options or LoadOptions()
    network = open_network(path, device, options)
    if network.task != "detect":
        raise TrainingError(f"{path} is a '{network.task}' model; a detector is needed.")
    return Detector.of(network, "pytorch", options.thresholds, options.rectangular)


def open_network(path: Path, device: str, options: LoadOptions) -> Network:
    """The network of a checkpoint of any task; raises as `load`."""
    from pipeline import weights
    from pipeline.inference import Network
    from pipeline.yolo import ultralytics

    weights.check(path)
    library = ultralytics(options.cache)
    import torch

    place = torch.device(devices.pick(device))
    threads = options.threads or machine.usable_cores()
    try:
        network = library.YOLO(str(path)).model
    except Exception as error:  # unpickling raises anything
        raise TrainingError(f"{path} cannot be loaded as a checkpoint: {error}") from error
    network.end2end = False  # as in the exports: the raw head and our own suppression, for every model generation
    network = network.float().fuse(verbose=False).eval().to(place, memory_format=memory_format(place.type))
    trained = (getattr(network, "args", None) or {}).get("imgsz", 640)

    def forward(batch: Batch) -> list[NDArray[np.float32]]:
        if torch.get_num_threads() != threads:  # one setting for the whole process, which another model may have changed
            torch.set_num_threads(threads)
        with torch.inference_mode(), _full_precision():
            raw = network(torch.from_numpy(batch).to(place))
        answer = raw[0] if isinstance(raw, (tuple, list)) else raw  # what follows is for the loss
        return [output.cpu().numpy() for output in (answer if isinstance(answer, (tuple, list)) else [answer])]

    return Network(
        forward,
        tuple(network.names[number] for number in sorted(network.names)),
        options.imgsz or _square(trained),
        str(place),
        options.batch,
        fixed_batch=False,
        fixed_size=False,
        task=getattr(network, "task", "unknown"),
        keypoints=_pair(getattr(network.model[-1], "kpt_shape", None)),
    )


def memory_format(device: str) -> Any:
    """Channels last where ultralytics' own predictor has them, on x86 CPUs: 1.3 to 1.9 times as fast there (yolo11n, 320 and 640
    px), and raw outputs differ by some thousandths of a pixel."""
    import torch

    is_x86 = platform.machine() in ("x86_64", "AMD64") and sys.platform != "darwin"
    faster = device == "cpu" and is_x86 and torch.backends.mkldnn.is_available()
    return torch.channels_last if faster else torch.contiguous_format


@contextmanager
def _full_precision() -> Iterator[None]:
    """fp32 on NVIDIA GPUs without TF32, which convolutions use by default and which rounds to 10 bits. One setting for the whole
    process, in which there may be training, too."""
    import torch

    places = (torch.backends.cudnn, torch.backends.cuda.matmul)
    before = [place.allow_tf32 for place in places]
    for place in places:
        place.allow_tf32 = False
    try:
        yield
    finally:
        for place, allowed in zip(places, before, strict=True):
            place.allow_tf32 = allowed


def _pair(shape: Sequence[int] | None) -> tuple[int, int] | None:
    return (shape[0], shape[1]) if shape else None


def _square(imgsz: int | list[int]) -> tuple[int, int]:
    from pipeline.inference import STRIDE

    side = -(-(max(imgsz) if isinstance(imgsz, list) else imgsz) // STRIDE) * STRIDE
    return side, side
