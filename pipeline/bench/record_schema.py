"""The JSON Schema (2020-12) of a benchmark record, schema 1.

Every key is required, so that a misspelled one is a missing one; what a machine does not tell is null. Further keys may come with
later releases: readers ignore them. A change that an old reader would misread raises `SCHEMA_NUMBER`.
"""

from __future__ import annotations

from typing import Any

from pipeline.bench.settings import SCENARIOS

JSON = dict[str, Any]

SCHEMA_NUMBER = 1
KIND = "yolo-pipeline benchmark"
STATUSES = ("valid", "invalid", "skipped", "failed")
TASKS = ("detect", "segment", "classify", "pose")


def _object(description: str = "", /, **properties: JSON) -> JSON:
    described: JSON = {"description": description} if description else {}
    return described | {"type": "object", "required": list(properties), "properties": properties}


def _map(of: JSON, description: str) -> JSON:
    return {"description": description, "type": "object", "additionalProperties": of}


def _list(of: JSON, description: str = "", least: int = 0, most: int | None = None) -> JSON:
    described: JSON = {"description": description} if description else {}
    limits: JSON = ({"minItems": least} if least else {}) | ({} if most is None else {"maxItems": most})
    return described | {"type": "array", "items": of} | limits


def _text(description: str = "") -> JSON:
    return {"type": "string"} | ({"description": description} if description else {})


def _number(description: str = "", /, **limits: float) -> JSON:
    return {"type": "number"} | ({"description": description} if description else {}) | limits


def _whole(description: str = "", /, **limits: int) -> JSON:
    return {"type": "integer"} | ({"description": description} if description else {}) | limits


def _boolean(description: str = "") -> JSON:
    return {"type": "boolean"} | ({"description": description} if description else {})


def _or_null(schema: JSON) -> JSON:
    return schema | {"type": [schema["type"], "null"]}


def _range(description: str) -> JSON:
    return _or_null(_list(_number(), description, 2, 2))


_FIGURES = _object(
    "One phase, summarised from its samples. Percentiles are of all of them, but for the median: see p50_ms.",
    n=_whole("samples", minimum=1),
    min_ms=_number(),
    mean_ms=_number(),
    sd_ms=_number("with n - 1 in the denominator", minimum=0),
    p50_ms=_number(
        "of the median image: of the samples of each image (batch) the median, and of these the median; sample i of a round "
        "is of input i modulo their number. Of a stream, which drops frames, the median of all samples"
    ),
    p90_ms=_number(),
    p95_ms=_number(),
    p99_ms=_number(),
    max_ms=_number(),
    p50_ci95_ms=_range("95 % interval of p50_ms: whole rounds are drawn with replacement; null for a single sample"),
)

_WARM_UP = _object(
    "Before measuring, of all processes of the cell together; null where it was not reached.",
    samples=_whole(minimum=1),
    seconds=_number(),
    stable=_boolean("in each of them the medians of the last two windows differed by less than the tolerance of the method"),
)

_STREAM = _object(
    "A camera with a queue of one: a frame that waits gives way to the next one to arrive. Null in other scenarios.",
    fps=_number("frames that the camera gave a second", exclusiveMinimum=0),
    frames=_whole("that the camera gave", minimum=1),
    dropped=_whole("that gave way", minimum=0),
    age_p50_ms=_number("from the arrival of a frame to its result"),
    age_p99_ms=_number(),
)

_WATCH = _object(
    "What the machine did meanwhile; null where it does not tell.",
    background_load=_or_null(_number("share of all processor time that others took, 0 to 1", minimum=0)),
    slowdown=_or_null(
        _number(
            "of the processors of a virtual machine, in the minutes in which the cell's group was measured: 0.1 where the same "
            "arithmetic took 10 % longer on average than at its best; null on other machines and devices",
            minimum=0,
        )
    ),
    cpu_mhz=_range("lowest and highest reading, of the fastest core in use"),
    temperature_c=_range("lowest and highest reading of the processor"),
    throttled=_or_null(_boolean("slowed down for heat or power")),
    gpu_mhz=_range("lowest and highest reading"),
    gpu_temperature_c=_range("lowest and highest reading"),
    energy_of=_list(_text(), "what energy_j_per_image adds up: cpu package, gpu"),
)

_CELL = _object(
    "One model in one setting.",
    task={"type": "string", "enum": list(TASKS)},
    model=_text("key of models; one that is skipped need not stand there"),
    runtime=_text(),
    precision=_text(),
    device=_text("cpu, cuda:0, mps, gpu, npu"),
    imgsz=_list(_whole(minimum=1), "height and width of the input, pixels", 2, 2),
    batch=_whole("images per call", minimum=1),
    threads=_or_null(_whole("that the runtime was told to use; null where it chose", minimum=1)),
    scenario={"type": "string", "enum": list(SCENARIOS)},
    status={"type": "string", "enum": list(STATUSES), "description": "valid: all limits of the method were kept"},
    reasons=_list(_text(), "why it is not valid"),
    load_ms=_or_null(_number("to load the model, the median of its processes", minimum=0)),
    first_ms=_or_null(_number("the very first call of a process, the median")),
    warm_up=_or_null(_WARM_UP),
    phases=_map(
        _FIGURES, "decode, preprocess, inference, postprocess, end_to_end; of a stream also age; empty where nothing was measured"
    ),
    images_per_s=_or_null(_number("all images over all time, stalls included; of a stream, waiting too", minimum=0)),
    stream=_or_null(_STREAM),
    memory_peak_mib=_or_null(
        _number(
            "most resident memory of the process: in the rounds on Linux, since its start elsewhere, loading included", minimum=0
        )
    ),
    gpu_memory_peak_mib=_or_null(
        _number(
            "of the process; where the driver does not list it (containers), what came by loading and warming up",
            minimum=0,
        )
    ),
    energy_j_per_image=_or_null(_number(minimum=0)),
    drift=_or_null(_number("relative change of the medians of the rounds from the first to the last; positive: slower")),
    watch=_or_null(_WATCH),
    samples=_map(_text(), "per phase: base64 of zlib of little-endian int64 nanoseconds, in the order of measuring"),
    rounds=_list(_whole(minimum=0), "samples of each round, in order"),
)

