"""Which decoder of videos there is."""

from __future__ import annotations

from importlib.util import find_spec
from types import ModuleType

from pipeline.machine import version_of


def decoder() -> ModuleType:
    """PyAV's module where it is installed, else OpenCV's: each has `index(path)` and `read(path, index, numbers, lost)`.

    OpenCV cannot seek to a frame for certain nor tell damage from the end: with it videos are decoded from the start, twice.
    """
    if find_spec("av"):
        from pipeline.sources import _video_pyav

        return _video_pyav
    from pipeline.sources import _video_opencv

    return _video_opencv


def decoder_version() -> str:
    """Which decoder and encoder make the pixels; another one may round them otherwise."""
    opencv = version_of("opencv-python") or version_of("opencv-python-headless")
    return f"PyAV {version_of('av')}, OpenCV {opencv}" if find_spec("av") else f"OpenCV {opencv}"
