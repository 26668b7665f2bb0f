"""Versions of train, split and export as a benchmark finds them, with no model in them: what a file is, is written down."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline import files
from pipeline.bench import planning
from pipeline.bench.planning import Source
from pipeline.store import Store, Version
from pipeline.weights import sha256_of

JSON = dict[str, Any]

ROOTS = {"split": "datasets", "train": "runs", "export": "runs"}
SIZE = (96, 96)


def describe(path: Path, cache: Path, task: str = "detect", imgsz: tuple[int, int] = SIZE, **changed: Any) -> Path:
    """As if a model file had been looked at before: nothing is loaded."""
    known = {"task": task, "imgsz": list(imgsz), "parameters": 1000, "gflops": 0.5} | changed
    files.write_text(cache / "benchmark" / "described" / f"{sha256_of(path)}.json", json.dumps(known))
    return path


def artifact(format_: str, file: str, precision: str = "fp32", **changed: Any) -> JSON:
    """What exports.json says of one."""
    record: JSON = {"format": format_, "precision": precision, "status": "ok", "reason": "", "file": file, "size_bytes": 1}
    return record | {"imgsz": list(SIZE), "batch": 1, "map50_95": 0.5, "map50": 0.75} | changed


def publish(store: Store, stage: str, texts: Mapping[str, str], inputs: Sequence[Version] = (), **params: Any) -> Version:
    work = store.work_folder(stage, "0" * 24)
    for name, text in texts.items():
        files.write_text(work / name, text)
    recipe = {"params": params, "inputs": {each.stage: {"version": each.number, "digest": each.digest} for each in inputs}}
    return store.publish(stage, work, {"key": stage, "recipe": recipe, "headline": "", "summary": {}, "seconds": 1}, [])


def trained(store: Store, text: str = "weights", imgsz: tuple[int, int] = (640, 640)) -> Version:
    version = publish(store, "train", {"weights/best.pt": text}, model="yolo11n.pt")
    describe(version.path / "weights" / "best.pt", store.cache, imgsz=imgsz)
    return version


def exported(store: Store, records: Sequence[JSON], train: Version | None = None, **parity: Any) -> Version:
    """With a file for each record that is "ok", and PyTorch's own figures in parity.json."""
    split, of = publish(store, "split", {"split.csv": ""}), train or trained(store)
    told = {"split": "test", "images": 30, "models": {"pytorch": {"map50_95": 0.6, "map50": 0.8}}} | parity
    texts = {"parity.json": json.dumps(told), "exports.json": json.dumps(records)}
    made = [record["file"] for record in records if record["status"] == "ok"]
    texts |= {name: f"made of {of.name}: {name}" for name in made}
    texts |= {str(Path(name).with_suffix(".bin")): "0123456789" for name in made if name.endswith(".xml")}
    version = publish(store, "export", texts, [split, of])
    for name in made:
        describe(version.path / name, store.cache, parameters=None, gflops=None)
    return version


def find(store: Store, model: str = "", *tasks: str) -> list[Source]:
    return planning.sources(model, tasks, store, store.cache, store.workspace)
