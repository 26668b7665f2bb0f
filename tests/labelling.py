"""Build what `collect` leaves behind, and import it: for the tests of formats and of annotate."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from blake3 import blake3
from PIL import Image

from pipeline import ledger
from pipeline.dataset import Dataset
from pipeline.stage import Context
from pipeline.stages import annotate


@dataclass
class Result:
    """What the stage left: the data set, its ledger, its summary, its warnings, its folder."""

    dataset: Dataset
    entries: list[ledger.Entry]
    summary: dict[str, Any]
    warnings: list[str]
    folder: Path

    def boxes(self) -> list[tuple[str, str, float, float, float, float]]:
        """(path, class name, x1, y1, x2, y2) rounded to 1e-6 px, in the data set's order."""
        paths, names = self.dataset.images["path"], self.dataset.class_names
        rows = self.dataset.boxes.itertuples(index=False)
        return [(paths[r.image], names[r.class_id], *(round(v, 6) + 0.0 for v in (r.x1, r.y1, r.x2, r.y2))) for r in rows]

    def reasons(self) -> dict[str, int]:
        return self.summary["ledger"]

    def splits(self) -> dict[str, str]:
        return dict(zip(self.dataset.images["path"], self.dataset.images["split"], strict=True))


@dataclass
class Collected:
    """A folder like a version of `collect`, below `root`."""

    root: Path
    groups: dict[str, str] = field(default_factory=dict)

    @property
    def files(self) -> Path:
        return self.root / "files"

    def text(self, path: str, content: str) -> Collected:
        return self.data(path, content.encode())

    def data(self, path: str, content: bytes) -> Collected:
        target = self.files / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        return self

    def image(self, path: str, width: int = 100, height: int = 50, mode: str = "RGB", orientation: int = 0) -> Collected:
        """An image of its own content; `width`, `height` of the stored pixels."""
        target = self.files / path
        target.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.new(mode, (width, height))
        picture.putpixel((0, 0), picture.getpixel((0, 0)))
        options: dict[str, Any] = {}
        if orientation:
            exif = Image.Exif()
            exif[0x0112] = orientation
            options["exif"] = exif
        kind = {"jpg": "JPEG", "jpeg": "JPEG", "tif": "TIFF"}.get(target.suffix.lower()[1:], target.suffix[1:].upper())
        picture.save(target, kind, **options)
        return self

    def copy(self, source: Path) -> Collected:
        shutil.copytree(source, self.files, dirs_exist_ok=True)
        return self

    def voc(
        self, path: str, filename: str, boxes: Iterable[tuple[Any, ...]], size: tuple[Any, Any] | None = (100, 50)
    ) -> Collected:
        """A VOC file; boxes are (class, x1, y1, x2, y2)."""
        objects = "\n".join(
            f"<object><name>{escape(name)}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
            for name, x1, y1, x2, y2 in boxes
        )
        declared = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>" if size else ""
        return self.text(path, f"<annotation>\n<filename>{escape(filename)}</filename>\n{declared}\n{objects}\n</annotation>\n")

    def coco(self, path: str, images: list[Any], annotations: list[Any], categories: list[Any]) -> Collected:
        return self.text(path, json.dumps({"images": images, "annotations": annotations, "categories": categories}))

    def close(self) -> Path:
        """Write origins.jsonl."""
        rows = [
            {
                "path": path.relative_to(self.files).as_posix(),
                "origin": str(path),
                "group": self.groups.get(path.relative_to(self.files).as_posix(), ""),
                "hash": blake3(path.read_bytes()).hexdigest(),
                "size": path.stat().st_size,
            }
            for path in sorted(self.files.rglob("*"))
            if path.is_file()
        ]
        (self.root / "origins.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return self.root

    def run(self, **params: Any) -> Result:
        """The annotate stage, on what is here."""
        self.files.mkdir(parents=True, exist_ok=True)
        out = self.root / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir()
        warnings: list[str] = []
        context = Context(warn=warnings.append, workers=2)
        summary = annotate.run({"collect": self.close()}, annotate.Params.model_validate(params), out, context)
        return Result(Dataset.load(out), ledger.read(out), summary, warnings, out)
