"""Every label format there and back, and with damaged files."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from pathlib import Path

import pytest
from hypothesis import assume, given, reject, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline import formats
from pipeline.dataset import Dataset
from pipeline.errors import DataError, PipelineError
from pipeline.labelling.fileset import FileSet
from pipeline.labelling.import_steps import Policy
from pipeline.labelling.merging import import_sources
from pipeline.ledger import Ledger
from pipeline.paths import is_image
from pipeline.stage import Context
from tests.contract.test_formats import label
from tests.labelling import Collected

FORMATS = formats.names()
SIZES = [(1, 1), (7, 5), (640, 480), (1919, 1081), (4001, 2999)]

_characters = st.characters(codec="utf-8", exclude_categories=["C", "Z"], exclude_characters='/\\:*?"<>|.~')
_words = st.text(_characters, min_size=1, max_size=20)
_names = _words | st.sampled_from(["no", "1", "a b", "Ärger", "true", "0x10"])
_folders = st.sampled_from(["", "a/", "images/", "labels/", "a b/ü/", "JPEGImages/", "Annotations/", "x.y/"])
_stems = _words | st.sampled_from(["1", "a b", "v1.2", "日本", "🙂", "x" * 200, "100%", "classes", "train"])
_paths = st.tuples(_folders, _stems).map("".join)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of each size, named after it."""
    folder = tmp_path_factory.mktemp("pictures")
    for width, height in SIZES:
        Image.new("1", (width, height)).save(folder / f"{width}x{height}.png")
    return folder


def _shares(low: float, high: float) -> st.SearchStrategy[float]:
    """Not to the last bit: two boxes that differ by 1e-300 px are one in any format that stores a centre."""
    return st.floats(low, high).map(lambda value: round(value, 9))


@st.composite
def datasets(draw: st.DrawFn) -> Dataset:
    names = draw(st.lists(_names, min_size=1, max_size=4, unique=True))
    stems = draw(st.lists(_paths, min_size=1, max_size=5, unique_by=lambda path: path.lower()))
    splits = st.sampled_from(["train", "val", "test"]) if draw(st.booleans()) else st.just("")
    images, boxes = [], []
    for number, (stem, suffix) in enumerate(zip(stems, itertools.cycle([".jpg", ".PNG", ".webp"]), strict=False)):
        width, height = draw(st.sampled_from(SIZES))
        images.append({"path": stem + suffix, "width": width, "height": height, "split": draw(splits)})
        for _ in range(draw(st.integers(0, 3))):
            left, top = draw(_shares(0, 0.9)) * width, draw(_shares(0, 0.9)) * height
            right, bottom = left + draw(_shares(0.01, 0.1)) * width, top + draw(_shares(0.01, 0.1)) * height
            row = (number, draw(st.integers(0, len(names) - 1)), left, top, min(right, width), min(bottom, height))
            boxes += [row] if row not in boxes else []
    return Dataset.from_rows(names, images, boxes)


@pytest.mark.parametrize("name", formats.writable_names())
@settings(max_examples=25)
@given(dataset=datasets())
def test_there_and_back(name: str, pictures: Path, dataset: Dataset) -> None:
    """Equal to 1e-6 px, and in everything else that the format says it holds."""
    module = formats.load_writable(name)
    if "class_order" not in module.HOLDS:
        assume(len(dataset.boxes))  # such a format knows only the classes that occur
    with tempfile.TemporaryDirectory() as temporary:
        source, collected = Path(temporary) / "source", Collected(Path(temporary) / "collected")
        for path, width, height in dataset.images[["path", "width", "height"]].itertuples(index=False):
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            (source / path).hardlink_to(pictures / f"{width}x{height}.png")
        try:
            module.write(dataset, source, collected.files)
        except DataError:
            reject()  # what the format cannot hold at all, and says so
        back = collected.run(format=name).dataset
    paths = dataset.images["path"] if formats.names_images(name) else module.image_paths(dataset)
    written = [f"{module.IMAGES}/{path}" for path in paths]
    order = sorted(range(len(written)), key=lambda number: written[number])
    assert back.images["path"].tolist() == [written[number] for number in order]
    assert back.images[["width", "height"]].to_numpy().tolist() == dataset.images[["width", "height"]].to_numpy()[order].tolist()
    if "splits" in module.HOLDS:
        mentioned = [number for number in order if "background" in module.HOLDS or len(dataset.boxes_of(number))]
        splits = dict(zip(back.images["path"], back.images["split"], strict=True))
        assert [splits[written[number]] for number in mentioned] == dataset.images["split"].iloc[mentioned].tolist()
    for number, original in enumerate(order):
        edges, class_ids = dataset.edges_of(original)
        back_edges, back_ids = back.edges_of(number)
        assert [back.class_names[i] for i in back_ids] == [dataset.class_names[i] for i in class_ids]
        assert back_edges == pytest.approx(edges, abs=1e-6)
    if "class_order" in module.HOLDS:
        assert back.class_names == dataset.class_names


