"""The photos behind the sample's scenes: which they are, where the installed packages keep them, and who owns them.

All of them lie inside the wheels of scikit-image and scikit-learn, so nothing is downloaded. Photos for which the package states
no licence (moon, page, the stereo motorcycle) are left out. Licences: docstrings of `skimage/data/_fetchers.py` and
`sklearn/datasets/images/README.txt`.

No heavy import at module level: the table is read on the way to a fingerprint.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import MissingDependency, how_to_install

if TYPE_CHECKING:
    from pipeline.detections import Image

LICENSES: dict[str, str] = {
    "CC0 1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "CC BY 2.0": "https://creativecommons.org/licenses/by/2.0/",
    "Public domain (NASA)": "https://www.nasa.gov/nasa-brand-center/images-and-media/",
    "Public domain (SpaceX)": "https://www.flickr.com/photos/spacexphotos/16511594820/",
    "No known copyright restrictions": "https://scikit-image.org/docs/stable/api/skimage.data.html",
}


@dataclass(frozen=True)
class Photo:
    """One background.

    Attributes:
        name: also the name of the group of its scenes.
        file: where it lies: import name of the package, then the path below the package's folder.
        license: key of `LICENSES`.
        credit: photographer and address, as the package states them.
        tint: (R, G, B) factors for the packages' grey textures, None for a photo as it is.
        anyhow: a texture without an up and down, which may be mirrored and turned freely.
    """

    name: str
    file: str
    license: str
    credit: str
    tint: tuple[float, float, float] | None = None
    anyhow: bool = False


STILL_PHOTOS = (
    Photo(
        "pavilion",
        "sklearn/datasets/images/china.jpg",
        "CC BY 2.0",
        "danielbuechele, flickr.com/photos/danielbuechele/6061409035",
    ),
    Photo("dahlia", "sklearn/datasets/images/flower.jpg", "CC BY 2.0", "vultilion, flickr.com/photos/vultilion/6056698931"),
    Photo("cat", "skimage/data/chelsea.png", "CC0 1.0", "Stéfan van der Walt"),
    Photo("astronaut", "skimage/data/astronaut.png", "Public domain (NASA)", "NASA, flic.kr/p/r9qvLn"),
    Photo("rocket", "skimage/data/rocket.jpg", "Public domain (SpaceX)", "SpaceX, flickr.com/photos/spacexphotos/16511594820"),
    Photo(
        "galaxies",
        "skimage/data/hubble_deep_field.jpg",
        "Public domain (NASA)",
        "NASA, HubbleSite news release 2012-37",
        anyhow=True,
    ),
    Photo("cameraman", "skimage/data/camera.png", "CC0 1.0", "Lav Varshney"),
    Photo("bricks", "skimage/data/brick.png", "CC0 1.0", "CC0Textures, Bricks25", tint=(1.55, 0.93, 0.72), anyhow=True),
    Photo("grass", "skimage/data/grass.png", "CC0 1.0", "linolafett, DeviantArt, Grass-01", tint=(0.84, 1.0, 0.5), anyhow=True),
    Photo("gravel", "skimage/data/gravel.png", "CC0 1.0", "CC0Textures, Gravel04", tint=(1.12, 1.0, 0.85), anyhow=True),
    Photo("coins", "skimage/data/coins.png", "No known copyright restrictions", "Brooklyn Museum", tint=(1.1, 0.98, 0.8)),
    Photo(
        "tissue",
        "skimage/data/ihc.png",
        "No known copyright restrictions",
        "Center for Microscopy and Molecular Imaging",
        anyhow=True,
    ),
)
VIDEO_PHOTO = Photo("coffee-video", "skimage/data/coffee.png", "CC0 1.0", "Rachel Michetti, Pikolo Espresso Bar")
PHOTOS = (*STILL_PHOTOS, VIDEO_PHOTO)


def location(photo: Photo) -> Path:
    """The photo's file inside the installed package.

    Raises:
        MissingDependency: the package is missing, or was repackaged without its pictures.
    """
    package, _, rest = photo.file.partition("/")
    spec = find_spec(package)  # finds the folder without running the package, which would take seconds
    folder = next(iter(spec.submodule_search_locations or ()), None) if spec else None
    path = Path(folder or package) / rest
    if folder is None or not path.is_file():
        raise MissingDependency(f"The sample needs the photo {photo.file}, which is not there.", how_to_install("sample"))
    return path


def load(photo: Photo) -> Image:
    """The photo as RGB uint8 (H, W, 3), tinted if it is one of the grey textures."""
    import numpy as np

    from pipeline import images

    pixels = images.decode(location(photo))
    if photo.tint is None:
        return pixels
    return np.clip(pixels * np.array(photo.tint, dtype=np.float32) + 0.5, 0, 255).astype(np.uint8)
