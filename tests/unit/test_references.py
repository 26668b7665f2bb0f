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


def test_roots() -> None:
    votes = References(["images/a.jpg", "images/images/a.jpg"]).roots(["a.jpg", "images/a.jpg"])
    assert votes == {"images/": 2, "images/images/": 1, "": 1}
