"""Records against each other: what is paired, what is said, what is refused, and that nothing is dropped."""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import numpy as np
import pytest

from pipeline.bench import cells
from pipeline.bench.cells import named
from pipeline.bench.compare import Comparison, as_json, compare, verdict
from pipeline.bench.statistics import Ratio
from pipeline.errors import DataError
from tests.bench_records import make_cell, make_machine, make_record, packed, times

JSON = dict[str, Any]


def against(base: JSON, *others: JSON, **options: Any) -> Comparison:
    return compare(named([("a", base), *(("b", other) for other in others)]), **options)


def laptop(*made: JSON, **changed: Any) -> JSON:
    return make_record(made, label="laptop", **changed)


def workstation(*made: JSON, **changed: Any) -> JSON:
    return make_record(made, **{"label": "workstation", "id": "ba9876543210"} | changed)


# ---------------------------------------------------------------- sentences


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [
        (Ratio(11.2, 10.8, 11.54, 5), "workstation is 11.2× [10.8, 11.5] faster"),
        (Ratio(0.5, 0.4, 0.625, 5), "workstation is 2.00× [1.60, 2.50] slower"),
        (Ratio(1.02, 1.01, 1.03, 5), "workstation is 1.020× [1.010, 1.030] faster"),
        (Ratio(212.4, 200.2, 230, 5), "workstation is 212× [200, 230] faster"),
        (Ratio(1.0, 0.98, 1.03, 5), "no difference beyond the noise (0.98× to 1.03×)"),
    ],
)
def test_a_verdict_is_a_sentence(ratio: Ratio, expected: str) -> None:
    assert verdict("workstation", ratio) == expected


def test_the_times_decide_the_ratio() -> None:
    (row,) = against(laptop(make_cell(44, seed=1)), workstation(make_cell(4, seed=2))).rows
    assert row.ratio.value == pytest.approx(11, rel=0.05)
    assert row.verdict.startswith("workstation is 11.")
    assert row.title == "detect · yolo11n-detect · onnx · fp32 · cpu, 2 threads · 640 px · single-stream"
    assert row.base_ms == pytest.approx(44, rel=0.1)


def test_a_record_against_itself_shows_no_difference() -> None:
    record = laptop(make_cell(seed=1))
    comparison = compare(named([("a", record), ("b", record)]))
    assert list(comparison.records) == ["laptop (0123456789ab)", "laptop (0123456789ab) #2"]
    assert comparison.rows[0].ratio.is_noise


def test_a_phase_can_be_chosen() -> None:
    slow, fast = make_cell(40, seed=1), make_cell(40, seed=2)
    fast["samples"]["inference"] = packed(np.concatenate(times(7, seed=3)) * 1e6)
    sides = (laptop(slow), workstation(fast))
    assert against(*sides).rows[0].ratio.value == pytest.approx(1, rel=0.05)
    assert against(*sides, phase="inference").rows[0].ratio.value == pytest.approx(4, rel=0.05)


def test_throughput_is_compared_by_means_and_per_image() -> None:
    steady = [np.full(20, 80.0) for _ in range(5)]
    hiccup = [np.array([80.0] * 15 + [400.0] * 5) for _ in range(5)]
    base = make_cell(steady, batch=8, scenario="offline")
    other = make_cell(hiccup, batch=16, scenario="offline")
    comparison = against(laptop(base), workstation(other))
    assert not comparison.rows, "not the same batch"
    (row,) = comparison.best
    assert row.base_ms == pytest.approx(10)
    assert row.other_ms == pytest.approx(10)  # (0.75 · 80 + 0.25 · 400) / 16, where the median would be 5
    assert "laptop in batches of 8, workstation in batches of 16" in row.notes


def test_one_round_is_told() -> None:
    sides = [make_cell(times(40, rounds=1, samples=50, seed=seed)) for seed in (1, 2)]
    assert "one round only" in against(laptop(sides[0]), workstation(sides[1])).rows[0].notes[-1]


def test_weights_that_are_not_real_are_told() -> None:
    weights = {"yolo11n-detect/onnx/fp32": {"weights": "random"}}
    row = against(laptop(make_cell(), models=weights), workstation(make_cell(), models=weights)).rows[0]
    assert row.notes[0].startswith("weights are random: ")


