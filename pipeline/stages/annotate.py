"""Turn collected images and label files of any known format into one data set.

The format is found by content. Every image and box that does not come through unchanged stands in the ledger. Images are
hard-linked, never changed. A data card (`CARD.md`) says what the data set is and what is wrong with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from pipeline import formats
from pipeline.labelling.classes import Classes
from pipeline.stage import JSON, Context, Stage, StageParams

if TYPE_CHECKING:
    from pipeline.labelling.import_steps import Policy


class Source(StageParams):
    """One of several sources of labels, with rules of its own."""

    folder: str = Field(min_length=1, description="the folder of it in what was collected")
    images: str = Field(default="", description="the folder of its images, if they lie elsewhere")
    format: formats.FormatName = Field(default="auto", description="a label format, or auto")
    options: dict[str, Any] = Field(default_factory=dict, description="options of the format")
    classes: Classes = Field(default_factory=Classes, description="which classes there are, before the sources are put together")
    frame: Literal["auto", "upright", "stored"] = Field(default="auto", description="as annotate.frame")


class Params(StageParams):
    """The section `annotate` of params.yaml."""

    format: formats.FormatName = Field(default="auto", description="a label format, or auto: found by content")
    options: dict[str, Any] = Field(default_factory=dict, description="options of the format, as docs/formats.md lists them")
    images: str = Field(
        default="", description="the folder, in what was collected, of the images, if it is not that of the labels"
    )
    sources: list[Source] = Field(
        default_factory=list,
        description="several folders of what was collected that become one data set, each with its folder and, as it needs them, "
        "images, format, options, classes and frame",
    )
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
    repair: bool = Field(
        default=False,
        description="also leave out exact copies of images; `check --fix` makes such a version. Copies with different labels "
        "are kept, for a person to judge",
    )
    burst_seconds: float = Field(
        default=2.0,
        ge=0,
        le=3600,
        description="photos that one camera took within so many seconds of each other are a burst, which split keeps together "
        "(by EXIF; 0: none are)",
    )

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> Params:
        if self.sources:
            given = sorted(self.model_fields_set & {"format", "options", "images", "frame"})
            if any(getattr(self, key) not in ("auto", "", {}) for key in given):
                raise ValueError(f"with `sources`, {', '.join(given)} must be given for each of them")
        return self


def run(inputs: Mapping[str, Path], params: Params, out: Path, context: Context) -> JSON:
    from pipeline import files
    from pipeline.datacard import read_origin, write_card
    from pipeline.labelling import merging
    from pipeline.labelling.fileset import FileSet
    from pipeline.labelling.importing import read_origins, read_renamed, warn_of_losses, warn_of_unlabelled
    from pipeline.ledger import Ledger
    from pipeline.sources import ORIGINS

    about = read_origin(inputs["collect"])
    params = for_collected(params, about)
    ledger = Ledger()
    name, renamed = str(about.get("description") or ""), read_renamed(inputs["collect"])
    tree = FileSet.scan(inputs["collect"] / "files", name=name, renamed=renamed)
    origins = read_origins(inputs["collect"] / ORIGINS)
    imported = merging.import_sources(tree, policies(params), ledger, context, origins)
    dataset = imported[0].dataset
    if params.sources:
        dataset = merging.merge([part.dataset for part in imported], params.classes, ledger)
    if params.sources or params.images:
        for path in sorted(set(tree.photos) - set(dataset.images["path"]) - {entry.path for entry in ledger.entries}):
            ledger.add("image", "dropped", "in_no_source", path=path)
    if params.repair:
        from pipeline.health.repair import repair

        dataset = repair(dataset, ledger)
    warn_of_losses(ledger, context)
    warn_of_unlabelled(dataset, ledger, context)
    with context.progress("link images", len(dataset.images)) as advance:
        for path in dataset.images["path"]:
            files.link(tree.photo(path), out / "images" / path)
            advance()
    undecided = {path: boxes for part in imported for path, boxes in part.undecided.items()}
    if undecided:
        from pipeline.labelling.frame_pictures import draw_frames

        draw_frames(dataset, undecided, tree, out)
    dataset.save(out)
    ledger.write(out)
    formats_read = ", ".join(dict.fromkeys(part.format for part in imported))
    write_card(out, dataset, {**about, "labels": formats_read}, ledger.entries)
    splits = dataset.images["split"].value_counts()
    return {
        **dataset.counts(),
        "format": formats_read,
        "format_reason": "; ".join(part.reason for part in imported),
        "boxes_read": len(dataset.boxes) + sum(entry.item == "box" and entry.action == "dropped" for entry in ledger.entries),
        "unlabelled": sum(entry.reason == "no_label_file" for entry in ledger.entries),
        "background": dataset.background(),
        "splits": {name: int(splits[name]) for name in ("train", "val", "test") if name in splits},
        "ledger": ledger.counts(),
    }


def for_collected(params: Params, about: Mapping[str, Any]) -> Params:
    """Where collect has several sources, each is read by itself, in the format that was said of it.

    Args:
        about: `source.json` of collect.
    """
    collected = about.get("sources", ())
    if params.sources or not collected:
        return params
    sources = [
        Source(
            folder=each["name"],
            format=each["format"] if params.format == "auto" else params.format,
            options=params.options,
            frame=params.frame,
        )
        for each in collected
    ]
    return params.model_copy(update={"sources": sources})


def policies(params: Params, **given: Any) -> list[Policy]:
    """One a source; a key that a source has itself goes before the stage's, and what is `given` before both."""
    from pipeline.labelling.import_steps import Policy

    known = {field.name for field in fields(Policy)}
    whole = {name: value for name, value in params if name in known}
    if not params.sources:
        return [Policy(**{**whole, **given})]
    return [Policy(**{**whole, **dict(source), **given}) for source in params.sources]


def preflight(params: Params, context: Context) -> None:
    """Refuse an unknown format, and options that a named format does not have."""
    wishes: list[Params | Source] = [params, *params.sources]
    for wish in wishes:
        if wish.format != "auto":
            formats.options(wish.format, wish.options)


STAGE = Stage(
    inputs=("collect",),
    params=Params,
    run=run,
    version=4,
    root="datasets",
    summary="read labels of any format into one data set",
    preflight=preflight,
)
