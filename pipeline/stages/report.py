"""report: one HTML page with everything: data, split, training, figures, worst and best images, exports, and how it was made.

The page is a single file that loads nothing from anywhere, so it can be mailed, archived and opened in ten years. The same
artifacts give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from pipeline import fingerprint
from pipeline.bench import RECORD
from pipeline.errors import ArtifactError
from pipeline.stage import JSON, Context, Stage, StageParams
from pipeline.version import Version

PAGE = "report.html"


class Params(StageParams):
    title: str = Field("", max_length=200, description="Heading of the page; empty: made of the classes")
    images: int = Field(6, ge=0, le=24, description="How many of the worst and of the best images are shown")


def external(params: Params, context: Context) -> dict[str, str]:
    """The benchmarks of models that were trained here: a new one may be of this model, and then belongs on the page."""
    told = [(version.label, version.digest, _size(version.path / RECORD)) for version in _benchmarks(context)]
    return {"benchmarks": fingerprint.of_value(told)} if told else {}


def _benchmarks(context: Context) -> list[Version]:
    return [version for version in context.benchmarks if _is_of_trained(version)]


def _is_of_trained(version: Version) -> bool:
    try:
        models = version.manifest["recipe"].get("models") or {}
    except ArtifactError:  # of a newer release
        return False
    return any(model.get("weights") == "fine-tuned" for model in models.values())


def _size(path: Path) -> int:
    """A record that was damaged, or mended, changes the page; -1 for one that is gone."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def run(inputs: Mapping[str, Path], params: Params, out: Path, context: Context) -> JSON:
    from pipeline import files
    from pipeline.web import page, text

    with context.progress("write the page", 1) as advance:
        html = page.render(inputs, params.title, params.images, _benchmarks(context), context.warn)
        files.write_text(out / PAGE, html)
        advance()
    size = (out / PAGE).stat().st_size
    return {"headline": f"one page, {text.size(size)}", "bytes": size}


STAGE = Stage(
    inputs=("collect", "annotate", "preprocess", "split", "augment", "train", "evaluate", "export"),
    params=Params,
    run=run,
    version=2,
    root="runs",
    summary="One HTML page with the data, the figures, the mistakes and how it was made.",
    libraries=("jinja2", "opencv-python", "opencv-python-headless"),
    external=external,
    reads_manifests=True,
)
