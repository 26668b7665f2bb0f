"""Where Label Studio keeps its images, and its labelling configuration.

A task holds columns of data; one of them, often `image`, leads to the image, in one of these ways:

    /data/upload/3/1a2b3c4d-name.jpg         uploaded: Label Studio put 8 hexadecimal digits before the name
    /data/local-files/?d=folder/name.jpg     on the server's disk, percent-encoded
    s3://bucket/folder/name.jpg, https://host/folder/name.jpg?token=…

Whoever trains may have the folder that Label Studio exported, with the digits, or the original one: both names are given.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, unquote_plus

from pipeline.errors import DataError
from pipeline.formats._xml import parse, root_tag
from pipeline.labelling.labels import Labels, Malformed
from pipeline.paths import is_image

if TYPE_CHECKING:
    import xml.etree.ElementTree as ET

    from pipeline.labelling.fileset import FileSet

_LABEL_TAGS = {"labels", "rectanglelabels", "polygonlabels", "ellipselabels", "brushlabels", "bitmasklabels"}
_COLUMNS = ("image", "img", "picture", "photo", "url")
_PARAMETER = re.compile(r"[?&](?:d|filepath)=([^&]+)")
_UPLOADED = re.compile(r"[0-9a-f]{8}-(.+)")


@dataclass
class Config:
    """What the labelling configuration of a project says, if it lies beside the labels.

    Attributes:
        names: the classes in their order.
        columns: the data column that each Image tag shows, by the name of the tag.
    """

    names: list[str] = field(default_factory=list)
    columns: dict[str, str] = field(default_factory=dict)


def read_config(files: FileSet, labels: Labels) -> Config:
    """From every XML file with the root `<View>` (https://labelstud.io/guide/setup.html); an unreadable one is malformed."""
    config = Config()
    for path in files.with_suffix(".xml"):
        if root_tag(files, path) != "View":
            continue
        try:
            root = parse(files, path)
        except DataError as error:
            labels.malformed.append(Malformed.of(error, path))
            continue
        for element in root.iter():
            tag = element.tag.lower() if isinstance(element.tag, str) else ""
            if tag in _LABEL_TAGS:
                config.names += _class_names(element)
            elif tag == "image" and element.get("name"):
                config.columns[element.get("name", "")] = (element.get("value") or element.get("valueList") or "").lstrip("$")
    config.names = list(dict.fromkeys(config.names))
    return config


def _class_names(control: ET.Element) -> list[str]:
    """The labels of one tag, by their category (the class id of Label Studio's own exports) where each has one."""
    labels = list(control.iter("Label"))
    categories = [label.get("category", "") for label in labels]
    if all(category.isdecimal() and len(category) < 10 for category in categories):
        labels.sort(key=lambda label: int(label.get("category", "")))
    # Results bear the alias where there is one; `$name` stands for labels that come with each task.
    names = ((label.get("alias") or label.get("value") or "").strip() for label in labels)
    return [name for name in names if name and not name.startswith("$")]


def image_columns(data: Mapping[str, Any], config: Config) -> dict[str, list[str]]:
    """The columns of a task that lead to images, the likeliest first, each with one reference or, for several pages, more."""
    found: dict[str, list[str]] = {}
    for column, value in data.items():
        references = value if isinstance(value, list) else [value]
        if not references or not all(isinstance(text, str) and text.strip() for text in references):
            continue
        looks_so = all(is_image(name) for text in references for name in spellings(text, {})[:1])
        if looks_so or column.lower() in _COLUMNS or column in config.columns.values():
            found[column] = references
    order = {name: number for number, name in enumerate(_COLUMNS)}
    return dict(sorted(found.items(), key=lambda item: order.get(item[0].lower(), len(order))))


def spellings(reference: str, originals: Mapping[str, str]) -> tuple[str, ...]:
    """What the file may be called to which a reference leads, the likeliest first; none for pixels inside the JSON itself.

    Args:
        originals: see `names_before_upload`.
    """
    reference = reference.strip()
    if reference.startswith("data:"):
        return ()
    names = [reference]
    parameter = _PARAMETER.search(reference)
    if parameter:
        names = [unquote_plus(parameter[1]), unquote(parameter[1]), parameter[1]]
    elif "://" in reference:
        names = [re.sub(r"[?#].*", "", reference), reference]
    folder, _, name = unquote(names[0]).rpartition("/")
    uploaded = _UPLOADED.fullmatch(name)
    if uploaded and "upload" in folder.split("/"):
        names += [uploaded[1], originals.get(uploaded[1], "")]
    return tuple(dict.fromkeys(name for name in names if name))


def names_before_upload(photos: Iterable[str]) -> dict[str, str]:
    """What uploaded files were called before, by what Label Studio made of the name: it joins words by underscores and leaves
    out brackets and the like (https://docs.djangoproject.com/en/stable/ref/utils/, get_valid_filename)."""
    found: dict[str, str] = {}
    for photo in photos:
        name = photo.rpartition("/")[2]
        changed = re.sub(r"[^-\w.]", "", name.strip().replace(" ", "_"))
        if changed != name:
            found[changed] = "" if found.get(changed, name) != name else name
    return found
