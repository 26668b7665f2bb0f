"""Training a detector with ultralytics, on our terms.

The images and boxes it sees are proven to be ours; it writes only below one folder; nothing reaches the terminal; an interrupted
run goes on at the last finished epoch; running out of memory or into NaN is an error, no silent change of batch size or weights.
"""

from __future__ import annotations

import errno
import logging
import math
import os
import shutil
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.errors import ParamsError, PipelineError, TrainingError
from pipeline.yolo import checkpoints, cpu, logs
from pipeline.yolo.scratch import Split

JSON = dict[str, Any]
OnBatch = Callable[..., None]
"""`on_batch(n, **info)`: n more batches are done."""

_DISK_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
_NEARLY_NOTHING_BYTES = 2**20

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "cublas_status_alloc_failed")
"""In the words of CUDA and MPS, of torch's allocator on Linux and on Windows, and of cuBLAS."""


@dataclass(frozen=True)
class Job:
    """One training run.

    Attributes:
        weights: the checkpoint to start from; loaded without unpickling foreign code.
        arguments: ultralytics' arguments by its names; those of paths, device and workers are set here.
        class_names: position = class id.
        splits: "train" and "val" from `scratch.build`.
        run: folder for checkpoints and results of the unfinished run; kept when the process dies, read when it comes again.
        log: everything ultralytics says goes to this file.
        device: "cpu", "mps" or "cuda:<n>".
        precision: "fp32", "fp16" or "bf16".
        workers: processes that load images; only used with a GPU.
        aliases: folders of this machine → what the log calls them, for it is published.
    """

    weights: Path
    arguments: JSON
    class_names: tuple[str, ...]
    splits: dict[str, Split]
    run: Path
    log: Path
    device: str
    precision: str
    workers: int
    aliases: Mapping[Path, str]


def train(job: Job, on_batch: OnBatch, warn: Callable[[str], None]) -> float:
    """Train, or go on training, until `job.run` holds the finished run: `weights/last.pt`, `weights/best.pt`, `results.csv`.

    Returns:
        The seconds that epochs took in earlier sessions, which were stopped; 0.0 when there was none.

    Raises:
        TrainingError: ultralytics would train on other data than ours, memory runs out, the loss is not a number, or it fails.
        OSError: the disk is full; names the folder.
        KeyboardInterrupt: goes through; the same job goes on later where it stopped.
    """
    epochs = job.arguments["epochs"]
    was_begun = (job.run / "weights" / "last.pt").exists()
    resume = checkpoints.find(job.run, epochs, job.arguments["patience"])
    if was_begun and resume is None:
        warn("training was stopped before, but what it left cannot be continued: it starts anew.")
    batches = math.ceil(len(job.splits["train"].paths) / job.arguments["batch"])
    before_s = resume.seconds if resume else 0.0
    if resume:
        on_batch(resume.epochs_done * batches)
        if resume.finished:
            return before_s
        warn(f"training was stopped before and goes on after epoch {resume.epochs_done} of {epochs}.")
    with logs.logged(job.log, job.aliases), _offline_amp_check(), cpu.kept_memory():
        try:
            trainer = _trainer(job, resume)
            _watch(trainer, job, before_s, on_batch, warn)
            trainer.train()
        except PipelineError:
            raise
        except Exception as error:
            logging.getLogger("ultralytics").error(traceback.format_exc())
            raise _explained(error, job) from error
    return before_s


def _explained(error: Exception, job: Job) -> TrainingError | OSError:
    text = str(error).lower()
    if _is_disk_full(error, text, job.run):
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(job.run))  # told like a full disk in any other stage
    if "shared memory" in text or "dataloader worker" in text:
        return TrainingError(
            f"A process that loads images died: {error}",
            "In a container give it more shared memory (docker run --shm-size=8g); or lower `workers`.",
        )
    if isinstance(error, MemoryError) or any(words in text for words in _OUT_OF_MEMORY):
        batch = job.arguments["batch"]
        return TrainingError(
            f"{job.device} ran out of memory with train.batch {batch} at train.imgsz {job.arguments['imgsz']}.",
            f"Set train.batch to {max(1, batch // 2)}, or train.imgsz lower.",
        )
    return TrainingError(f"Ultralytics failed: {type(error).__name__}: {error}", f"Its whole output is in {job.log}")


def _is_disk_full(error: Exception, text: str, folder: Path) -> bool:
    """Whether the disk (or what the user may use of it) is full: torch's writer of archives says so by an "unexpected pos"."""
    if isinstance(error, OSError) and error.errno in _DISK_FULL:
        return True
    is_writing = any(words in text for words in ("no space left", "pytorchstreamwriter", "inline_container", "unexpected pos"))
    return is_writing and ("no space left" in text or shutil.disk_usage(folder).free < _NEARLY_NOTHING_BYTES)


def _trainer(job: Job, resume: checkpoints.Resume | None) -> Any:
    import torch

    precisions: dict[str, bool | str] = {"fp32": False, "fp16": True, "bf16": "bf16"}
    overrides = job.arguments | {
        "task": "detect",
        "mode": "train",
        "model": str(resume.checkpoint if resume else job.weights),
        "resume": str(resume.checkpoint) if resume else False,
        "save_dir": str(job.run),
        "device": job.device,
        "workers": job.workers,
        "amp": precisions[job.precision],
        "plots": False,
        "verbose": True,
        # As soon as albumentations is installed it adds Blur, MedianBlur, ToGray and CLAHE of its own; an empty list stops it.
        "augmentations": [],
    }
    try:
        trainer = _class(job)(overrides=overrides)
    except (TypeError, ValueError, SyntaxError) as error:
        raise ParamsError(f"train.extra: ultralytics refuses a value: {error}") from error
    torch.set_num_threads(cpu.threads())  # constructing it left one core idle
    return trainer


