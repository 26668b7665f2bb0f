"""Cells in processes of their own: what is measured, in which order, and what becomes of a cell that fails."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.bench import record, worker
from pipeline.bench.grid import Axes, cells
from pipeline.bench.looks import Looks
from pipeline.bench.measure import INTERRUPTED, Interrupted, Planned, measure, steps
from pipeline.bench.record_schema import SCHEMA
from pipeline.bench.results import Results, Rounds
from pipeline.bench.settings import Method, quick
from pipeline.bench.worker import gpu_of, is_out_of_memory
from pipeline.errors import ExportError
from tests.bench_loaders import FAST, NAMES, planned, setting

pytestmark = pytest.mark.slow


class Steps:
    """Counts what `measure` advances, and keeps whose turn it was."""

    def __init__(self) -> None:
        self.done = 0
        self.more = 0
        self.turns: list[str] = []

    def __call__(self, n: int = 1, more: int = 0, **info: object) -> None:
        self.done += n
        self.more += more
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
    assert (told.done, told.more) == (steps(3, FAST), 0)
    # Each round in an order of its own, the second one the first one backwards.
    assert sorted(told.turns[:3]) == sorted(str(plan.setting) for plan in plans)
    assert told.turns[3:6] == told.turns[:3][::-1]


def test_every_round_has_a_process_of_its_own(tmp_path: Path) -> None:
    count = tmp_path / "count"
    [cell] = measured(planned(f"third process {count}"), method=replace(FAST, rounds=2))
    assert (cell["status"], cell["rounds"], count.read_text(encoding="utf-8")) == ("valid", [6, 6], "++")
    assert cell["warm_up"]["samples"] == 2


def test_cells_go_on_until_their_figure_is_known_well_enough() -> None:
    told = Steps()
    method = replace(FAST, max_uncertainty=1e-9, max_rounds=7)
    for cell in measured(planned(), planned(scenario="offline"), method=method, steps_=told):
        assert cell["rounds"] == [3] * 7
        assert cell["status"] == "invalid"
        assert cell["reasons"][0].startswith("uncertain: the interval reaches ")
        assert cell["reasons"][0].endswith(" from the figure after 7 rounds, 0.0% are allowed")
    assert (told.done, told.more) == (2 * 7, 2 * (7 - 3))


def test_a_cell_that_fails_in_a_further_round_counts_as_done(tmp_path: Path) -> None:
    told = Steps()
    method = replace(FAST, rounds=2, max_uncertainty=1e-9, max_rounds=4)
    bad, good = measured(planned(f"third process {tmp_path / 'count'}"), planned(runtime="openvino"), method=method, steps_=told)
    assert (bad["status"], bad["reasons"]) == ("failed", [f"{NAMES[0]}: RuntimeError: lost the device"])
    assert len(good["rounds"]) == 4
    assert told.done == steps(2, method) + told.more


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
        ("death", "the process died with exit code 7; its last words: Illegal instruction"),
    ],
)
def test_a_cell_that_fails_says_why_and_leaves_the_others_alone(trouble: str, reason: str) -> None:
    told = Steps()
    bad, good = measured(planned(trouble), planned(runtime="openvino"), steps_=told)
    assert (bad["status"], bad["reasons"]) == ("failed", [reason])
    assert problem(bad) == problem(good) == ""
    assert good["status"] == "valid"
    assert told.done == steps(2, FAST) + told.more


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
    told = Steps()
    found = measured(planned(trouble, scenario="offline", batch=8), planned(scenario="offline", batch=1), steps_=told)
    assert told.done == steps(2, FAST) + told.more
    tried = {cell["batch"]: cell for cell in found if cell["batch"] > 1}
    assert tried.keys() == {8, 4, 2}
    assert tried[8]["reasons"][1] == "out of memory at batch 8: batch 4 is tried instead"
    assert tried[2]["status"] == ("valid" if trouble == "memory above 2" else "failed")
    assert all(problem(cell) == "" for cell in found)


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
        if done == 2 + 1:  # in the second round
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


@pytest.mark.parametrize("answer", [1, 2], ids=["while it loads", "while it measures"])
def test_no_worker_is_left_when_the_user_interrupts(answer: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = 0
    real = worker._answer

    def interrupted(*arguments: Any) -> Any:
        nonlocal asked
        asked += 1
        if asked == answer:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(worker, "_answer", interrupted)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(Interrupted):
        measured(planned(), planned(runtime="openvino"))
    assert not multiprocessing.active_children()
    assert not list(tmp_path.iterdir())
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interruption_after_the_last_round_keeps_the_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = Results.cell, 0

    def cell(self: Results, slowdown: float | None) -> dict[str, Any]:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return real(self, slowdown)

    monkeypatch.setattr(Results, "cell", cell)
    with pytest.raises(Interrupted) as caught:
        measured(planned(), planned(runtime="openvino"))
    assert [cell["rounds"] for cell in caught.value.cells] == [[3, 3, 3]] * 2


def test_a_process_that_cannot_be_started_fails_its_cell_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = worker.tempfile.TemporaryDirectory, 0

    def full(**options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise OSError(28, "No space left on device")
        return real(**options)

    monkeypatch.setattr(worker.tempfile, "TemporaryDirectory", full)
    found = measured(planned(), planned(runtime="openvino"))
    assert sorted(cell["status"] for cell in found) == ["failed", "valid"]
    assert ["its process cannot be started (No space left on device)"] in [cell["reasons"] for cell in found]


class Slow(Looks):
    """Neighbours came when the second group began."""

    def __init__(self) -> None:
        super().__init__((0,))
        self.group = 0

    def take(self) -> None:
        self._taken[0] += [100] * 20 if self.group == 0 else [100, 200] * 10


def test_a_slow_host_is_told_of_the_groups_that_it_was_slow_in(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = Slow()
    monkeypatch.setattr(Looks, "here", classmethod(lambda cls, virtual: looks if virtual else cls()))
    plans = [planned(), planned(threads=2), planned(threads=3, device="cuda:0")]
    method = replace(FAST, together=1, max_slowdown=0.2)
    found = []
    for group in measure(plans, method, Steps(), virtual=True, sleep=lambda seconds: None):
        looks.group += 1
        found += group
    assert [cell["watch"]["slowdown"] for cell in found] == [0, pytest.approx(0.5), None]  # a GPU has no part in it
    assert [cell["status"] for cell in found] == ["valid", "invalid", "valid"]
    for cell in measured(planned()):
        assert cell["watch"]["slowdown"] is None


def test_a_cell_whose_time_is_over_sits_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others go on until they are known well enough, or cannot be."""
    told = Steps()
    first = [Rounds(3, 9), Rounds(3, 9), Rounds(7, 9), Rounds(7, 9), Rounds(5, 9)]
    second = [Rounds(3, 9), Rounds(3, 9), Rounds(3, 3)]
    made: list[Results] = []
    real = Results.__init__
    monkeypatch.setattr(Results, "__init__", lambda self, *given: (made.append(self), real(self, *given))[1])
    monkeypatch.setattr(Results, "due", lambda self: (first if self is made[0] else second)[len(self.rounds) - 1])
    found = measured(planned(), planned(runtime="openvino"), method=replace(FAST, max_rounds=9), steps_=told)
    assert [len(cell["rounds"]) for cell in found] == [5, 3]
    assert told.done == 5 + 3 == steps(2, FAST) + told.more


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
    assert (less.max_rounds, less.max_uncertainty) == (4, 0.25)
    assert quick(full, kept={"max_uncertainty"}).max_uncertainty == full.max_uncertainty
    assert quick(less) == less


def test_sensors_are_those_of_the_gpu_that_cuda_means(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert (gpu_of("cpu"), gpu_of("cuda"), gpu_of("cuda:1")) == (None, 0, 1)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-8c2a")
    assert (gpu_of("cuda:0"), gpu_of("cuda:1")) == (3, "GPU-8c2a")
