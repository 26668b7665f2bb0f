"""The page of a benchmark: whole, self-contained, and safe whatever text records bring along."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from pipeline.bench import page
from pipeline.bench.cells import named
from pipeline.bench.compare import compare
from pipeline.bench.history import follow
from pipeline.bench.recommend import Wish, recommend
from pipeline.web import text
from tests.bench_records import make_cell, make_machine, make_record, make_software

JSON = dict[str, Any]
HOSTILE = "<script>alert('x')</script><img src=https://example.com/x.png onerror=alert(1)>\"' & </style>"


class Reader(HTMLParser):
    """Collects tags, ids and what is referred to; complains of tags that are not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.attributes: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]
        if tag not in ("meta", "link", "img", "br", "line", "polyline", "circle"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("line", "polyline", "circle"):
            assert self.open.pop() == tag


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    assert not reader.open
    return reader


def everything(folder: Path, hostile: str = "") -> Path:
    cell = make_cell(40, seed=1)
    bad = make_cell(task="pose", status="invalid", reasons=[f"machine busy {hostile}"])
    odd = make_cell(9, task=f"segment{hostile}", runtime=f"onnx{hostile}", device=f"cpu{hostile}", scenario=f"offline{hostile}")
    machine = make_machine(f"CPU {hostile}", [f"GPU {hostile}"], **{f"virtual{hostile}": {"vm": hostile}})
    software = make_software(**{f"numpy{hostile}": f"2 {hostile}"})
    own = {"machine": machine, "software": software, "partial": True, "partial_reason": f"stopped {hostile}"}
    model = {cell["model"]: {"name": f"net{hostile}", "map50_95": 0.5, "measured_on": f"test {hostile}"}}
    first = make_record([cell, bad, odd], model, label=f"old{hostile}", **own)
    later = {"created_at": f"2026-11-23{hostile}", "id": "ba9876543210", "tool": f"tool {hostile}"}
    second = make_record([make_cell(60, seed=2), odd], model, label=f"new{hostile}", **own, **later)
    records = named([("a", first), ("b", second)])
    return page.write(
        folder,
        f"Old and new {hostile}",
        comparison=compare(records),
        history=follow(records),
        recommendation=recommend(records, Wish(task="detect", target_fps=20, min_map=0.4)),
    )


def test_the_page_holds_every_part_and_every_link_leads_somewhere(tmp_path: Path) -> None:
    path = everything(tmp_path / "page")
    reader = read(path)
    text = path.read_text(encoding="utf-8")
    assert {"summary", "best", "like", "times", "choice", "history", "left-out", "machines"} <= set(reader.ids)
    assert len(reader.ids) == len(set(reader.ids))
    assert {link[1:] for link in reader.links if link.startswith("#")} <= set(reader.ids)
    for said in ("new is 1.5", "slower", "machine busy", "old is a partial record: stopped", "Take net · onnx"):
        assert said in text
    assert sorted(file.name for file in path.parent.iterdir()) == [
        "best.png",
        "distributions.png",
        "index.html",
        "pareto.png",
        "ratios.png",
    ]


def test_nothing_is_loaded_from_anywhere(tmp_path: Path) -> None:
    reader = read(everything(tmp_path))
    assert all(link.startswith(("data:", "#")) for link in reader.links)
    assert "script" not in reader.tags


def test_text_of_records_is_never_markup(tmp_path: Path) -> None:
    safe, hostile = read(everything(tmp_path / "safe")), read(everything(tmp_path / "hostile", HOSTILE))
    assert "script" not in hostile.tags
    assert hostile.tags.count("img") == safe.tags.count("img")
    assert not [name for name in hostile.attributes if name.startswith("on")]
    assert all(link.startswith(("data:", "#")) for link in hostile.links)
    text = (tmp_path / "hostile" / "index.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;" in text
    assert text.count("</style>") == 1


def test_equal_records_give_equal_bytes(tmp_path: Path) -> None:
    assert everything(tmp_path / "one").read_bytes() == everything(tmp_path / "two").read_bytes()


def test_each_picture_and_table_is_told_in_words(tmp_path: Path) -> None:
    text = everything(tmp_path).read_text(encoding="utf-8")
    alts = re.findall(r'<img [^>]*alt="([^"]*)"', text)
    assert len(alts) == 4
    assert all(len(alt) > 20 for alt in alts)
    assert "new is 1.5" in " ".join(alts)
    assert text.count('<div class="scroll" role="region" aria-label=') == text.count('<div class="scroll"')


def test_unlike_records_are_marked_on_the_page(tmp_path: Path) -> None:
    sides = [make_record([make_cell(ms)]) for ms in (40, 30)]
    sides[1]["inputs"] = []
    comparison = compare({"laptop": sides[0], "workstation": sides[1]}, force=True)
    text = page.write(tmp_path, "Forced", comparison=comparison).read_text(encoding="utf-8")
    assert '<li class="problem"><b>Unlike</b>inputs: laptop measured bus-1280x720.jpg' in text
    assert text.count('<span class="chip skipped">unlike</span>') == 2


@pytest.mark.parametrize("part", ["history", "recommendation"])
def test_parts_stand_alone(tmp_path: Path, part: str) -> None:
    records = {name: make_record([make_cell(ms)]) for name, ms in (("one", 40), ("two", 41))}
    made: JSON = (
        {"history": follow(records)} if part == "history" else {"recommendation": recommend(records, Wish(target_fps=500))}
    )
    reader = read(page.write(tmp_path, "Alone", **made))
    assert {link[1:] for link in reader.links if link.startswith("#")} == {"history" if part == "history" else "choice"}


@pytest.mark.parametrize(
    ("value", "told"), [(1240, "1,240 ms"), (41.04, "41.0 ms"), (0.52, "0.52 ms"), (None, "–"), (float("nan"), "–")]
)
def test_milliseconds(value: object, told: str) -> None:
    assert text.ms(value) == told
