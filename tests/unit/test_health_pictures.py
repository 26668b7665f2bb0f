from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipeline.dataset import Dataset
from pipeline.health import pictures, plots
from pipeline.health.examine import examine
from pipeline.health.findings import Finding, Item, Mark, arranged, finding
from pipeline.health.opening import Subject, open_folder
from pipeline.images import decode, save
from pipeline.stage import Context

SILENT = Context()


def subject(folder: Path, names: tuple[str, ...] = ("cat", "dog")) -> Subject:
    """Grey pictures with boxes of two classes, on two sides that differ."""
    rows = [{"path": f"{i}.png", "width": 200, "height": 100, "split": "train" if i < 12 else "val"} for i in range(24)]
    for number, row in enumerate(rows):
        save(folder / str(row["path"]), np.full((100, 200, 3), 40 + 8 * number, np.uint8))
    return Subject("pets", Dataset.from_rows(names, rows, [(i, int(i >= 12), 20, 30, 60, 70) for i in range(24)]), folder)


def draw(found: list[Finding], of: Subject, out: Path) -> dict[str, Finding]:
    grey = [40.0 + 8 * number for number in range(len(of.dataset.images))]
    return {one.code: one for one in pictures.draw(arranged(found), of, grey, out, SILENT)}


def test_findings_get_the_pictures_that_help_and_are_named_in_the_page(tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = examine(subject(tmp_path / "in"), SILENT, pictures=out)
    pictured = {one.code: one.picture for one in found if one.picture}
    assert pictured.keys() >= {"drift_classes", "drift_brightness", *plots.PLOTS}
    for name in pictured.values():
        assert min(decode(out / str(name)).shape[:2]) > 100
    page = (out / "index.html").read_text(encoding="utf-8")
    assert all(f'src="{name}"' in page for name in pictured.values())
    assert {path.name for path in out.iterdir()} == {*map(str, pictured.values()), "index.html"}


def test_marked_boxes_are_cut_out_with_their_surroundings(tmp_path: Path) -> None:
    of = subject(tmp_path / "in")
    mark = Mark((20, 30, 30, 40), "cat")
    draw([finding("box_tiny", [Item("3.png", marks=(mark,))])], of, tmp_path)
    sheet = decode(tmp_path / "box_tiny.png").astype(int)
    red = (np.abs(sheet - (230, 57, 70)).sum(axis=2) < 30).nonzero()
    # 10 px of a cut of 73 x 88 px are an eighth of the tile's height: the box is enlarged, not a dot.
    assert np.ptp(red[0]) > 25


def test_two_images_are_shown_beside_each_other(tmp_path: Path) -> None:
    of = subject(tmp_path / "in")
    draw([finding("leak_group", [Item("20.png", other="1.png")])], of, tmp_path)
    sheet = decode(tmp_path / "leak_group.png")
    levels = set(np.unique(sheet[:, :, 0]).tolist())
    assert {40 + 8 * 20, 40 + 8 * 1} <= levels


def test_findings_without_a_file_to_show_have_no_picture(tmp_path: Path) -> None:
    of = subject(tmp_path / "in")
    (tmp_path / "in" / "5.png").write_bytes(b"damaged since")
    items = {"image_small": [Item("5.png")], "class_rare": [Item(detail="cat")], "name_twice": [Item("1.png", other="2.png")]}
    result = draw([finding(code, found) for code, found in items.items()], of, tmp_path)
    assert {one.picture for one in result.values()} == {None}


def test_names_are_text_in_the_page(tmp_path: Path) -> None:
    nasty = "<script>alert(1)</script>"
    of = Subject(nasty, subject(tmp_path / "in", (nasty, "dog & cat")).dataset, tmp_path / "in")
    draw([finding("class_rare", [Item(detail=nasty)], nasty)], of, tmp_path)
    page = (tmp_path / "index.html").read_text(encoding="utf-8")
    assert "<script>" not in page
    assert page.count("&lt;script&gt;") >= 3
    assert "http" not in page


@pytest.mark.parametrize("cells", [8, 64])
def test_the_heat_map_counts_the_boxes_over_each_place(cells: int) -> None:
    rows = [{"path": "0.png", "width": 200, "height": 100}]
    rng = np.random.default_rng(0)
    low = rng.integers(0, cells, (50, 2))
    high = np.minimum(low + rng.integers(1, cells, (50, 2)), cells)
    cell = np.array([200, 100]) / cells
    data = Dataset.from_rows(["a"], rows, [(0, 0, *(low[i] * cell), *(high[i] * cell)) for i in range(50)])
    expected = np.zeros((cells, cells))
    for (x1, y1), (x2, y2) in zip(low, high, strict=True):
        expected[y1:y2, x1:x2] += 1
    assert plots.heat_map(data, cells).tolist() == expected.tolist()


def test_real_photos_are_drawn(shared_data: Path, tmp_path: Path) -> None:
    of = open_folder(shared_data / "exif" / "keides-stored-frame", SILENT)
    found = {one.code: one for one in examine(of, SILENT, pictures=tmp_path)}
    assert found["exif_undecided"].picture == "exif_undecided.png"
    sheet = decode(tmp_path / "exif_undecided.png").astype(int)
    yellow = np.abs(sheet - (250, 176, 5)).sum(axis=2) < 30
    assert yellow.sum() > 300  # the boxes: on a photo that lies on its side one sees that they are not where they belong
