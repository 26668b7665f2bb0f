"""The report on speed: benchmarks of this very model, and none of others; a new one makes the page again, a damaged one none."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from pipeline.bench.inputs import hash_of
from pipeline.stage import Context
from pipeline.stages import report
from pipeline.store import BENCHMARK, Store
from tests.bench_records import make_cell, make_machine, make_record, publish
from tests.reporting import STAGES, Outline

JSON = dict[str, Any]
HOSTILE = "<script>alert(1)</script>"


def ours(workspace: Path, *cells: JSON, **changed: Any) -> JSON:
    """A record of the model that the workspace has trained."""
    weights = {"weights": "fine-tuned", "weights_hash": hash_of(workspace / "runs/train/v3/weights/best.pt")}
    return make_record(cells, {cell["model"]: weights for cell in cells}, **changed)


def context(workspace: Path, told: list[str] | None = None) -> Context:
    warn = (lambda text: None) if told is None else told.append
    return Context(benchmarks=tuple(Store(workspace, {}).versions(BENCHMARK)), warn=warn)


def page(workspace: Path, told: list[str] | None = None) -> str:
    inputs = {stage: workspace / "runs" / stage / "v3" for stage in STAGES}
    report.run(inputs, report.Params(), workspace / "out", context(workspace, told))
    return (workspace / "out" / "report.html").read_text(encoding="utf-8")


def section(html: str) -> str:
    found = re.search('<section id="speed".*?</section>', html, re.DOTALL)
    return found.group() if found else ""


def test_a_model_that_nobody_has_timed_has_no_such_section(workspace: Path) -> None:
    before = page(workspace)
    assert "#speed" not in before
    publish(Store(workspace, {}), make_record([make_cell()]))  # of official weights
    assert page(workspace) == before


def test_every_artifact_with_its_time_beside_that_of_the_checkpoint(workspace: Path) -> None:
    cells = [
        make_cell(60, seed=1, runtime="pytorch"),
        make_cell(40, seed=2),
        make_cell(80, seed=3, runtime="openvino", status="invalid", reasons=["drift of 12 %"]),
        make_cell(20, seed=4, threads=4),
        make_cell(runtime="engine", status="skipped", samples={}, phases={}, rounds=[], reasons=["no GPU"]),
        make_cell(160, seed=5, scenario="offline", batch=8),
    ]
    publish(Store(workspace, {}), ours(workspace, *cells, partial=True, partial_reason="stopped by Ctrl-C"))
    html = page(workspace)
    speed = section(html)
    assert '<a href="#speed">Speed</a>' in html
    assert Outline(html).headings.count(1) == 1
    rows = {row[0]: row[1:] for row in _rows(speed)}
    assert "the checkpoint itself" in rows["pytorch · fp32"][-1]
    assert re.match(r"1\.\d\d× \[1\.\d\d, 1\.\d\d\] faster", _rows(speed)[1][-1])
    assert "invalid drift of 12 %" in rows["openvino · fp32"][-1]
    assert _rows(speed)[3][-1] == "–", "no checkpoint ran with four threads"
    offline = _rows(speed)[4]
    assert offline[1].endswith("batch 8 · offline")
    assert offline[2].startswith("20.2 ms"), "per image, not per batch"
    assert "runs/benchmark/v1/record.json" in speed
    assert "1 cell was not measured, and <code>benchmark show benchmark@v1</code> says why" in speed
    assert "partial: stopped by Ctrl-C" in speed


def _rows(speed: str) -> list[list[str]]:
    body = speed[speed.index("<tbody>") :]
    return [
        [" ".join(re.sub("<[^>]*>", " ", cell).split()) for cell in re.findall("<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)]
        for row in re.findall("<tr>(.*?)</tr>", body, re.DOTALL)
    ]


def test_the_newest_of_each_machine(workspace: Path) -> None:
    store = Store(workspace, {})
    for ms, machine in ((40, make_machine("One")), (4, make_machine("Two", ["H100"])), (30, make_machine("One"))):
        publish(store, ours(workspace, make_cell(ms), label="", machine=machine))
    speed = section(page(workspace))
    assert re.findall("<h3>(.*?)</h3>", speed) == ["benchmark@v3", "benchmark@v2"]
    assert "Two, H100" in speed
    assert "benchmark@v1" not in speed


def test_text_of_a_record_stays_text(workspace: Path) -> None:
    publish(Store(workspace, {}), ours(workspace, make_cell(), label=HOSTILE, machine=make_machine(HOSTILE)))
    html = page(workspace)
    assert "<script>" not in html
    assert "&lt;script&gt;" in section(html)


def test_a_damaged_record_is_told_and_the_page_is_made(workspace: Path) -> None:
    store = Store(workspace, {})
    for _ in range(2):
        version = publish(store, ours(workspace, make_cell()))
    (version.path / "record.json").write_text("{", encoding="utf-8")
    told: list[str] = []
    speed = section(page(workspace, told))
    assert told == [f"benchmark@v2 is left out of the page: {told[0].partition('page: ')[2]}"]
    assert "record.json: no JSON" in told[0]
    assert "benchmark@v2 left out: its record cannot be read." in speed
    assert "benchmark@v1" in speed


# ---------------------------------------------------------------- when the page is made again


def test_a_new_record_of_a_model_that_was_trained_here_makes_the_page_again(workspace: Path) -> None:
    def recipe() -> dict[str, str]:
        return report.external(report.Params(), context(workspace))

    store = Store(workspace, {})
    assert recipe() == {}
    publish(store, make_record([make_cell()]))
    assert recipe() == {}, "official weights: not on the page"
    version = publish(store, ours(workspace, make_cell()))
    first = recipe()
    assert first == recipe() != {}
    (version.path / "record.json").write_text("{", encoding="utf-8")
    assert recipe() != first
    (version.path / "record.json").unlink()
    damaged = recipe()
    publish(store, ours(workspace, make_cell(seed=1)))
    assert recipe() not in ({}, first, damaged)


def test_a_record_of_a_newer_release_does_not_stop_a_run(workspace: Path) -> None:
    version = publish(Store(workspace, {}), ours(workspace, make_cell()))
    manifest = version.path / "manifest.json"
    manifest.write_text(manifest.read_text(encoding="utf-8").replace('"schema": 1,', '"schema": 9,', 1), encoding="utf-8")
    assert report.external(report.Params(), context(workspace)) == {}
    assert "#speed" not in page(workspace)