def _class(job: Job) -> Any:
    """Ultralytics' detection trainer with our data, our checkpoints and no silent repairs.

    Its name must not contain "Trainer", by which ultralytics recognises what to report to its platform.
    """
    from torch import channels_last
    from ultralytics.models.yolo.detect import DetectionTrainer

    class Training(DetectionTrainer):  # type: ignore[misc]
        def get_dataset(self) -> JSON:
            # Its own reader of data.yaml resolves paths against its settings, and downloads a font for names that are not ASCII.
            folders = {name: str(split.folder) for name, split in job.splits.items()}
            return {**folders, "names": dict(enumerate(job.class_names)), "nc": len(job.class_names), "channels": 3}

        def setup_model(self) -> Any:
            checkpoint = super().setup_model()
            if job.device == "cpu" and cpu.prefers_channels_last():
                self.model.to(memory_format=channels_last)
            return checkpoint

        def save_model(self) -> bool:
            last, best = job.run / "weights" / "last.pt", job.run / "weights" / "best.pt"
            self.last, self.best = last.with_name("last.part"), best.with_name("best.part")
            try:
                super().save_model()
                checkpoints.publish(self.last, last)
                if self.best.exists():
                    self.best.replace(best)
            finally:
                for part in (self.last, self.best):  # of a disk that was full, the rest is of use to somebody
                    part.unlink(missing_ok=True)
                self.last, self.best = last, best
            return True

        def _handle_nan_recovery(self, epoch: int) -> bool:
            _require_finite(self)
            return False

        def final_eval(self) -> None:
            """Nothing: the best epoch's metrics are in results.csv, and the evaluate stage measures with our own evaluator."""

    return Training


def _watch(trainer: Any, job: Job, before_s: float, on_batch: OnBatch, warn: Callable[[str], None]) -> None:
    def before(trainer: Any) -> None:
        _require_same_data(trainer, job.splits)
        if job.arguments["cache"] and not trainer.train_loader.dataset.cache:
            warn(f"train.cache {job.arguments['cache']}: the images do not fit; they are decoded again in every epoch.")

    def start(trainer: Any) -> None:
        trainer.train_time_start = time.time() - before_s

    def epoch_start(trainer: Any) -> None:
        trainer._oom_retries = 3  # it takes its three silent halvings of the batch size for used up

    def batch_end(trainer: Any) -> None:
        _require_finite(trainer)
        info = {"epoch": f"{trainer.epoch + 1}/{trainer.epochs}", "loss": float(sum(trainer.tloss.values()))}
        map50 = trainer.metrics.get("metrics/mAP50(B)") if trainer.metrics else None
        on_batch(1, **info, **({"mAP50": map50} if map50 else {}))

    trainer.add_callback("on_pretrain_routine_end", before)
    trainer.add_callback("on_train_start", start)
    trainer.add_callback("on_train_epoch_start", epoch_start)
    trainer.add_callback("on_train_batch_end", batch_end)


def _require_finite(trainer: Any) -> None:
    bad = [name for name, value in (trainer.tloss or {}).items() if not math.isfinite(float(value))]
    fitness = trainer.fitness
    if bad or (fitness is not None and not math.isfinite(float(fitness))):
        raise TrainingError(
            f"Training diverged in epoch {trainer.epoch + 1}: {', '.join(bad) or 'the fitness'} is not a finite number.",
            "Lower train.lr0 (with an explicit train.optimizer), or set train.precision to fp32.",
        )


def _require_same_data(trainer: Any, splits: dict[str, Split]) -> None:
    problems = []
    for name, loader in (("train", trainer.train_loader), ("val", trainer.test_loader)):
        split = splits[name]
        seen = {Path(label["im_file"]).stem: len(label["cls"]) for label in loader.dataset.labels}
        problems += [f"{path} is left out" for stem, path in split.paths.items() if stem not in seen]
        problems += [
            f"{split.paths[stem]}: {seen[stem]} of {count} boxes"
            for stem, count in split.boxes.items()
            if seen.get(stem, count) != count
        ]
    if problems:
        raise TrainingError(
            "Ultralytics would train on other images or boxes than the data set holds",
            "train.log says why; if the data are right, this is a case that the pipeline does not know yet.",
            problems,
        )


@contextmanager
def _offline_amp_check() -> Iterator[None]:
    """Check mixed precision on the model at hand: ultralytics would download another model for that."""
    import torch
    from ultralytics.engine import trainer as engine

    def check(model: Any) -> bool:
        device = next(model.parameters()).device
        if device.type != "cuda":
            return False
        image = torch.rand(2, 3, 256, 256, generator=torch.Generator().manual_seed(0)).to(device)
        training = model.training
        with torch.no_grad(), torch.autocast(device.type):
            output = model.eval()(image)[0]
        model.train(training)
        if not bool(torch.isfinite(output).all()):
            # Turing cards without tensor cores (GTX 16xx) are known for it.
            raise TrainingError("This GPU computes NaN in half precision.", "Set train.precision to fp32.")
        return True

    original, engine.check_amp = engine.check_amp, check
    try:
        yield
    finally:
        engine.check_amp = original