def test_frames_dropped_are_told() -> None:
    sides = [
        make_cell(40, scenario="stream", stream={"fps": 30, "frames": 300, "dropped": dropped, "age_p50_ms": 1, "age_p99_ms": 2})
        for dropped in (12, 0)
    ]
    row = against(laptop(sides[0]), workstation(sides[1])).rows[0]
    assert row.notes == ("frames dropped: laptop 12 of 300, workstation 0 of 300",)


# ---------------------------------------------------------------- pairs


def test_equal_cells_are_paired_before_those_with_other_threads_or_devices() -> None:
    base = [make_cell(40, threads=1), make_cell(25, threads=2)]
    other = [make_cell(20, threads=16), make_cell(30, threads=1), make_cell(4, device="cuda:0", threads=None)]
    comparison = against(laptop(*base), workstation(*other))
    assert [(row.base.threads, row.other.place) for row in comparison.rows] == [(1, "cpu, 1 thread"), (2, "cpu, 16 threads")]
    assert comparison.rows[1].notes == ("laptop on cpu, 2 threads, workstation on cpu, 16 threads",)
    (best,) = comparison.best
    assert (best.base.threads, best.other.device) == (2, "cuda:0")
    assert not comparison.left_out, "each cell is in some row"


def test_the_laptops_cpu_against_the_workstations_gpu() -> None:
    base = [make_cell(40, runtime="onnx"), make_cell(30, runtime="openvino")]
    other = [make_cell(2, runtime="engine", device="cuda:0"), make_cell(6, runtime="onnx", device="cuda:0")]
    comparison = against(laptop(*base), workstation(*other))
    assert [row.title for row in comparison.rows] == ["detect · yolo11n-detect · onnx · fp32 · 640 px · single-stream"]
    assert "laptop on cpu, 2 threads, workstation on cuda:0" in comparison.rows[0].notes
    (best,) = comparison.best
    assert (best.base.runtime, best.other.runtime) == ("openvino", "engine")
    assert best.verdict.startswith("workstation is 1")


def test_what_fits_several_is_paired_with_none_and_listed() -> None:
    base = [make_cell(40, threads=2), make_cell(30, threads=4)]
    other = [make_cell(20, threads=8), make_cell(10, threads=16)]
    comparison = against(laptop(*base), workstation(*other))
    assert not comparison.rows
    assert len(comparison.best) == 1
    assert [(cell.record, cell.status) for cell in comparison.left_out] == [
        ("laptop", "no counterpart"),
        ("workstation", "no counterpart"),
    ]
    assert "nor only one that differs" in comparison.left_out[0].reasons[0]


def test_three_records_are_held_against_the_first() -> None:
    third = make_record([make_cell(10, seed=3)], label="board")
    comparison = against(laptop(make_cell(40, seed=1)), workstation(make_cell(4, seed=2)), third)
    assert [(row.base.record, row.other.record) for row in comparison.rows] == [("laptop", "workstation"), ("laptop", "board")]


def test_equal_weights_are_one_model_under_any_name() -> None:
    base, other = make_cell(40), make_cell(40, model="mine/onnx/fp32")
    names = {other["model"]: {"weights_hash": "weights of yolo11n-detect"}}
    (row,) = against(laptop(base), workstation(other, models=names)).rows
    assert "same weights under two names: laptop calls them yolo11n-detect, workstation mine" in row.notes


# ---------------------------------------------------------------- nothing is dropped


def test_cells_that_cannot_be_compared_are_listed_with_their_reasons() -> None:
    base = [
        make_cell(40),
        make_cell(40, task="pose", status="invalid", reasons=["the processor was throttled", "drift of 12 %"]),
        make_cell(40, task="segment"),
        make_cell(40, task="classify"),
    ]
    other = [
        make_cell(20),
        make_cell(20, task="pose"),
        make_cell(20, task="segment", status="failed", reasons=["failed on the third image"]),
        make_cell(
            20, runtime="engine", status="skipped", samples={}, phases={}, rounds=[], reasons=["TensorRT is not installed"]
        ),
    ]
    comparison = against(laptop(*base), workstation(*other))
    assert [row.task for row in comparison.rows] == ["detect"]
    listed = {(cell.record, cell.title.split(" · ")[0], cell.status): cell.reasons for cell in comparison.left_out}
    assert listed == {
        ("laptop", "pose", "invalid"): ("the processor was throttled", "drift of 12 %"),
        ("laptop", "segment", "no counterpart"): ("workstation has it, but failed",),
        ("laptop", "classify", "no counterpart"): ("workstation did not measure it",),
        ("workstation", "pose", "no counterpart"): ("laptop has it, but invalid",),
        ("workstation", "segment", "failed"): ("failed on the third image",),
        ("workstation", "detect", "skipped"): ("TensorRT is not installed",),
    }


