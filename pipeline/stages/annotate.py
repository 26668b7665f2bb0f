"""Turn collected images and label files of any known format into one data set.

The format is found by content. Every image and box that does not come through unchanged stands in the ledger. Images are
hard-linked, never changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from pipeline import formats
from pipeline.labelling.classes import Classes
from pipeline.stage import JSON, Context, Stage, StageParams


class Params(StageParams):
    """The section `annotate` of params.yaml."""

    format: str = Field(default="auto", description="a label format, or auto: found by content")
    options: dict[str, Any] = Field(default_factory=dict, description="options of the format, as its module lists them")
    classes: Classes = Field(default_factory=Classes, description="which classes there are; see the keys below")
    on_invalid: Literal["error", "drop", "fix"] = Field(
        default="fix",
        description="defects: fix swaps inverted and clips protruding boxes and drops what cannot be mended (no area, NaN, "
        "unknown class, no image); drop drops all of these, and images whose label file cannot be parsed; error stops and lists "
        "them. Whatever is done stands in the ledger",
    )
    frame: Literal["auto", "upright", "stored"] = Field(
        default="auto", description="how labels of EXIF-rotated photos were drawn; auto goes by declared sizes, else upright"
    )
    include_unlabelled: bool = Field(default=True, description="keep images that no label file mentions, as background")
    burst_seconds: float = Field(
        default=2.0,
        ge=0,
        le=3600,
        description="photos that one camera took within so many seconds of each other are a burst, which split keeps together "
        "(by EXIF; 0: none are)",
    )


def run(inputs: Mapping[str, Path], params: Params, out: Path, context: Context) -> JSON:
    from pipeline import files
    from pipeline.labelling.import_steps import Policy
    from pipeline.labelling.importing import import_folder
    from pipeline.ledger import Ledger

    ledger = Ledger()
    policy = Policy(**{field.name: getattr(params, field.name) for field in fields(Policy)})
    imported = import_folder(inputs["collect"], policy, ledger, context)
    dataset = imported.dataset
    with context.progress("link images", len(dataset.images)) as advance:
        for path in dataset.images["path"]:
            files.link(inputs["collect"] / "files" / path, out / "images" / path)
            advance()
    dataset.save(out)
    ledger.write(out)
    splits = dataset.images["split"].value_counts()
    return {
        **dataset.counts(),
        "format": imported.format,
        "format_reason": imported.reason,
        "boxes_read": imported.boxes_read,
        "unlabelled": imported.unlabelled,
        "background": int(len(dataset.images) - dataset.boxes["image"].nunique()),
        "splits": {name: int(splits[name]) for name in ("train", "val", "test") if name in splits},
        "ledger": ledger.counts(),
    }


def preflight(params: Params, context: Context) -> None:
    """Refuse an unknown format, and options that a named format does not have."""
    if params.format != "auto":
        formats.options(params.format, params.options)


STAGE = Stage(
    inputs=("collect",),
    params=Params,
    run=run,
    version=2,
    root="datasets",
    summary="read labels of any format into one data set",
    preflight=preflight,
)
