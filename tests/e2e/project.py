"""A small real project in a temporary folder, and the command line run in it as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Project:
    folder: Path

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONIOENCODING": "utf-8", "NO_COLOR": "1"}

    def start(self, *arguments: str, cwd: Path | None = None) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "pipeline", *arguments]
        return subprocess.Popen(
            command, cwd=cwd or self.folder, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8"
        )

    def run(self, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, cwd=cwd)
        stdout, stderr = process.communicate(timeout=1200)  # a hang fails the test, a busy machine does not
        return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def make_photos(folder: Path, count: int = 12) -> None:
    """Photos with one or two coloured rectangles each, and YOLO labels beside them, in two sub-folders."""
    names = ["square", "bar"]
    for number in range(count):
        random = np.random.default_rng(number)
        image = random.integers(0, 256, (90, 120, 3), dtype=np.uint8)
        image = cv2.resize(cv2.resize(image, (12, 9)), (120, 90))
        rows = []
        for class_id in range(1 + number % 2):
            x, y = random.integers(5, 60), random.integers(5, 40)
            width, height = (30, 30) if class_id == 0 else (50, 12)
            cv2.rectangle(image, (int(x), int(y)), (int(x) + width, int(y) + height), (0, 0, 255 if class_id else 0), -1)
            rows.append(f"{class_id} {(x + width / 2) / 120} {(y + height / 2) / 90} {width / 120} {height / 90}")
        target = folder / f"day {number % 2}" / f"photo {number}.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(target), image)
        target.with_suffix(".txt").write_text("\n".join(rows) + "\n", encoding="utf-8")
    (folder / "classes.txt").write_text("\n".join(names) + "\n", encoding="utf-8")


def make_project(folder: Path, count: int = 12, params: str = "") -> Project:
    make_photos(folder / "photos", count)
    (folder / "params.yaml").write_text(f"collect:\n  source: photos\n{params}", encoding="utf-8")
    return Project(folder)
