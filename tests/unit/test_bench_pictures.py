"""Pictures of comparisons: whole, not blank, bounded however many rows there are, and the same every time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline import images
from pipeline.bench import pictures
from pipeline.bench.compare import Row, compare
from pipeline.bench.recommend import Wish, recommend
from tests.bench_records import make_cell, make_record


def rows(count: int, label: str = "workstation") -> tuple[Row, ...]:
    sides = [
        make_record([make_cell(ms * (number + 1), seed=number, task=f"task {number}") for number in range(count)])
        for ms in (40, 35)
    ]
    return compare({"laptop": sides[0], label: sides[1]}).rows


def is_drawn(path: Path) -> bool:
    pixels = images.decode(path)
    return bool(min(pixels.shape[:2]) > 150 and max(pixels.shape[:2]) < 6000 and (pixels != 255).mean() > 0.005)


@pytest.mark.parametrize(("count", "bars", "panels"), [(1, 0, 0), (5, 0, 0), (50, 10, 26)])
def test_any_number_of_rows(tmp_path: Path, count: int, bars: int, panels: int) -> None:
    found = rows(count)
    assert pictures.ratios(tmp_path / "ratios.png", found, "Like with like") == bars
    assert pictures.distributions(tmp_path / "times.png", found, "end_to_end") == panels
    assert is_drawn(tmp_path / "ratios.png")
    assert is_drawn(tmp_path / "times.png")


def test_equal_rows_have_equal_bytes(tmp_path: Path) -> None:
    for name in ("one.png", "two.png"):
        pictures.ratios(tmp_path / name, rows(2), "Like with like")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_times_that_are_all_equal_and_ratios_far_apart(tmp_path: Path) -> None:
    constant = [np.full(20, 10.0)] * 5
    sides = [make_record([make_cell(constant), make_cell(ms, task="pose")]) for ms in (4000, 1)]
    found = compare({"laptop": sides[0], "workstation": sides[1]}).rows
    pictures.ratios(tmp_path / "ratios.png", found, "Like with like")
    pictures.distributions(tmp_path / "times.png", found, "end_to_end")
    assert is_drawn(tmp_path / "ratios.png")
    assert is_drawn(tmp_path / "times.png")


@pytest.mark.parametrize("label", ["$x_1$", "ноутбук", "\U000f0000 private", "𓀀" * 30])
def test_labels_from_anywhere(tmp_path: Path, label: str, recwarn: pytest.WarningsRecorder) -> None:
    found = rows(1, label)
    pictures.ratios(tmp_path / "ratios.png", found, "Like with like")
    pictures.distributions(tmp_path / "times.png", found, "end_to_end")
    assert [str(warning.message) for warning in recwarn] == []


def test_the_front(tmp_path: Path) -> None:
    cells = [make_cell(ms, model=name) for name, ms in (("n", 10), ("s", 20))]
    record = make_record(cells, {"n": {"map50_95": 0.4}, "s": {"map50_95": 0.5}})
    path = tmp_path / "front.png"
    assert pictures.pareto(path, recommend({"laptop": record}, Wish(target_fps=30, min_map=0.45)))
    assert is_drawn(path)
    assert pictures.pareto(path, recommend({"laptop": record}, Wish(target_fps=3000))), "nothing meets the wish"


def test_no_front_without_any_map(tmp_path: Path) -> None:
    assert not pictures.pareto(tmp_path / "front.png", recommend({"laptop": make_record([make_cell()])}, Wish()))
    assert not list(tmp_path.iterdir())
