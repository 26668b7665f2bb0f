"""report: one HTML page with everything: data, split, training, figures, worst and best images, exports, and how it was made.

The page is a single file that loads nothing from anywhere, so it can be mailed, archived and opened in ten years. The same
artifacts give the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from pipeline.stage import JSON, Context, Stage, StageParams

PAGE = "report.html"


class Params(StageParams):
    title: str = Field("", max_length=200, description="Heading of the page; empty: made of the classes")
    images: int = Field(6, ge=0, le=24, description="How many of the worst and of the best images are shown")


def run(inputs: Mapping[str, Path], params: Params, out: Path, context: Context) -> JSON:
    from pipeline import files
    from pipeline.web import page, text

    with context.progress("write the page", 1) as advance:
        html = page.render(inputs, params.title, params.images)
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
    reads_manifests=True,
)
