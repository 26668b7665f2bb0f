"""Where a YOLO data set keeps its class names and splits: data.yaml, darknet's .data and .names files, classes.txt.

Their paths mostly come from another machine or from a working directory nobody knows (`/Users/tony/…/train/images`, Roboflow's
`../train/images`, darknet's `data/train.txt`); each is matched by its trailing folders, those near the file first.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.errors import DataError
from pipeline.formats._common import brief
from pipeline.formats._yaml import parse as parse_yaml
from pipeline.labelling.labels import Labels, Malformed, SplitList
from pipeline.labelling.references import References
from pipeline.ledger import Ledger
from pipeline.paths import is_image

if TYPE_CHECKING:
    from pipeline.labelling.fileset import FileSet

_SPLIT_KEYS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
_YAML_MARKS = re.compile(r"^(names|nc|train|val)\s*:", re.MULTILINE)
MAX_CLASSES = 10_000


@dataclass
class Config:
    """One file that lists classes or splits.

    Attributes:
        file: relative path.
        kind: 0 data.yaml, 1 darknet's .data, 2 a .names file, 3 classes.txt, 4 a list of images; the lower is believed.
        names: None when it lists none.
        splits: what it says about splits.
        keypoints: numbers that follow a box in a pose data set.
        lists: the text files that it is or refers to, which are no label files.
    """

    file: str
    kind: int
    names: list[str] | None = None
    splits: list[SplitList] = field(default_factory=list)
    keypoints: int = 0
    lists: set[str] = field(default_factory=set)


def find_configs(files: FileSet, labels: Labels, ledger: Ledger) -> list[Config]:
    """Every configuration of the tree, the most trustworthy first; unreadable ones go to `labels.malformed`."""
    others = References(set(files.paths) - set(files.photos), files.renamed)
    found: list[Config] = []
    for path in files.paths:
        name = path.rpartition("/")[2].lower()
        try:
            if name.endswith((".yaml", ".yml")):
                config = _read_yaml(files, path, others, ledger)
            elif name.endswith(".data"):
                config = _read_data(files, path, others, ledger)
            elif name.endswith(".names") or name == "_darknet.labels":
                config = Config(path, 2, _lines(files, path))
            elif name == "classes.txt" and path not in {place for photo in files.photos for place in label_paths(photo)}:
                config = Config(path, 3, _lines(files, path), lists={path})
            else:
                continue
        except DataError as error:
            labels.malformed.append(Malformed.of(error, path))
        else:
            if config:
                found.append(config)
    if not any(config.splits for config in found):
        found += _loose_lists(files, labels)
    return sorted(found, key=lambda config: (config.kind, config.file.count("/"), config.file))


def label_paths(photo: str) -> tuple[str, str]:
    """Where the labels of a photo may lie: the last folder `images` becomes `labels`, as YOLO tools have it; or beside it."""
    folders, stem = photo.split("/")[:-1], photo.rpartition("/")[2].rpartition(".")[0]
    beside = "/".join([*folders, f"{stem}.txt"])
    for number in range(len(folders) - 1, -1, -1):
        if folders[number] in ("images", "JPEGImages"):
            folders[number] = "labels"
            break
    return "/".join([*folders, f"{stem}.txt"]), beside


def _loose_lists(files: FileSet, labels: Labels) -> list[Config]:
    """darknet's train.txt and its kind where no obj.data points to them: every line names an image."""
    found = []
    for path in files.with_suffix(".txt"):
        split = _SPLIT_KEYS.get(path.rpartition("/")[2].lower().removesuffix(".txt"))
        if not split:
            continue
        try:
            lines = files.read_text(path).rstrip().splitlines()
        except DataError as error:
            if not any(path in label_paths(photo) for photo in files.photos):  # else a label file, which `read` reports
                labels.malformed.append(Malformed.of(error, path))
            continue
        if lines and all(is_image(line.strip()) for line in lines):
            found.append(Config(path, 4, splits=[SplitList(split, path, lines)], lists={path}))
    return found


def _lines(files: FileSet, path: str) -> list[str]:
    return [line.strip() for line in files.read_text(path).rstrip().splitlines()]


def _read_yaml(files: FileSet, path: str, others: References, ledger: Ledger) -> Config | None:
    text = files.read_text(path)
    if not _YAML_MARKS.search(text):
        return None
    # The base loader leaves every scalar a text: a class called `no` or `1e3` must not become False or 1000.0.
    document = parse_yaml(text, path)
    if not isinstance(document, dict) or not ({"names", "nc"} & document.keys()):
        return None
    config = Config(path, 0, _yaml_names(document, path))
    shape = document.get("kpt_shape")
    if isinstance(shape, list) and len(shape) == 2:
        count, width = map(_number, shape)
        if count is None or width is None:
            raise DataError(f"{path}: `kpt_shape` must be two numbers below {MAX_CLASSES}, got {brief(shape)}")
        config.keypoints = count * width
    base = document.get("path") if isinstance(document.get("path"), str) else ""
    for key, split in _SPLIT_KEYS.items():
        entries = document.get(key)
        for entry in entries if isinstance(entries, list) else [entries]:
            if isinstance(entry, str) and entry.strip():
                _add_split(config, split, entry.strip(), str(base), files, others, ledger)
    return config