def test_a_partial_record_is_compared_and_called_partial() -> None:
    record = workstation(make_cell(), partial=True, partial_reason="stopped by Ctrl-C")
    assert against(laptop(make_cell()), record).remarks == ("workstation is a partial record: stopped by Ctrl-C",)


BOMB = base64.b64encode(zlib.compress(bytes(100_000_000))).decode()


@pytest.mark.parametrize(
    ("samples", "reason"),
    [
        ({}, "it holds no samples of end_to_end"),
        ({"inference": packed(np.full(100, 1e6))}, "it holds no samples of end_to_end, only of inference"),
        ({"end_to_end": "@@"}, "its samples of end_to_end are damaged"),
        ({"end_to_end": "AAAA"}, "its samples of end_to_end are damaged"),
        ({"end_to_end": packed(np.full(99, 1e6))}, "99 samples, where the rounds have 100"),
        ({"end_to_end": BOMB}, "more samples, where the rounds have 100"),
        ({"end_to_end": packed(np.zeros(100))}, "times of zero or less"),
        ({"end_to_end": packed(-np.full(100, 1e6))}, "times of zero or less"),
    ],
)
def test_a_cell_without_usable_samples_says_so(samples: JSON, reason: str) -> None:
    sides = (laptop(make_cell(), make_cell(task="pose", samples=samples)), workstation(make_cell()))
    (left_out,) = against(*sides).left_out
    assert left_out.status == "no samples"
    assert reason in left_out.reasons[0]


def test_a_single_sample_is_no_measurement() -> None:
    sides = (laptop(make_cell(), make_cell([[40.0]], task="pose")), workstation(make_cell()))
    (left_out,) = against(*sides).left_out
    assert left_out.reasons == ("it holds one sample of end_to_end, where two are the least",)


@pytest.mark.parametrize("changed", [{"batch": 0}, {"rounds": [-1, 101]}, {"rounds": [10**12]}])
def test_impossible_counts_are_told(changed: JSON) -> None:
    sides = (laptop(make_cell(), make_cell(task="pose", **changed)), workstation(make_cell()))
    (left_out,) = against(*sides).left_out
    assert "damaged" in left_out.reasons[0]


def test_nothing_in_common_is_an_error_that_says_why() -> None:
    with pytest.raises(DataError, match="no valid cell of one has a counterpart") as caught:
        against(laptop(make_cell()), workstation(make_cell(task="pose"), make_cell(status="invalid", reasons=["busy"])))
    assert len(caught.value.problems) == 3
    assert any("workstation" in problem and "invalid: busy" in problem for problem in caught.value.problems)


# ---------------------------------------------------------------- unlike records

OTHER_IMAGE = {"name": "street.jpg", "hash": "cd" * 16, "width": 640, "height": 480, "bytes": 99}
OTHER_WEIGHTS = {"yolo11n-detect/onnx/fp32": {"weights_hash": "fine-tuned", "file_hash": "another"}}
NO_WEIGHTS = {"yolo11n-detect/onnx/fp32": {"weights_hash": "", "file_hash": "another"}}


def other_method(**changed: Any) -> JSON:
    return make_record([])["method"] | changed


@pytest.mark.parametrize(
    ("record", "reasons"),
    [
        (
            workstation(make_cell(), inputs=[OTHER_IMAGE]),
            [
                "inputs: laptop measured bus-1280x720.jpg, which workstation did not, or not alike",
                "inputs: workstation measured street.jpg, which laptop did not, or not alike",
            ],
        ),
        (
            workstation(make_cell(), method=other_method(min_seconds=1.0)),
            ["method: min_seconds is 3.0 in laptop and 1.0 in workstation"],
        ),
        (
            workstation(make_cell(), method=other_method(warm_up=make_record([])["method"]["warm_up"] | {"tolerance": 0.1})),
            ["method: warm_up.tolerance is 0.02 in laptop and 0.1 in workstation"],
        ),
        (workstation(make_cell(), method=other_method(new=1)), ["method: new is not told in laptop and 1 in workstation"]),
        (
            workstation(make_cell(), models=OTHER_WEIGHTS),
            ["weights: detect yolo11n-detect is weights of … in laptop and fine-tuned in workstation"],
        ),
        (
            workstation(make_cell(), models=NO_WEIGHTS),
            ["weights: nothing tells whether both measured the same detect yolo11n-detect: no weights hash in workstation"],
        ),
        (
            workstation(make_cell(imgsz=[320, 640])),
            ["image size: detect yolo11n-detect is 640 px in laptop and 640x320 px in workstation"],
        ),
    ],
)
def test_unlike_records_are_refused_or_marked(record: JSON, reasons: list[str]) -> None:
    with pytest.raises(DataError, match="not measured alike: laptop and workstation") as caught:
        against(laptop(make_cell()), record)
    assert list(caught.value.problems) == reasons
    assert "--force" in caught.value.hint
    forced = against(laptop(make_cell()), record, force=True)
    assert [list(row.unlike) for row in forced.rows] == [reasons]


