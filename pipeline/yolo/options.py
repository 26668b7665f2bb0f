"""The section `train` of params.yaml: ultralytics' common arguments by name, with their limits, and any other in `extra`.

Models only; ultralytics is not imported.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from pipeline.errors import ParamsError
from pipeline.stage import JSON, StageParams
from pipeline.wording import listed

ARGUMENTS_URL = "https://docs.ultralytics.com/usage/cfg/#train-settings"

# What `extra` may not hold: the pipeline sets it, or it would make ultralytics train on other data than the data set.
_OURS = frozenset(("task", "mode", "cfg", "data", "split", "classes", "single_cls", "fraction", "time", "val"))
_OURS |= {"project", "name", "exist_ok", "save", "save_dir", "save_period", "resume", "plots", "verbose", "profile"}
_OURS |= {"device", "workers", "amp", "compile", "quantize", "distill_model", "augmentations"}


class TrainParams(StageParams):
    model: str = Field("yolo11n.pt", description="Weights to start from: an official name, or a .pt file relative to params.yaml")
    epochs: int = Field(100, ge=1, le=10_000, description="Passes over the training images")
    imgsz: int = Field(640, ge=32, le=4096, multiple_of=32, description="Longer side of the input in pixels")
    batch: int = Field(16, ge=1, le=4096, description="Images a step")
    nbs: int = Field(64, ge=1, le=4096, description="Images an optimizer step stands for: smaller batches are summed up to it")
    patience: int = Field(100, ge=0, description="Stop after so many epochs without improvement on val; 0: never")
    optimizer: Literal["auto", "SGD", "MuSGD", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "RMSProp"] = Field(
        "auto", description="auto: chosen with its learning rate by the number of steps and classes"
    )
    lr0: float | None = Field(
        None, gt=0, le=1, description="Initial learning rate; needed unless optimizer is auto, which sets it"
    )
    lrf: float = Field(0.01, gt=0, le=1, description="Final learning rate as a share of lr0")
    momentum: float = Field(0.937, ge=0, lt=1, description="Momentum of SGD, beta1 of Adam; auto uses 0.9")
    weight_decay: float = Field(0.0005, ge=0, le=1, description="L2 regularisation")
    warmup_epochs: float = Field(3.0, ge=0, description="Epochs over which the learning rate rises")
    cos_lr: bool = Field(False, description="Let the learning rate fall along a cosine instead of a line")
    freeze: int = Field(0, ge=0, le=50, description="Keep the first so many layers as they are; 10 is the backbone of yolo11")
    mosaic: float = Field(1.0, ge=0, le=1, description="Probability that four images are combined into one")
    close_mosaic: int = Field(10, ge=0, description="Epochs at the end without mosaic; 0: mosaic to the end")
    mixup: float = Field(0.0, ge=0, le=1, description="Probability that two images are blended")
    fliplr: float = Field(0.5, ge=0, le=1, description="Probability of a left-right flip; 0 for text, digits, arrows")
    flipud: float = Field(0.0, ge=0, le=1, description="Probability of an upside-down flip")
    hsv_h: float = Field(0.015, ge=0, le=1, description="Largest change of hue, as a share of the circle")
    hsv_s: float = Field(0.7, ge=0, le=1, description="Largest relative change of saturation")
    hsv_v: float = Field(0.4, ge=0, le=1, description="Largest relative change of brightness")
    degrees: float = Field(0.0, ge=0, le=180, description="Largest rotation in degrees, either way")
    translate: float = Field(0.1, ge=0, le=1, description="Largest shift, as a share of the image")
    scale: float = Field(0.5, ge=0, lt=1, description="Largest relative change of size, either way")
    shear: float = Field(0.0, ge=0, le=90, description="Largest shear in degrees, either way")
    perspective: float = Field(0.0, ge=0, le=0.01, description="Strength of a perspective distortion")
    cache: Literal["ram", "disk", "off"] = Field(
        "ram", description="Where decoded images are kept; ram is left out if they do not fit"
    )
    precision: Literal["auto", "fp32", "fp16", "bf16"] = Field("auto", description="auto: fp16 on a CUDA GPU, else fp32")
    deterministic: bool = Field(True, description="Prefer algorithms that give the same result every time")
    seed: int = Field(0, ge=0, lt=2**31, description="Seed of the shuffling, the augmentation and new layers")
    extra: dict[str, Any] = Field({}, description="Any other argument of ultralytics, by its name")

    @field_validator("extra")
    @classmethod
    def _known(cls, extra: dict[str, Any]) -> dict[str, Any]:
        known = _ultralytics_defaults() if extra else {}
        for key in extra:
            if key in cls.model_fields:
                raise ParamsError(f"train.extra.{key}: set train.{key} instead")
            if key in _OURS:
                raise ParamsError(f"train.extra.{key}: cannot be set, it is the pipeline's own business")
            if known and key not in known:
                raise ParamsError(f"train.extra.{key}: ultralytics has no such argument", _nearest(key, known))
        if not isinstance(extra.get("pretrained", True), bool):
            raise ParamsError("train.extra.pretrained: only true or false", "The weights to start from are train.model.")
        return extra

    @model_validator(mode="after")
    def _learning_rate_has_effect(self) -> TrainParams:
        if self.optimizer == "auto" and self.lr0 is not None:
            raise ParamsError(
                "train.lr0: has no effect while train.optimizer is auto", "Name an optimizer, such as AdamW, or remove lr0."
            )
        if self.optimizer != "auto" and self.lr0 is None:
            raise ParamsError(
                f"train.lr0: is needed with train.optimizer {self.optimizer}", "Usual: 0.01 for SGD, 0.001 for Adam and AdamW."
            )
        return self


def _nearest(key: str, known: Iterable[str]) -> str:
    """The arguments that a misspelled one may mean, where they may be set; ultralytics has some hundred, too many to list."""
    places = {name: f"train.{name}" if name in TrainParams.model_fields else f"train.extra.{name}" for name in {*known} - _OURS}
    near = [places[name] for name in get_close_matches(key, sorted(places), n=3, cutoff=0.6)]
    return f"Did you mean {listed(near, 'or')}?" if near else f"{ARGUMENTS_URL} lists its arguments for training."


def _ultralytics_defaults() -> JSON:
    """Its arguments and their defaults, read from its default.yaml without importing it; empty when it is not installed."""
    from importlib.util import find_spec

    import yaml

    spec = find_spec("ultralytics")
    if spec is None or not spec.submodule_search_locations:
        return {}
    path = Path(next(iter(spec.submodule_search_locations))) / "cfg" / "default.yaml"
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))
