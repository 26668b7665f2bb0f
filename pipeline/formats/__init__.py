"""Label formats; one module a format, found by listing this folder.

A format module has:

    HOLDS = frozenset({...})                         what its files can say, of `Holdable`
    class Options(StageParams)                       what `annotate.options` may hold
    def detect(files) -> Evidence | None             whether the tree looks like this format, and what says so
    def read(files, ledger, options) -> Labels       report what the label files say; resolve, clip and repair nothing

and, unless the format is only read:

    IMAGES = "images"                                the folder of `out` where `write` puts the images
    def write(dataset, images_folder, out) -> None   a folder that `read` and the format's own tools understand; labels only
                                                     where `images_folder` is None. The caller renames `out` when it is whole

A format whose files name no images, because they are the frames of a video, also has

    def image_paths(dataset) -> list[str]            below `IMAGES`, what `write` calls each image

Its docstring names the specification (URL), units, axis origin and quirks; the first line says what marks the format.
`read` collects every label file that cannot be parsed in `Labels.malformed` rather than stopping at the first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, cast

from pydantic import AfterValidator, ValidationError

from pipeline import plugins
from pipeline.errors import DataError, ParamsError, did_you_mean
from pipeline.labelling.labels import Labels
from pipeline.ledger import Ledger
from pipeline.paths import is_image
from pipeline.stage import StageParams
from pipeline.wording import plural

if TYPE_CHECKING:
    from pipeline.dataset import Dataset
    from pipeline.labelling.fileset import FileSet


Holdable = Literal["splits", "class_order", "background", "sizes"]
"""What not every format can say: which split an image belongs to; the classes' order, and classes without boxes; images without
boxes; the images' width and height."""


@dataclass(frozen=True)
class Evidence:
    """What says that a tree holds labels of a format."""

    reason: str


class Format(Protocol):
    __doc__: str | None
    HOLDS: frozenset[Holdable]
    Options: type[StageParams]

    def detect(self, files: FileSet) -> Evidence | None: ...

    def read(self, files: FileSet, ledger: Ledger, options: Any) -> Labels: ...


class WritableFormat(Format, Protocol):
    IMAGES: str

    def write(self, dataset: Dataset, images_folder: Path | None, out: Path) -> None: ...


def names() -> list[str]:
    return plugins.names(__name__)


def writable_names() -> list[str]:
    return [name for name in names() if hasattr(load(name), "write")]


def load_writable(name: str) -> WritableFormat:
    """The module of a format that can be written.

    Raises:
        ParamsError: there is none of that name, or it can only be read.
    """
    is_known = name in names()
    if is_known and hasattr(load(name), "write"):
        return cast(WritableFormat, load(name))
    what = f"the format '{name}' can be read, but not written" if is_known else f"there is no label format '{name}'"
    raise ParamsError(f"--to: {what}", did_you_mean(name, writable_names()))


def names_images(name: str) -> bool:
    """Whether the files of a format name the images that they speak of; else these are matched by their numbers."""
    return not hasattr(load(name), "image_paths")


def load(name: str) -> Format:
    """The module of a format.

    Raises:
        ParamsError: there is none of that name.
    """
    if name not in names():
        raise ParamsError(f"There is no label format '{name}'", did_you_mean(name, ["auto", *names()]))
    return cast(Format, plugins.load(__name__, name))


def options(name: str, values: Mapping[str, object]) -> StageParams:
    """The options of a format, checked.

    Raises:
        ParamsError: an option it does not have, or of the wrong type; all of them at once.
    """
    model = load(name).Options
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        problems = [f"annotate.options.{'.'.join(map(str, found['loc']))}: {found['msg']}" for found in error.errors()]
        known = ", ".join(model.model_fields) or "none"
        raise ParamsError(f"annotate.options does not fit the format '{name}'", f"Its options: {known}.", problems) from error


def describe() -> str:
    """All formats by name, for a message."""
    return f"Known formats: {', '.join(names())} (docs/formats.md says what marks each)."


def _malformed(files: FileSet) -> list[str]:
    """Files that would be labels of some format, if they could be parsed: `path:line: malformed JSON (…)`."""
    from pipeline.formats import _json, _xml

    problems = []
    for path in files.paths:
        parse = {"json": _json.parse, "xml": _xml.parse}.get(path.rpartition(".")[2].lower())
        if parse is not None:
            try:
                parse(files, path)
            except DataError as error:
                problems.append(error.message)
    return problems


class NoLabels(DataError):
    """A tree without one label file of a known format."""


def choose(files: FileSet) -> tuple[str, str]:
    """The format of a tree, by its content, and the reason.

    Raises:
        NoLabels: none fits.
        DataError: two fit equally well.
    """
    found = [(name, evidence) for name in names() if (evidence := load(name).detect(files))]
    if not found:
        if problems := _malformed(files):
            raise DataError(
                f"There are no labels that can be read beside the {plural(len(files.photos), 'image')} in {files.called}.",
                "Mend these files; until then nothing can tell whether they hold labels.",
                problems,
            )
        others = [path for path in files.paths if not is_image(path)]
        seen = f"Other files there: {', '.join(others[:5])}{' …' if len(others) > 5 else ''}.\n" if others else ""
        raise NoLabels(
            f"There are no labels in a known format beside the {plural(len(files.photos), 'image')} in {files.called}.",
            f"{seen}{describe()}\nLabels may also lie in a folder beside the images: collect their common parent.",
        )
    if len(found) > 1:
        raise DataError(
            f"There are labels in {len(found)} formats in {files.called}, and nothing says which to use",
            f"Set annotate.format to {' or '.join(name for name, _ in found)}; or read them all: annotate.sources, "
            "one entry a folder.",
            [f"{name}: {evidence.reason}" for name, evidence in found],
        )
    return found[0][0], found[0][1].reason


def _known(name: str) -> str:
    if name != "auto" and name not in names():  # the folder is not listed for what nearly everybody has
        raise ValueError(f"there is no label format '{name}'. {did_you_mean(name, ['auto', *names()])}")
    return name


FormatName = Annotated[str, AfterValidator(_known)]
"""A label format's name or "auto", in params."""