_MODEL = _object(
    "",
    name=_text(),
    task={"type": "string", "enum": list(TASKS)},
    runtime=_text(),
    precision=_text(),
    file_hash=_text("BLAKE2b-128 of the file that was run"),
    weights_hash=_text('BLAKE2b-128 of the weights it was exported from, "" where unknown'),
    weights={
        "type": "string",
        "enum": ["official", "fine-tuned", "transferred", "random"],
        "description": "latency does not depend on them, accuracy does",
    },
    parameters=_or_null(_whole(minimum=0)),
    gflops=_or_null(_number("of one image of 640 x 640 px (a classifier: 224 x 224)", minimum=0)),
    bytes=_whole("size of the file", minimum=0),
    map50_95=_or_null(_number("of this very artifact", minimum=0)),
    map50=_or_null(_number(minimum=0)),
    measured_on=_text("which data the mAP was measured on"),
)

_GPU = _object(
    "",
    name=_text(),
    memory_mib=_or_null(_number()),
    driver=_text(),
    cuda=_text("newest that the driver supports"),
    compute_capability=_text(),
    power_limit_w=_or_null(_number()),
)

_MACHINE = _object(
    "No host name, user name, path or serial number.",
    model=_text("of the laptop, board or virtual machine"),
    os=_object("", name=_text(), release=_text(), architecture=_text()),
    cpu=_object(
        "",
        name=_text(),
        sockets=_or_null(_whole()),
        cores=_or_null(_whole("physical")),
        threads=_or_null(_whole("logical processors")),
        usable_threads=_or_null(_whole("that the process may run on")),
        max_mhz=_or_null(_number()),
        caches_kib=_map(_number(), "L1d, L1i, L2, L3: of one core, or of those that share it"),
        flags=_list(_text(), "instructions that inference uses"),
        governor=_text(),
        turbo=_or_null(_boolean()),
    ),
    memory_gib=_or_null(_number()),
    limits=_object("Of the container.", cpus=_or_null(_number()), memory_gib=_or_null(_number())),
    gpus=_list(_GPU),
    power=_object("", plan=_text(), on_battery=_or_null(_boolean())),
    virtual=_object("", vm=_text(), container=_text()),
)

_METHOD = _object(
    "How it was measured; records are compared where this is alike.",
    min_seconds=_number("per cell, over all rounds", minimum=0),
    min_samples=_whole("per cell, over all rounds", minimum=0),
    rounds=_whole("in which the cells take turns", minimum=1),
    max_rounds=_whole("where a cell of the group is less certain than max_uncertainty after that", minimum=1),
    max_seconds=_number("per cell; then it ends with what it has", minimum=0),
    cool_down_s=_number("pause after each round of all cells", minimum=0),
    together=_whole("cells that take turns; others come after them", minimum=1),
    warm_up=_object(
        "Until the medians of two windows in a row differ by less than the tolerance.",
        window_samples=_whole(minimum=1),
        window_seconds=_number(minimum=0),
        tolerance=_number(minimum=0),
        max_seconds=_number(minimum=0),
    ),
    max_uncertainty=_number("how far the 95 % interval may reach from the figure, as a share of it", minimum=0),
    max_drift=_number(minimum=0),
    max_background_load=_number(minimum=0),
    max_slowdown=_number(minimum=0),
    seed=_whole(),
    scenarios=_list({"type": "string", "enum": list(SCENARIOS)}),
    overhead_ns=_number("of the timer, per sample", minimum=0),
    image_library={
        "type": "string",
        "enum": ["opencv", "numpy"],
        "description": "what decodes and scales images; with numpy, decoding is reading an array",
    },
)

_INPUT = _object(
    "", name=_text(), hash=_text("BLAKE2b-128"), width=_whole(minimum=1), height=_whole(minimum=1), bytes=_whole(minimum=0)
)

SCHEMA: JSON = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "yolo-pipeline benchmark record",
    **_object(
        "Written by `python -m pipeline benchmark`. Times are milliseconds, samples nanoseconds of a monotonic clock.",
        schema={"type": "integer", "const": SCHEMA_NUMBER},
        kind={"type": "string", "const": KIND},
        id=_text("12 random hexadecimal digits"),
        created_at=_text("UTC, as 2026-11-22T06:00:00Z"),
        tool=_text("name and version of what measured"),
        label=_text("what the user calls this machine or run"),
        partial=_boolean("cells are missing that were asked for"),
        partial_reason=_text(),
        machine=_MACHINE,
        software=_object(
            "",
            python=_text(),
            packages=_map(_text(), "version of each distribution that computes or decodes"),
            environment=_map(_text(), "variables that change speed"),
        ),
        method=_METHOD,
        inputs=_list(_INPUT, "the images, in the order in which they take turns"),
        models=_map(_MODEL, "by a name that cells use, as yolo11n/onnx/fp32/640x640/1 (size, batch)"),
        cells=_list(_CELL),
    ),
}
