"""Records of benchmarks as another machine would send them, made of samples that the tests choose."""

from __future__ import annotations

import base64
import copy
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.bench import record as records
from pipeline.store import BENCHMARK, Store, Version

JSON = dict[str, Any]

SHARES = {"decode": 0.15, "preprocess": 0.05, "inference": 0.7, "postprocess": 0.1}
"""Of the whole time, for the phases."""


def packed(ns: np.ndarray[Any, Any]) -> str:
    return base64.b64encode(zlib.compress(ns.astype("<i8").tobytes())).decode("ascii")


def times(ms: float, rounds: int = 5, samples: int = 20, spread: float = 0.03, seed: int = 0) -> list[np.ndarray[Any, Any]]:
    """Milliseconds, an array a round: skewed to the right, with a little drift from round to round."""
    rng = np.random.default_rng(seed)
    return [ms * np.exp(rng.normal(0, spread / 3) + np.abs(rng.normal(0, spread, samples))) for _ in range(rounds)]


def statistics(ms: np.ndarray[Any, Any]) -> JSON:
    p50, p90, p95, p99 = np.percentile(ms, (50, 90, 95, 99)).tolist()
    half = 1.96 * float(ms.std()) / len(ms) ** 0.5
    return {
        "n": len(ms),
        "min_ms": float(ms.min()),
        "mean_ms": float(ms.mean()),
        "sd_ms": float(ms.std()),
        "p50_ms": p50,
        "p90_ms": p90,
        "p95_ms": p95,
        "p99_ms": p99,
        "max_ms": float(ms.max()),
        "p50_ci95_ms": [p50 - half, p50 + half],
    }


def make_cell(ms: float | Sequence[Any] = 40.0, seed: int = 0, **changed: Any) -> JSON:
    """A valid cell whose end-to-end times are `ms` per call, a typical value or an array a round; `changed` replaces keys."""
    rounds = times(ms, seed=seed) if isinstance(ms, int | float) else [np.asarray(part) for part in ms]
    whole = np.concatenate(rounds)
    parts = {name: whole * share for name, share in SHARES.items()} | {"end_to_end": whole}
    cell: JSON = {
        "task": "detect",
        "runtime": "onnx",
        "precision": "fp32",
        "device": "cpu",
        "imgsz": [640, 640],
        "batch": 1,
        "threads": 2,
        "scenario": "single-stream",
        "status": "valid",
        "reasons": [],
        "load_ms": 83.1,
        "first_ms": 41.0,
        "warm_up": {"samples": 12, "seconds": 0.5, "stable": True},
        "phases": {name: statistics(values) for name, values in parts.items()},
        "images_per_s": changed.get("batch", 1) * 1000 / float(whole.mean()),
        "stream": None,
        "memory_peak_mib": 310.0,
        "gpu_memory_peak_mib": None,
        "energy_j_per_image": None,
        "drift": 0.01,
        "watch": {
            "background_load": 0.03,
            "slowdown": None,
            "cpu_mhz": [2400, 3100],
            "temperature_c": [51, 66],
            "throttled": False,
            "gpu_mhz": None,
            "gpu_temperature_c": None,
            "energy_of": [],
        },
        "samples": {name: packed(values * 1e6) for name, values in parts.items()},
        "rounds": [len(part) for part in rounds],
    }
    cell |= changed
    return {"model": f"yolo11n-{cell['task']}/{cell['runtime']}/{cell['precision']}"} | cell


def make_model(cell: JSON, **changed: Any) -> JSON:
    name = cell["model"].split("/")[0]
    model = {
        "name": name,
        "task": cell["task"],
        "runtime": cell["runtime"],
        "precision": cell["precision"],
        "file_hash": f"file of {cell['model']}",
        "weights_hash": f"weights of {name}",
        "weights": "official",
        "parameters": 2_624_080,
        "gflops": 6.6,
        "bytes": 10_600_000,
        "map50_95": None,
        "map50": None,
        "measured_on": "",
    }
    return model | changed


def make_machine(cpu: str = "Example CPU 8", gpus: Sequence[str] = (), **changed: Any) -> JSON:
    machine: JSON = {
        "model": "Example Book 14",
        "os": {"name": "Example Linux 12", "release": "6.1.0", "architecture": "x86_64"},
        "cpu": {
            "name": cpu,
            "sockets": 1,
            "cores": 4,
            "threads": 8,
            "usable_threads": 8,
            "max_mhz": 3800,
            "caches_kib": {"L1d": 32, "L2": 1024},
            "flags": ["avx2", "fma"],
            "governor": "performance",
            "turbo": True,
        },
        "memory_gib": 15.5,
        "limits": {"cpus": None, "memory_gib": None},
        "gpus": [
            {
                "name": name,
                "memory_mib": 81_559,
                "driver": "580.1",
                "cuda": "13.0",
                "compute_capability": "9.0",
                "power_limit_w": 700,
            }
            for name in gpus
        ],
        "power": {"plan": "", "on_battery": False},
        "virtual": {"vm": "", "container": ""},
    }
    return machine | changed


def make_software(**packages: str) -> JSON:
    return {
        "python": "3.11.7",
        "implementation": "CPython",
        "packages": {"numpy": "2.4.0", "onnxruntime": "1.31.1"} | packages,
        "environment": {},
    }


def make_record(cells: Sequence[JSON], models: Mapping[str, JSON] | None = None, **changed: Any) -> JSON:
    """A record of these cells; `models` changes entries of single models, `changed` keys of the record."""
    record: JSON = {
        "schema": 1,
        "kind": "yolo-pipeline benchmark",
        "id": "0123456789ab",
        "created_at": "2026-11-22T06:00:00Z",
        "tool": "yolo-pipeline 0.1.0",
        "label": "laptop",
        "partial": False,
        "partial_reason": "",
        "machine": make_machine(),
        "software": make_software(),
        "method": {
            "min_seconds": 3.0,
            "min_samples": 100,
            "rounds": 5,
            "max_rounds": 10,
            "warm_up": {"window_samples": 5, "window_seconds": 0.2, "tolerance": 0.02, "max_seconds": 10.0},
            "max_uncertainty": 0.1,
            "max_drift": 0.05,
            "max_background_load": 0.25,
            "max_slowdown": 0.15,
            "seed": 0,
            "scenarios": ["single-stream"],
            "overhead_ns": 900,
            "max_seconds": 60.0,
            "cool_down_s": 0.5,
            "together": 4,
            "image_library": "opencv",
        },
        "inputs": [{"name": "bus-1280x720.jpg", "hash": "ab" * 16, "width": 1280, "height": 720, "bytes": 123_456}],
        "models": {cell["model"]: make_model(cell, **(models or {}).get(cell["model"], {})) for cell in cells},
        "cells": copy.deepcopy(list(cells)),
    }
    return record | changed


def publish(store: Store, record: JSON) -> Version:
    """The record as the next version of `benchmark`."""
    work = store.work_folder(BENCHMARK, "0" * 24)
    records.write(work / "record.json", record)
    manifest = {
        "key": record["id"],
        "recipe": {"params": {}, "inputs": {}, "libraries": {}, "models": record["models"]},
        "headline": f"{len(record['cells'])} cells",
        "summary": {},
        "started_at": record["created_at"],
        "seconds": 1.0,
        "machine": {},
        "git_commit": "",
    }
    return store.publish(BENCHMARK, work, manifest, [])
