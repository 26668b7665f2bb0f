"""collect: bring raw images, and the labels that come with them, from one or several sources into a versioned folder.

The artifact holds `files/` (as the source has them, nested folders kept; of several sources each in a folder of its own),
`origins.jsonl` (where each file came from, its hash, size and licence), `times.jsonl` (when it came), `source.json` and the
ledger.
Sources are never modified.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field, model_validator

from pipeline import collecting
from pipeline.collecting import Part, Source
from pipeline.stage import JSON, Context, Stage, StageParams
from pipeline.wording import plural


class Params(StageParams):
    source: str = Field(
        default="sample",
        min_length=1,
        description="a folder, archive, video, address, or a source's name; see docs/collect.md",
    )
    options: dict[str, Any] = Field(default_factory=dict, description="options of the chosen source")
    license: str = Field(default="", description="the licence of the images, when the source does not state it")
    sources: list[Source] = Field(
        default_factory=list,
        description="several sources instead, each with its source and, as it needs them, name, options, license and format",
    )
    seed: int = Field(default=0, ge=0, description="the seed of the whole run, unless given here")

    @model_validator(mode="after")
    def _one_way_to_say_it(self) -> Params:
        if self.sources and (self.source != "sample" or self.options or self.license):
            raise ValueError("with `sources`, source, options and license must be given for each of them")
        return self


def _parts(params: Params, context: Context) -> list[Part]:
    only = Source(source=params.source, options=params.options, license=params.license)
    return collecting.arrange(params.sources or [only], context, several=bool(params.sources))


def external(params: Params, context: Context) -> dict[str, str]:
    """What each source holds now."""
    return {
        f"source files{' of ' + part.name if part.folder else ''}": part.fingerprint(params.seed, context)
        for part in _parts(params, context)
    }


def run(inputs: Mapping[str, Path], params: Params, out: Path, context: Context) -> JSON:
    brought = [collecting.bring(part, params.seed, out, context) for part in _parts(params, context)]
    return collecting.write(out, brought, context)


def headline(summary: JSON) -> str:
    counts = f"{plural(summary['images'], 'image')}, {plural(summary['other_files'], 'other file')}"
    return f"{counts} from {summary['description']}"


STAGE = Stage(
    inputs=(),
    params=Params,
    run=run,
    version=4,
    root="datasets",
    summary="bring images and labels from a source into a versioned folder",
    external=external,
    takes_over=("stage_version",),
    headline=headline,
)