def test_cameras_of_other_rates_are_not_alike() -> None:
    def cell(fps: float) -> JSON:
        stream = {"fps": fps, "frames": 300, "dropped": 0, "age_p50_ms": 1, "age_p99_ms": 2}
        return make_cell(scenario="stream", stream=stream)

    with pytest.raises(DataError) as caught:
        against(laptop(cell(30)), workstation(cell(60)))
    assert caught.value.problems == ("camera: detect yolo11n-detect met 30 frames/s in laptop and 60 frames/s in workstation",)


def test_the_very_same_file_needs_no_hash_of_weights() -> None:
    unknown = {"yolo11n-detect/onnx/fp32": {"weights_hash": ""}}
    sides = (laptop(make_cell(), models=unknown), workstation(make_cell(), models=unknown))
    assert not against(*sides).rows[0].unlike


def test_what_belongs_to_a_run_may_differ() -> None:
    own = other_method(seed=7, overhead_ns=12_000, scenarios=["offline"])
    assert not against(laptop(make_cell()), workstation(make_cell(), method=own)).rows[0].unlike


def test_what_decodes_and_scales_matters_to_all_that_holds_it() -> None:
    sides = [
        make(make_cell(), method=other_method(image_library=name)) for make, name in ((laptop, "opencv"), (workstation, "numpy"))
    ]
    for phase in ("end_to_end", "decode", "preprocess"):
        with pytest.raises(DataError) as caught:
            against(*sides, phase=phase)
        assert caught.value.problems == ("method: image_library is opencv in laptop and numpy in workstation",)
    for phase in ("inference", "postprocess"):
        assert not against(*sides, phase=phase).rows[0].unlike


def test_another_image_size_is_no_doubt_where_a_common_one_is() -> None:
    base = [make_cell(imgsz=[320, 320]), make_cell()]
    other = [make_cell(imgsz=[1280, 1280]), make_cell()]
    comparison = against(laptop(*base), workstation(*other))
    assert [row.base.imgsz for row in comparison.rows] == [(640, 640)]
    assert [cell.status for cell in comparison.left_out] == ["no counterpart", "no counterpart"]


# ---------------------------------------------------------------- records are untrusted


def test_text_of_records_is_shown_on_one_line() -> None:
    record = workstation(make_cell(), label="work\nstation\x1b[31m\u202e" + "x" * 99)
    name = list(named([("a", laptop()), ("b", record)]))[1]
    assert name.startswith("work�station�[31m�xxx")
    assert name.endswith("x…")
    assert len(name) == 40


def test_names_come_from_the_file_where_there_is_no_label() -> None:
    records = [("laptop", laptop() | {"label": ""}), ("", workstation() | {"label": ""})]
    assert list(named(records)) == ["laptop", "record"]


def test_the_hardware_of_a_machine() -> None:
    found = cells.hardware(make_record([], machine=make_machine("i7", ["H100", "H100"])))
    assert found == {
        "processor": "i7",
        "GPU": "H100, H100",
        "model": "Example Book 14",
        "number of cores": "4 cores",
        "number of threads": "8 threads",
        "memory": "16 GiB",
    }


def test_the_comparison_as_json_holds_no_samples() -> None:
    text = json.dumps(as_json(against(laptop(make_cell(40)), workstation(make_cell(4), make_cell(task="pose")))))
    assert "samples" not in text
    assert json.loads(text)["rows"][0]["ratio_ci95"][0] > 5
    assert json.loads(text)["left_out"][0]["record"] == "workstation"
