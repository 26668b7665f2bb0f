"""preprocess: every image upright, readable and of the wanted size; boxes follow.

Here each image is decoded for the first time, so this is the gate that proves its pixels readable. An image that nothing changes
is hard-linked, byte for byte; one whose content a previous version has already seen is not even decoded.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.pixels.options import PreprocessParams
from pipeline.stage import JSON, Context, Stage


def run(inputs: Mapping[str, Path], params: PreprocessParams, out: Path, context: Context) -> JSON:
    from pipeline.pixels import preprocess

    return preprocess.run(inputs["annotate"], params, out, context)


STAGE = Stage(
    inputs=("annotate",),
    params=PreprocessParams,
    run=run,
    version=2,
    root="datasets",
    summary="orient, crop, resize and filter; boxes follow",
    libraries=("opencv-python", "opencv-python-headless", "pillow"),
)
