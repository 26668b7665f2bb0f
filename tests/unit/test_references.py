from __future__ import annotations

import unicodedata

import pytest

from pipeline.labelling.references import BY_NAME, BY_STEM, EXACT, References

FILES = [
    "2007/JPEGImages/1.jpg",
    "2012/JPEGImages/1.jpg",
    "images/train/a b.jpg",
    "images/val/a b.jpg",
    "images/Grüße.jpg",
    "other/IMG_7.JPG",
    "photos/x/7.png",
    "photos/y/7.png",
    "same/stem.jpg",
    "same/stem.png",
]


@pytest.mark.parametrize(
    ("name", "near", "path", "rank"),
    [
        ("images/train/a b.jpg", "labels.json", "images/train/a b.jpg", EXACT),
        ("a b.jpg", "images/val/labels.json", "images/val/a b.jpg", EXACT),
        ("train/a b.jpg", "annotations/instances.json", "images/train/a b.jpg", BY_NAME),
        ("../images/val/a b.jpg", "labels/x.json", "images/val/a b.jpg", EXACT),
        ("/home/me/set/images/train/a b.jpg", "x.json", "images/train/a b.jpg", BY_NAME),
        (r"C:\data\val\a b.jpg", "x.json", "images/val/a b.jpg", BY_NAME),
        ("file:///data/val/a%20b.jpg", "x.json", "images/val/a b.jpg", BY_NAME),
        ("  images/val/a b.jpg\r", "x.txt", "images/val/a b.jpg", EXACT),
        ("1.jpg", "2012/Annotations/1.xml", "2012/JPEGImages/1.jpg", BY_NAME),
        ("7.png", "labels/y/7.txt", "photos/y/7.png", BY_NAME),
        ("img_7.jpg", "x.csv", "other/IMG_7.JPG", BY_NAME),
        ("IMG_7", "x.csv", "other/IMG_7.JPG", BY_STEM),
        ("IMG_7.png", "x.csv", "other/IMG_7.JPG", BY_STEM),
        (unicodedata.normalize("NFD", "Grüße.jpg"), "x.csv", "images/Grüße.jpg", BY_NAME),
        ("nowhere.jpg", "x.csv", "", EXACT),
        ("", "x.csv", "", EXACT),
        ("../../../etc/passwd", "x.csv", "", EXACT),
    ],
)
def test_find(name: str, near: str, path: str, rank: int) -> None:
    match = References(FILES).find(name, near)
    assert (match.path, match.rank) == (path, rank)
    assert match.candidates == ()


@pytest.mark.parametrize(
    ("name", "near", "candidates"),
    [
        ("1.jpg", "labels.csv", ("2007/JPEGImages/1.jpg", "2012/JPEGImages/1.jpg")),
        ("same/stem", "labels.csv", ("same/stem.jpg", "same/stem.png")),
        ("elsewhere/7.png", "labels.csv", ("photos/x/7.png", "photos/y/7.png")),
    ],
)
def test_what_stays_open_is_not_decided(name: str, near: str, candidates: tuple[str, ...]) -> None:
    match = References(FILES).find(name, near)
    assert match.path == ""
    assert match.candidates == candidates


@pytest.mark.parametrize("stem", ["photo ", "img.", "a. ."])
def test_a_stem_may_end_in_spaces_and_dots(stem: str) -> None:
    match = References([f"images/{stem}.jpg"]).find(f"{stem}.png", "labels.json")
    assert (match.path, match.rank) == (f"images/{stem}.jpg", BY_STEM)


RENAMED = {
    "images/x_y.jpg": "images/x:y.jpg",
    "images/_aux.jpg": "images/aux.jpg",
    "images/_con/1.jpg": "images/con/1.jpg",
    "_con/labels.json": "con/labels.json",
    "_con/a.jpg": "con/a.jpg",
}


@pytest.mark.parametrize(
    ("name", "near", "path"),
    [
        ("x:y.jpg", "labels.json", "images/x_y.jpg"),
        ("AUX.JPG", "labels.json", "images/_aux.jpg"),
        ("_aux.jpg", "labels.json", "images/_aux.jpg"),
        ("con/1.jpg", "labels.json", "images/_con/1.jpg"),
        (r"C:\data\con\1.jpg", "labels.json", "images/_con/1.jpg"),
        ("con/a.jpg", "labels.json", "_con/a.jpg"),
        ("a.jpg", "_con/labels.json", "_con/a.jpg"),
        ("scan:1.jpg", "labels.json", ""),
        ("scan_1.jpg", "labels.json", "scan_1.jpg"),
    ],
)
def test_renamed_files_go_by_both_names_and_no_others_do(name: str, near: str, path: str) -> None:
    files = [*RENAMED, "scan_1.jpg", "b/1.jpg", "b/a.jpg"]
    match = References([file for file in files if file.endswith(".jpg")], RENAMED).find(name, near)
    assert (match.path, match.candidates) == (path, ())


def test_a_renamed_folder_contradicts_neither_of_its_names() -> None:
    references = References(["images/_con/1.jpg"], RENAMED)
    assert [references.contradicts(f"{folder}/1.jpg", "images/_con/1.jpg") for folder in ("con", "_con", "b")] == [
        False,
        False,
        True,
    ]
    assert references.roots(["con/1.jpg", "1.jpg"]) == {"images/": 1, "images/con/": 1}


def test_roots() -> None:
    votes = References(["images/a.jpg", "images/images/a.jpg"]).roots(["a.jpg", "images/a.jpg"])
    assert votes == {"images/": 2, "images/images/": 1, "": 1}
