"""What an import costs beyond parsing the label files: CPU seconds and peak memory, a process a figure.

    python -m benchmarks.import_labels [images] [boxes an image]

`floor` parses the label files with the fastest parser at hand and keeps the numbers, `read` is the format's reader, `import` the
whole of it (headers of the images included, which no floor has).
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CLASSES = ["car", "bus", "truck", "tram", "person"]
WIDTH, HEIGHT = 640, 480


def make(folder: Path, name: str, images: int, boxes: int) -> None:
    """A set of `images` links to one picture, `boxes` on each, in one format."""
    from PIL import Image

    rng = random.Random(0)
    photos = folder / "files" / "images"
    photos.mkdir(parents=True)
    Image.new("RGB", (WIDTH, HEIGHT)).save(folder / "picture.jpg")
    rows = []
    for number in range(images):
        os.link(folder / "picture.jpg", photos / f"{number:06}.jpg")
        for _ in range(boxes):
            x, y = rng.randrange(WIDTH - 100), rng.randrange(HEIGHT - 100)
            rows.append((number, rng.randrange(len(CLASSES)), x, y, rng.randrange(5, 100), rng.randrange(5, 100)))
    {"coco": make_coco, "voc": make_voc, "yolo": make_yolo}[name](folder / "files", images, boxes, rows)


Rows = list[tuple[int, int, int, int, int, int]]


def make_coco(folder: Path, images: int, boxes: int, rows: Rows) -> None:
    document = {
        "images": [{"id": n, "file_name": f"{n:06}.jpg", "width": WIDTH, "height": HEIGHT} for n in range(images)],
        "annotations": [
            {"id": n, "image_id": i, "category_id": c, "bbox": [x, y, w, h], "area": w * h, "iscrowd": 0, "segmentation": []}
            for n, (i, c, x, y, w, h) in enumerate(rows)
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(CLASSES)],
    }
    (folder / "coco.json").write_text(json.dumps(document), encoding="utf-8")


def make_voc(folder: Path, images: int, boxes: int, rows: Rows) -> None:
    (folder / "Annotations").mkdir()
    for number in range(images):
        objects = "".join(
            f"<object>\n<name>{CLASSES[c]}</name>\n<pose>Unspecified</pose>\n<truncated>0</truncated>\n<difficult>0</difficult>\n"
            f"<bndbox>\n<xmin>{x}</xmin>\n<ymin>{y}</ymin>\n<xmax>{x + w}</xmax>\n<ymax>{y + h}</ymax>\n</bndbox>\n</object>\n"
            for _, c, x, y, w, h in rows[number * boxes : (number + 1) * boxes]
        )
        size = f"<size><width>{WIDTH}</width><height>{HEIGHT}</height><depth>3</depth></size>"
        text = f"<annotation>\n<filename>{number:06}.jpg</filename>\n{size}\n{objects}</annotation>\n"
        (folder / "Annotations" / f"{number:06}.xml").write_text(text, encoding="utf-8")


def make_yolo(folder: Path, images: int, boxes: int, rows: Rows) -> None:
    (folder / "labels").mkdir()
    (folder / "data.yaml").write_text(f"names: {CLASSES}\n", encoding="utf-8")
    for number in range(images):
        lines = [
            f"{c} {(x + w / 2) / WIDTH:.6f} {(y + h / 2) / HEIGHT:.6f} {w / WIDTH:.6f} {h / HEIGHT:.6f}\n"
            for _, c, x, y, w, h in rows[number * boxes : (number + 1) * boxes]
        ]
        (folder / "labels" / f"{number:06}.txt").write_text("".join(lines), encoding="utf-8")


def floor(name: str, folder: Path) -> None:
    kept = []
    if name == "coco":
        import orjson

        for row in orjson.loads((folder / "files/coco.json").read_bytes())["annotations"]:
            kept.append((row["image_id"], row["category_id"], *row["bbox"]))
    elif name == "voc":
        import xml.etree.ElementTree as ET

        for entry in os.scandir(folder / "files/Annotations"):
            with open(entry.path, "rb") as stream:
                root = ET.fromstring(stream.read())
            for item in root:
                if item.tag == "object":
                    box = item.find("bndbox")
                    assert box is not None
                    kept.append((item.findtext("name"), *(float(edge.text or "") for edge in box)))
    else:
        for entry in os.scandir(folder / "files/labels"):
            with open(entry.path, encoding="utf-8") as stream:
                kept += [tuple(map(float, line.split())) for line in stream]


def work(step: str, name: str, folder: Path) -> None:
    import resource

    from pipeline import formats
    from pipeline.labelling.import_steps import Policy
    from pipeline.labelling.importing import import_folder
    from pipeline.ledger import Ledger
    from pipeline.stage import Context

    module = formats.load(name)
    start = time.process_time()
    if step == "floor":
        floor(name, folder)
    elif step == "read":
        from pipeline.labelling.fileset import FileSet

        module.read(FileSet.scan(folder / "files"), Ledger(), module.Options())
    else:
        import_folder(folder, Policy(), Ledger(), Context())
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{name:5} {step:7} {seconds:6.2f} s  {peak:5.0f} MB")


def main(images: int = 5000, boxes: int = 10) -> None:
    print(f"{images} images, {images * boxes} boxes")
    for name in ("coco", "voc", "yolo"):
        with tempfile.TemporaryDirectory() as temporary:
            # Also made in a process of its own: a child's peak memory starts at that of its parent.
            for step in (f"make:{images}:{boxes}", "floor", "read", "import"):
                subprocess.run([sys.executable, "-m", "benchmarks.import_labels", step, name, temporary], check=True)


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[1].startswith("make:"):
        make(Path(sys.argv[3]), sys.argv[2], *map(int, sys.argv[1].split(":")[1:]))
    elif len(sys.argv) == 4:
        work(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
    else:
        main(*map(int, sys.argv[1:]))
