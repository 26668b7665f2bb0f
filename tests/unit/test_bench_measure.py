"""Cells in processes of their own: what is measured, in which order, and what becomes of a cell that fails."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.bench import record
from pipeline.bench.grid import Axes, cells
from pipeline.bench.measure import INTERRUPTED, Interrupted, Planned, measure, steps
from pipeline.bench.record_schema import SCHEMA
from pipeline.bench.settings import Method, quick
from pipeline.bench.worker import gpu_of, is_out_of_memory
from pipeline.errors import ExportError
from tests.bench_loaders import FAST, NAMES, planned, setting

pytestmark = pytest.mark.slow


class Steps:
    """Counts what `measure` advances, and keeps whose turn it was."""

    def __init__(self) -> None:
        self.done = 0
        self.turns: list[str] = []

    def __call__(self, n: int = 1, **info: object) -> None:
        self.done += n
        self.turns += [str(value) for value in info.values()]


def measured(*plans: Planned, method: Method = FAST, steps_: Steps | None = None) -> list[dict[str, Any]]:
    groups = measure(plans, method, steps_ or Steps(), sleep=lambda seconds: None)
    return [cell for group in groups for cell in group]


def problem(cell: dict[str, Any]) -> str:
    return record.mismatch(cell, SCHEMA["properties"]["cells"]["items"])


def test_cells_take_turns_and_every_cell_has_all_rounds() -> None:
    told = Steps()
    plans = [planned(), planned(runtime="openvino"), planned(scenario="offline", batch=4)]
    found = measured(*plans, steps_=told)
    assert [cell["runtime"] for cell in found] == ["onnx", "openvino", "onnx"]
    for cell in found:
        assert problem(cell) == ""
        assert cell["rounds"] == [3, 3, 3]  # whole passes of three inputs
        assert cell["phases"].keys() == {"inference", "postprocess", "end_to_end"}
        assert (cell["status"], cell["load_ms"]) == ("valid", 12.5)
    assert told.done == steps(3, FAST)
    # Loading in order; then each round in an order of its own, the second one the first one backwards.
    names = [str(plan.setting) for plan in plans]
    assert told.turns[:3] == names
    assert sorted(told.turns[3:6]) == sorted(names)
    assert told.turns[6:9] == told.turns[3:6][::-1]


def test_throughput_counts_every_image_of_a_batch() -> None:
    one, four = measured(planned(scenario="offline"), planned(scenario="offline", batch=4))
    for cell, images in ((one, 1), (four, 4)):
        whole = record.samples_of(cell, "end_to_end", images).ns
        assert cell["images_per_s"] == pytest.approx(images * len(whole) * 1e9 / whole.sum())


def test_a_stream_tells_its_frames_and_the_age_of_results() -> None:
    [cell] = measured(planned(scenario="stream"))
    assert problem(cell) == ""
    assert cell["stream"]["frames"] == cell["stream"]["dropped"] + sum(cell["rounds"])
    assert cell["phases"]["age"]["p99_ms"] == cell["stream"]["age_p99_ms"] > 0


def test_images_count_and_not_batches() -> None:
    [cell] = measured(planned(scenario="offline", batch=4), method=replace(FAST, min_samples=36))
    assert cell["status"] == "valid"
    assert cell["rounds"] == [3, 3, 3]  # 3 batches of 4 a round


def test_frames_count_and_not_those_that_were_processed() -> None:
    """A model that is too slow for its camera drops frames, and that is a result."""
    [cell] = measured(planned("slow", scenario="stream"), method=replace(FAST, min_samples=60))
    assert cell["stream"]["dropped"] > 20
    assert cell["stream"]["frames"] == 60
    assert cell["status"] == "valid"
    assert cell["images_per_s"] < 500  # of the camera's frames, and with the time between them


def test_too_few_samples_make_a_cell_invalid() -> None:
    [cell] = measured(planned(), method=replace(FAST, min_samples=1000, max_seconds=0.0))
    assert cell["status"] == "invalid"
    assert cell["reasons"][0].startswith("too few samples:")
    assert problem(cell) == ""


@pytest.mark.parametrize(
    ("trouble", "reason"),
    [
        ("load", "ValueError: no such model"),
        ("third image", f"{NAMES[2]}: RuntimeError: unexpected shape"),
        ("third round", f"{NAMES[2]}: RuntimeError: lost the device"),
        ("death", "the process died with exit code 7; its last words: Illegal instruction"),
    ],
)
def test_a_cell_that_fails_says_why_and_leaves_the_others_alone(trouble: str, reason: str) -> None:
    told = Steps()
    bad, good = measured(planned(trouble), planned(runtime="openvino"), steps_=told)
    assert (bad["status"], bad["reasons"]) == ("failed", [reason])
    assert problem(bad) == problem(good) == ""
    assert good["status"] == "valid"
    assert told.done == steps(2, FAST)


@pytest.mark.parametrize(
    "said",
    [
        "CUDA out of memory. Tried to allocate 20.00 MiB",
        "DefaultCPUAllocator: can't allocate memory: you tried to allocate 8589934592 bytes",
        "bfc_arena.cc:376 Failed to allocate memory for requested buffer of size 1048576",
        "bfc_arena.cc: Available memory of 0 is smaller than requested bytes of 1048576",
        "[GPU] Exceeded max size of memory object allocation",
        "[Errno 12] Cannot allocate memory",
        "Error Code 2: OutOfMemory (Requested size was 9 bytes)",
        "std::bad_alloc",
    ],
)
def test_libraries_say_in_many_ways_that_memory_is_gone(said: str) -> None:
    assert is_out_of_memory(f"RuntimeError: {said}")


def test_a_photo_of_a_room_is_not_out_of_memory() -> None:
    assert not is_out_of_memory("ROOM_1.jpg: RuntimeError: unexpected shape")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows knows no SIGKILL")
def test_a_process_that_is_killed_counts_as_out_of_memory() -> None:
    killed, smaller, smallest = measured(planned("killed", batch=4))
    assert "killed" in killed["reasons"][0]
    assert (smaller["batch"], smallest["batch"]) == (2, 1)


@pytest.mark.parametrize("trouble", ["memory above 2", "no memory, says the log"])
def test_out_of_memory_tries_half_the_batch_and_records_both(trouble: str) -> None:
    found = measured(planned(trouble, scenario="offline", batch=8), planned(scenario="offline", batch=1))
    tried = {cell["batch"]: cell for cell in found if cell["batch"] > 1}
    assert tried.keys() == {8, 4, 2}
    assert tried[8]["reasons"][1] == "out of memory at batch 8: batch 4 is tried instead"
    assert tried[2]["status"] == ("valid" if trouble == "memory above 2" else "failed")
    assert all(problem(cell) == "" for cell in found)


def test_a_cell_without_memory_beside_others_has_it_to_itself(tmp_path: Path) -> None:
    told = Steps()
    plans = [planned(), planned(f"memory once {tmp_path / 'seen'}", runtime="openvino", batch=4), planned(runtime="litert")]
    groups = list(measure(plans, FAST, told, sleep=lambda seconds: None))
    assert [[cell["runtime"] for cell in cells] for cells in groups] == [["onnx", "litert"], ["openvino"]]
    assert {(cell["status"], cell["batch"]) for cell in groups[1]} == {("valid", 4)}
    assert told.done == steps(3, FAST)


@pytest.mark.parametrize(("left_mib", "groups"), [(100.0, [1, 1, 1]), (9000.0, [3]), (None, [3])])
def test_models_come_later_where_memory_is_short(monkeypatch: pytest.MonkeyPatch, left_mib: float, groups: list[int]) -> None:
    monkeypatch.setattr("pipeline.bench.measure.memory_left_mib", lambda: left_mib)
    plans = [planned(runtime=name) for name in ("onnx", "openvino", "litert")]
    assert [len(cells) for cells in measure(plans, FAST, Steps(), sleep=lambda seconds: None)] == groups


def test_a_smaller_batch_that_is_in_the_grid_is_not_measured_twice() -> None:
    found = measured(planned("memory above 2", batch=4), planned("memory above 2", batch=2), method=replace(FAST, together=1))
    assert [cell["batch"] for cell in found] == [4, 2]


def test_a_worker_that_hangs_ends_its_cell_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.bench.worker._MARGIN_S", 0.2)
    hangs, good = measured(planned("hangs"), planned(runtime="openvino"), method=replace(FAST, max_seconds=1.0))
    assert hangs["reasons"] == ["it hangs: no answer for 1 s"]
    assert good["status"] == "valid"


def test_what_was_measured_before_an_interruption_is_told() -> None:
    plans = [planned(), planned(runtime="openvino")]
    done = 0

    def interrupt(n: int = 1, **_: object) -> None:
        nonlocal done
        done += n
        if done == 2 + 2 + 1:  # in the second round
            done += 1
            raise KeyboardInterrupt

    with pytest.raises(Interrupted) as caught:
        list(measure(plans, FAST, interrupt))
    assert [sum(cell["rounds"]) for cell in caught.value.cells] in ([6, 3], [3, 6])
    for cell in caught.value.cells:
        assert (cell["status"], cell["reasons"][0]) == ("invalid", INTERRUPTED)
        assert problem(cell) == ""


def test_a_smaller_batch_that_cannot_be_made_says_so() -> None:
    def unmade(batch: int) -> Planned:
        raise ExportError(f"no converter for {batch}")

    [cell] = measured(replace(planned("memory above 2", batch=4), with_batch=unmade))
    assert cell["reasons"][1:] == ["out of memory at batch 4: batch 2 is tried instead", "batch 2: no converter for 2"]


def test_no_worker_is_left_when_the_user_interrupts() -> None:
    import multiprocessing

    def interrupt(n: int = 1, **_: object) -> None:
        if n:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(measure([planned(), planned(runtime="openvino")], FAST, interrupt))
    assert not multiprocessing.active_children()


def test_the_grid_crosses_everything_but_what_says_the_same_twice() -> None:
    axes = Axes(
        ["onnx", "engine"], ["fp32"], ["cpu", "cuda:0"], batches=[1, 8], threads=[1, 2], scenarios=["single-stream", "offline"]
    )
    found = list(cells("yolo11n", "detect", (640, 640), axes))
    assert len(found) == len(set(found))
    on_gpu = [cell for cell in found if cell.device == "cuda:0"]
    assert {cell.threads for cell in on_gpu} == {None}  # threads of the CPU say nothing about it
    assert {(cell.scenario, cell.batch) for cell in on_gpu} == {("single-stream", 1), ("offline", 1), ("offline", 8)}
    assert [cell.runtime for cell in found[:2]] == ["onnx", "engine"]  # side by side, so that they take turns
    of_onnx = {cell.model for cell in found if cell.runtime == "onnx"}
    assert of_onnx == {"yolo11n/onnx/fp32/640x640/1", "yolo11n/onnx/fp32/640x640/8"}  # a file each
    sizes = Axes(["onnx"], imgsz=[(320, 320), (640, 640)])
    assert [cell.imgsz for cell in cells("yolo11n-cls", "classify", (224, 224), sizes)] == [(320, 320), (640, 640)]
    assert [cell.imgsz for cell in cells("yolo11n-cls", "classify", (224, 224), Axes(["onnx"]))] == [(224, 224)]
    # Of another size it is another file, and finds something else.
    assert [cell.model for cell in cells("yolo11n", "detect", (320, 320), sizes)] == [
        "yolo11n/onnx/fp32/320x320/1",
        "yolo11n/onnx/fp32/640x640/1",
    ]


def test_settings_read_as_a_person_says_them() -> None:
    assert str(setting()) == "detect, onnx fp32, cpu, 1 thread, 64 px"
    gpu = setting(device="cuda:0", threads=None, imgsz=(64, 96), batch=8, scenario="offline")
    assert str(gpu) == "detect, onnx fp32, cuda:0, 96x64 px, batch 8, offline"


def test_the_quick_method_is_the_same_with_less_of_it() -> None:
    full = Method(stream_fps=60.0, seed=3)
    less = quick(full)
    assert less.min_seconds < full.min_seconds
    assert less.min_samples < full.min_samples
    assert (less.max_drift, less.stream_fps, less.seed) == (full.max_drift, 60.0, 3)
    assert quick(replace(full, rounds=2, min_seconds=0.1)).rounds == 2  # never more than was asked for
    assert quick(less) == less


def test_sensors_are_those_of_the_gpu_that_cuda_means(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert (gpu_of("cpu"), gpu_of("cuda"), gpu_of("cuda:1")) == (None, 0, 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-8c2a")
    assert (gpu_of("cuda:0"), gpu_of("cuda:1")) == (3, "GPU-8c2a")
