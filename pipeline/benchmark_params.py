"""The section `benchmark` of params.yaml: what `benchmark` measures unless the command line says otherwise."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from pipeline.stage import StageParams

Side = Annotated[int, Field(ge=32, le=8192, multiple_of=32)]
Scenario = Literal["single-stream", "offline", "stream"]


class Benchmark(StageParams):
    """A grid: every model in every runtime, precision, size …, as far as there is such a thing."""

    model: str = Field(
        default="", description="export@latest, train@v2, a model file, or an official name; empty: export@latest, else yolo11n"
    )
    tasks: list[Literal["detect", "segment", "classify", "pose"]] = Field(
        default_factory=list, description="of official models: detect, segment, classify, pose; empty: the model's own"
    )
    runtimes: list[str] = Field(
        default_factory=list, description="pytorch, onnx, openvino, litert, engine; empty: all that are here"
    )
    devices: list[str] = Field(
        default=["auto"], min_length=1, description="cpu, cuda:0, mps, gpu, npu; auto: the CPU and every GPU there is"
    )
    precisions: list[Literal["fp32", "fp16", "int8"]] = Field(
        default_factory=list, description="fp32, fp16, int8; empty: those of the exported files, else fp32"
    )
    imgsz: list[Side | tuple[Side, Side]] = Field(
        default_factory=list, description="network inputs in pixels, a number or [height, width]; empty: the model's own"
    )
    batch: list[Annotated[int, Field(ge=1, le=1024)]] = Field(
        default=[1], min_length=1, description="images of one call, for offline"
    )
    threads: list[Annotated[int, Field(ge=1, le=1024)] | Literal["all"]] = Field(
        default=["all"], min_length=1, description="of the CPU; all: every core that may be used"
    )
    scenarios: list[Scenario] = Field(
        default_factory=list,
        description="single-stream (latency), offline (throughput), stream (a camera); empty: single-stream, and offline "
        "where a batch is given",
    )
    images: list[str] = Field(
        default_factory=list, description="files or folders of your own; empty: four photos that come with it"
    )
    min_seconds: float = Field(default=3.0, gt=0, le=3600, description="of each cell, over all rounds")
    min_samples: int = Field(default=100, ge=2, le=1_000_000, description="of each cell, over all rounds")
    max_seconds: float = Field(
        default=60.0, gt=0, le=36_000, description="of each cell; one that has too few samples by then is invalid"
    )
    rounds: int = Field(default=5, ge=2, le=1000, description="in which the cells take turns")
    max_rounds: int = Field(
        default=10, ge=2, le=1000, description="where a cell of the group is less certain than max_uncertainty after `rounds`"
    )
    cool_down_s: float = Field(default=0.5, ge=0, le=600, description="pause after each round of all cells")
    max_uncertainty: float = Field(
        default=0.1,
        gt=0,
        description="how far the 95 % interval of a cell's time may reach from it, as a share; beyond it is invalid",
    )
    max_drift: float = Field(
        default=0.05, gt=0, description="of a cell's medians from the first round to the last; beyond it is invalid"
    )
    max_background_load: float = Field(
        default=0.25, gt=0, le=1, description="share of the processors that other programs may take; beyond it a cell is invalid"
    )
    max_slowdown: float = Field(
        default=0.15,
        gt=0,
        description="of a virtual machine's processors, on average, by what else runs on its host; beyond it a cell is invalid",
    )
    stream_fps: float = Field(default=30.0, gt=0, le=1000, description="frames a second of the camera in the scenario stream")
    together: int = Field(default=12, ge=1, le=1000, description="cells that take turns; the others come after them")
    label: str = Field(default="", max_length=60, description="what the record calls this machine or run")

    @field_validator("imgsz", mode="before")
    @classmethod
    def _lists(cls, sizes: object) -> object:
        """YAML has lists, and a pair is a tuple here."""
        return [tuple(size) if isinstance(size, list) else size for size in sizes] if isinstance(sizes, list) else sizes