def _number(text: Any) -> int | None:
    """A whole number below MAX_CLASSES; None for what is none. `int` refuses thousands of digits with an error of its own."""
    if not isinstance(text, str) or not text.isdecimal() or len(text) > 20:
        return None
    return number if (number := int(text)) < MAX_CLASSES else None


def _yaml_names(document: dict[str, Any], path: str) -> list[str] | None:
    names, count = document.get("names"), _number(document.get("nc"))
    if isinstance(names, dict):
        by_number = {number: name for key, name in names.items() if (number := _number(key)) is not None}
        if len(by_number) < len(names):
            raise DataError(f"{path}: the keys of `names` must be class numbers, each once, got {brief(list(names)[:5])}")
        names = [by_number.get(number, f"class_{number}") for number in range(max(by_number, default=-1) + 1)]
    if names is None and count is not None:
        return [f"class_{number}" for number in range(count)]
    if names is None:
        raise DataError(f"{path}: `nc` must be a number below {MAX_CLASSES}, got {brief(document.get('nc'))}")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(f"{path}: `names` must be a list of names or a mapping of numbers to names")
    return [name.strip() for name in names]


def _read_data(files: FileSet, path: str, others: References, ledger: Ledger) -> Config | None:
    lines = (line for line in files.read_text(path).splitlines() if not line.lstrip().startswith("#"))
    values = {key.strip(): value.strip() for key, separator, value in (line.partition("=") for line in lines) if separator}
    if not ({"names", "train"} & values.keys()):
        return None
    config = Config(path, 1)
    names = others.find(values["names"], path).path if values.get("names") else ""
    if names:
        config.names = _lines(files, names)
        config.lists.add(names)
    for key, split in _SPLIT_KEYS.items():
        if values.get(key):
            _add_split(config, split, values[key], "", files, others, ledger)
    return config


def _add_split(config: Config, split: str, entry: str, base: str, files: FileSet, others: References, ledger: Ledger) -> None:
    if entry.lower().endswith(".txt"):
        found = others.find(entry, config.file).path
        if found:
            config.splits.append(SplitList(split, found, files.read_text(found).splitlines()))
            config.lists.add(found)
            return
    else:
        folder = _find_folder(files, entry, base, config.file)
        if folder is not None:
            config.splits.append(SplitList(split, config.file, files.photos_below(folder), exact=True))
            return
    ledger.add("file", "kept", "split_not_found", file=config.file, detail=f"{split}: no folder or list here is surely '{entry}'")


def _find_folder(files: FileSet, entry: str, base: str, near: str) -> str | None:
    """The folder of the tree that `entry` means: the longest trailing part of it that exists, looked for near the file first."""
    parts = [part for part in f"{base}/{entry}".replace("\\", "/").split("/") if part not in ("", ".", "..")]
    here = files.renamed.get(near, near).rpartition("/")[0]
    if not parts:
        return files.folder_of[here]
    beside = [here]
    while beside[-1]:
        beside.append(beside[-1].rpartition("/")[0])
    for start in range(len(parts)):
        ending = "/".join(parts[start:])
        for folder in beside:
            path = f"{folder}/{ending}" if folder else ending
            if path in files.folder_of:
                return files.folder_of[path]
        elsewhere = {folder for name, folder in files.folder_of.items() if name.endswith("/" + ending)}
        if elsewhere:
            return elsewhere.pop() if len(elsewhere) == 1 else None
    return None


def class_names(configs: list[Config], labels: Labels, ledger: Ledger) -> tuple[list[str] | None, str]:
    """The class names that the tree agrees upon, and the file they are from; None when no file lists any.

    Two equally trustworthy files that disagree go to `labels.malformed`, because one of them gives every box the wrong class.
    """
    listing = [config for config in configs if config.names]
    if not listing:
        return None, ""
    best = listing[0]
    for other in listing[1:]:
        if other.names == best.names:
            continue
        if other.kind == best.kind:
            message = f"its class names differ from those in {best.file}: {other.names} and {best.names}"
            labels.malformed.append(Malformed(other.file, 0, message))
        else:
            ledger.add("file", "kept", "other_class_names", file=other.file, detail=f"{best.file} is believed instead")
    names = [name or f"class_{number}" for number, name in enumerate(best.names or [])]
    return names, best.file
