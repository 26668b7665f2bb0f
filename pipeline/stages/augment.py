"""augment: copies of the training images with drawn changes of light, colour and geometry; boxes follow.

Val and test pass through by hard link: the code that makes copies is only ever given the rows of the training split. What a copy
looks like depends on the content of its image, its number and the seed, and on nothing else: not on the other images, not on the
number of workers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pipeline.pixels.options import AugmentParams
from pipeline.stage import JSON, Context, Stage


def run(inputs: Mapping[str, Path], params: AugmentParams, out: Path, context: Context) -> JSON:
    from pipeline.pixels import augment

    return augment.run(inputs["split"], params, out, context)


def preflight(params: AugmentParams, context: Context) -> None:
    """Copies need albumentations: say so before anything runs."""
    from importlib.util import find_spec

    from pipeline.errors import MissingDependency

    if params.copies and find_spec("albumentations") is None:
        raise MissingDependency(
            "augment.copies asks for augmented images, but albumentations is not installed.",
            "Install the project's requirements again, or set augment.copies: 0.",
        )


STAGE = Stage(
    inputs=("split",),
    params=AugmentParams,
    run=run,
    version=3,
    root="datasets",
    summary="augmented copies of the training images",
    libraries=("albumentations", "numpy", "opencv-python", "opencv-python-headless"),
    preflight=preflight,
)