SIZED = [name for name in formats.writable_names() if "sizes" in formats.load(name).HOLDS]


@pytest.mark.parametrize("name", SIZED)
def test_labels_alone_hold_everything_but_the_pixels(name: str, tmp_path: Path) -> None:
    module = formats.load_writable(name)
    rows = [{"path": "x/a.jpg", "width": 640, "height": 480}, {"path": "b.png", "width": 30, "height": 20}]
    dataset = Dataset.from_rows(["cat", "dog"], rows, [(0, 1, 1.5, 2.25, 600, 470), (1, 0, 1, 2, 3, 4)])
    module.write(dataset, None, tmp_path)
    assert not any(is_image(path.name) for path in tmp_path.rglob("*"))
    (back,) = import_sources(FileSet.scan(tmp_path), [Policy(format=name, has_images=False)], Ledger(), Context())
    images = back.dataset.images[["width", "height"]].to_numpy().tolist()
    assert sorted(images) == [[30, 20], [640, 480]]
    edges, class_ids = back.dataset.edges_of(images.index([640, 480]))
    assert [back.dataset.class_names[i] for i in class_ids] == ["dog"]
    assert edges[0] == pytest.approx([1.5, 2.25, 600, 470], abs=1e-6)


@pytest.mark.parametrize("name", ["voc", "yolo"])
def test_images_that_would_share_a_label_file_are_not_written(name: str, tmp_path: Path) -> None:
    rows = [{"path": path, "width": 10, "height": 10} for path in ("a.jpg", "a.png")]
    for row in rows:
        Image.new("L", (10, 10)).save(tmp_path / str(row["path"]))
    with pytest.raises(DataError, match=r"a\.jpg and a\.png would share"):
        formats.load(name).write(Dataset.from_rows(["x"], rows, []), tmp_path, tmp_path / "out")


_pieces = st.binary(max_size=12) | st.sampled_from([b"NaN", b"-1", b"1e999", b"[]", b"{}", b"<", b"null"])
_splices = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 40), _pieces), min_size=1, max_size=4)


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=60)
@given(splices=_splices, which=st.integers(0, 3), mode=st.sampled_from(["fix", "drop", "error"]))
def test_damaged_files_end_in_a_data_set_or_a_clear_error(
    name: str, splices: list[tuple[float, int, bytes]], which: int, mode: str
) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        collected = label(Collected(Path(temporary)), name, {"a.jpg": [("cat", 1, 2, 3, 4)], "b.jpg": [("dog", 1, 2, 3, 4)]})
        targets = sorted(path for path in collected.files.rglob("*") if path.is_file() and path.suffix != ".jpg")
        target = targets[which % len(targets)]
        data = target.read_bytes()
        for position, length, replacement in splices:
            start = int(position * len(data))
            data = data[:start] + replacement + data[start + length :]
        target.write_bytes(data)
        # Anything but a PipelineError fails the test; a data set is validated as it is made.
        with contextlib.suppress(PipelineError):
            result = collected.run(format=name, on_invalid=mode)
            assert len(result.dataset.boxes) <= result.summary["boxes_read"]
