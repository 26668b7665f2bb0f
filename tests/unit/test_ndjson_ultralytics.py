"""The NDJSON that we write, read by ultralytics' own converter: no tool on PyPI writes the format, this one reads it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from pipeline.dataset import Dataset
from pipeline.formats import ndjson
from tests.labelling import Collected

pytestmark = pytest.mark.skipif(not importlib.util.find_spec("ultralytics"), reason="needs the extra train")

PHOTOS = {"train/a b.jpg": (640, 480), "train/grün.jpg": (33, 57), "train/none.jpg": (50, 40), "val/c.d.jpg": (1001, 7)}
BOXES = [(0, 1, 1.25, 2.5, 639.125, 480), (0, 0, 0, 0, 1 / 3, 1e-3), (1, 2, 10.1, 20.2, 30.3, 40.4), (3, 0, 1000, 6, 1001, 7)]


# In a process of its own, because ultralytics puts another function in the place of Pillow's `open`. The session of aiohttp is
# opened and, for local images, never asked.
CONVERT = """
import asyncio
import sys
from contextlib import nullcontext
from types import ModuleType

sys.modules["aiohttp"] = aiohttp = ModuleType("aiohttp")
aiohttp.ClientSession = lambda trust_env: nullcontext()
from ultralytics.data import converter

converter.check_requirements = lambda *names: True
print(asyncio.run(converter.convert_ndjson_to_yolo(*sys.argv[1:])))
"""


def test_ultralytics_reads_the_same_boxes(tmp_path: Path) -> None:
    rows = [{"path": path, "width": w, "height": h, "split": path.partition("/")[0]} for path, (w, h) in PHOTOS.items()]
    dataset = Dataset.from_rows(["cat", "dog & co", "Größe"], rows, BOXES)
    for path, size in PHOTOS.items():
        (tmp_path / "photos" / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", size).save(tmp_path / "photos" / path)
    ndjson.write(dataset, tmp_path / "photos", tmp_path / "written")

    command = [sys.executable, "-c", CONVERT, str(tmp_path / "written" / "dataset.ndjson"), str(tmp_path / "converted")]
    environment = {**os.environ, "YOLO_CONFIG_DIR": str(tmp_path), "YOLO_OFFLINE": "1", "PYTHONUTF8": "1"}
    said = subprocess.run(command, capture_output=True, encoding="utf-8", env=environment, check=True).stdout
    made = Path(said.strip().splitlines()[-1])

    result = Collected(tmp_path / "again").copy(made.parent).run(format="yolo")
    assert result.dataset.class_names == dataset.class_names
    # The images are called by the number of their line now, which begins with 1.
    names = [f"images/{path.partition('/')[0]}/{number}.jpg" for number, path in enumerate(PHOTOS, 1)]
    assert result.splits() == {name: name.split("/")[1] for name in names}
    assert result.dataset.images[["width", "height"]].to_numpy().tolist() == [list(size) for size in PHOTOS.values()]
    assert result.dataset.image_of_box.tolist() == dataset.image_of_box.tolist()
    assert result.dataset.class_ids.tolist() == dataset.class_ids.tolist()
    assert result.dataset.edges == pytest.approx(dataset.edges, abs=1e-6)
    assert (result.entries, result.summary["background"]) == ([], 1)
