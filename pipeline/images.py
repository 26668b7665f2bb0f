"""The only decoder and encoder of pixels.

Everything in memory is upright RGB, uint8, (H, W, 3), whatever the file holds: EXIF-rotated, grey, palette, 16-bit, CMYK or
transparent. Headers are read without decoding. Of a file with several pages or frames (TIFF, GIF, MPO) the first is read. A file
that cannot be read whole raises `UnreadableImage`; nothing is repaired and nothing is half-read in silence.

OpenCV and Pillow are imported where they are needed: an import of labels reads headers only, those of plain JPEGs by itself.
"""

from __future__ import annotations

import os
import struct
import warnings
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from pipeline import files
from pipeline.detections import Image
from pipeline.errors import DataError

if TYPE_CHECKING:
    from PIL import Image as PillowImage

JPEG_SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif"})
MAX_PIXELS = 200_000_000
"""A header that promises more is taken for a decompression bomb (a 200-megapixel photo still passes)."""

ORIENTATION_TAG = 0x0112
# EXIF 2.32 (CIPA DC-008): maker and model; in the sub-directory the serial number, the moment, and the parts of its second.
MAKER_TAG, MODEL_TAG, DETAILS_TAG = 0x010F, 0x0110, 0x8769
SERIAL_TAG, TAKEN_TAG, SUBSECOND_TAG = 0xA431, 0x9003, 0x9291
SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"RIFF", b"BM", b"II*\0", b"MM\0*", b"GIF8", b"P5", b"P6")
"""First bytes of the formats in `paths.IMAGE_SUFFIXES`: a file that starts so and cannot be opened was an image once."""

_PLAIN_SEGMENTS = frozenset({0xC0, 0xC1, 0xC2, 0xC4, 0xDB, 0xDD, 0xE0, 0xFE})
"""Of a JPEG: frames (baseline, extended, progressive), Huffman and quantisation tables, restart interval, JFIF, comment."""

CV2_KINDS = ("JPEG", "PNG", "BMP", "WEBP", "PPM")
CV2_MODES = ("RGB", "RGBA", "L", "LA", "I;16", "RGB;16", "RGBA;16", "LA;16")


class UnreadableImage(DataError):
    """A file that is no image, is cut off, or is too large to be one. `reason` is a code for the ledger."""

    def __init__(self, message: str, reason: str = "unreadable") -> None:
        super().__init__(message)
        self.reason = reason

    def __reduce__(self) -> tuple[type[UnreadableImage], tuple[str, str]]:  # type: ignore[override]
        return type(self), (self.message, self.reason)


@dataclass(frozen=True)
class Header:
    """What a file says of itself without being decoded.

    Attributes:
        width, height: of the upright image, in pixels.
        orientation: EXIF orientation 1 to 8; 1 where there is none or it is out of range.
        kind: the real format ("JPEG", "PNG" …), whatever the suffix says.
        mode: Pillow's name of the pixel layout ("RGB", "L", "P", "CMYK", "I;16", "RGBA" …); a PNG with 16 bits a channel is
            "RGB;16", which Pillow would call "RGB".
        camera: maker, model and serial number, as far as they are known.
        taken_s: when it was taken, in seconds by the camera's own clock (from its 1970 on); None when the file does not say.
    """

    width: int
    height: int
    orientation: int
    kind: str
    mode: str
    camera: str = ""
    taken_s: float | None = None

    @property
    def stored_size(self) -> tuple[int, int]:
        """(width, height) before the EXIF rotation."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)

    @property
    def is_plain(self) -> bool:
        """An upright 8-bit grey or RGB file that every training library reads the same way, so it need not be re-encoded."""
        return self.orientation == 1 and self.has_plain_pixels

    @property
    def has_plain_pixels(self) -> bool:
        """8-bit grey or RGB in a format that every training library reads, upright or not."""
        return self.mode in ("RGB", "L") and self.kind in ("JPEG", "PNG", "BMP", "WEBP")


def read_header(path: Path) -> Header:
    """Size, orientation and kind of an image file, without decoding it.

    Raises:
        UnreadableImage: the file is empty, is no image, or promises more than `MAX_PIXELS`.
    """
    plain = _plain_jpeg(path)
    if plain:
        return plain
    from PIL import Image as PillowImage
    from PIL import UnidentifiedImageError

    _configure_pillow()
    try:
        with PillowImage.open(path) as image:
            width, height = image.size
            exif = _exif(image, path)
            value, (camera, taken_s) = exif.get(ORIENTATION_TAG, 1), _shot(exif)
            kind, mode = str(image.format), _mode(image)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, EOFError) as error:
        if isinstance(error, OSError) and not isinstance(error, UnidentifiedImageError) and error.errno:
            raise  # a full disk or a missing permission is not the image's fault
        raise _why_not_an_image(path) from error
    orientation = value if isinstance(value, int) and 1 <= value <= 8 else 1
    if width * height > MAX_PIXELS:
        raise UnreadableImage(f"{path}: {width}x{height} is over {MAX_PIXELS:,} pixels", "too_many_pixels")
    if orientation >= 5 and kind != "TIFF":  # of a TIFF, Pillow gives the upright size
        width, height = height, width
    return Header(width, height, orientation, "JPEG" if kind == "MPO" else kind, mode, camera, taken_s)


def _plain_jpeg(path: Path) -> Header | None:
    """The header of a JPEG of the usual kind without EXIF, in a third of the time; None for whatever else it may be.

    Source: ITU-T T.81, B.2: segments of a marker and a length, up to the start of the scan.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        data = os.read(handle, 4096)
    finally:
        os.close(handle)
    header, position = None, 2
    while data.startswith(SIGNATURES[0]) and position + 4 <= len(data) and data[position] == 0xFF:
        marker, length = data[position + 1], int.from_bytes(data[position + 2 : position + 4], "big")
        after = position + 2 + length
        if after > len(data) or marker not in _PLAIN_SEGMENTS:
            return header if marker == 0xDA and after <= len(data) else None
        if marker == 0xDB and (length % 65 != 2 or any(data[start] > 3 for start in range(position + 4, after, 65))):
            return None  # wide or damaged tables
        if marker in (0xC0, 0xC1, 0xC2):
            if header or length not in (11, 17):
                return None
            bits, height, width, layers = struct.unpack_from(">BHHB", data, position + 4)
            if bits != 8 or length != 8 + 3 * layers or not 0 < width * height <= MAX_PIXELS:
                return None
            header = Header(width, height, 1, "JPEG", "L" if layers == 1 else "RGB")
        position = after
    return None


# What these libraries say of a damaged file on stderr, our own error says with the file's name.
@lru_cache(maxsize=1)
def _configure_pillow() -> None:
    from PIL import Image as PillowImage

    # Our own limit gives a ledger entry; Pillow's would be a warning first and an exception of another type later.
    PillowImage.MAX_IMAGE_PIXELS = None
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")


@lru_cache(maxsize=1)
def quiet_cv2() -> None:
    """OpenCV says on stderr what our errors say with the file's name; of a camera that would be the address with its password."""
    import cv2

    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def _why_not_an_image(path: Path) -> UnreadableImage:
    with path.open("rb") as stream:
        start = stream.read(8)
    if not start:
        return UnreadableImage(f"{path}: the file is empty", "empty_file")
    if start[4:] == b"ftyp":
        return UnreadableImage(f"{path}: a HEIC or AVIF image, which cannot be opened here; save it as JPEG", "unsupported_kind")
    if start.startswith(SIGNATURES):
        return UnreadableImage(f"{path}: the image is damaged or cut off", "truncated")
    return UnreadableImage(f"{path}: not an image", "not_an_image")


def _mode(image: PillowImage.Image) -> str:
    tiles: list[Any] = getattr(image, "tile", [])
    wide = image.format == "PNG" and tiles and ";16" in str(tiles[0][3]) and ";16" not in image.mode
    return f"{image.mode};16" if wide else image.mode


def _exif(image: PillowImage.Image, path: Path) -> PillowImage.Exif:
    from PIL import Image as PillowImage

    try:
        if image.format == "PNG" and "exif" not in image.info and not _has_late_exif(path):
            return PillowImage.Exif()  # for such a file Pillow's getexif would decode the pixels in search of a later block
        return image.getexif()
    except Exception:  # noqa: BLE001 - a broken EXIF block raises almost anything and says nothing about the pixels
        return PillowImage.Exif()


def _shot(exif: PillowImage.Exif) -> tuple[str, float | None]:
    """Camera and time; "" and None for what is missing or makes no sense."""
    try:
        details = exif.get_ifd(DETAILS_TAG)
        names = (exif.get(MAKER_TAG), exif.get(MODEL_TAG), details.get(SERIAL_TAG))
        camera = " ".join(str(name).strip("\0 ") for name in names if name)
        taken = datetime.strptime(str(details[TAKEN_TAG]).strip("\0 "), "%Y:%m:%d %H:%M:%S")
        digits = str(details.get(SUBSECOND_TAG, "")).strip("\0 ")
    except Exception:  # noqa: BLE001 - as above: a camera that was never set writes 0000:00:00
        return "", None
    fraction = float(f"0.{digits}") if digits.isascii() and digits.isdigit() else 0.0
    return camera, (taken - datetime(1970, 1, 1)).total_seconds() + fraction


def _has_late_exif(path: Path) -> bool:
    """Whether a PNG has an EXIF block after its pixels, where some tools append it."""
    with path.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - 65536))
        return b"eXIf" in stream.read()


def decode(path: Path, header: Header | None = None) -> Image:
    """The upright pixels of a file: RGB uint8 (H, W, 3).

    16-bit samples are scaled to 8 bits, palettes and CMYK are converted, transparency is dropped.

    Raises:
        UnreadableImage: as `read_header`, and for a file that is cut off or damaged.
    """
    header = header or read_header(path)
    if header.kind in CV2_KINDS and header.mode in CV2_MODES:
        stored = _decode_with_cv2(path, header)
    else:
        stored = _decode_with_pillow(path)
    turned = header.kind == "TIFF"  # Pillow turns a TIFF by itself
    expected = (header.width, header.height) if turned else header.stored_size
    if stored.shape[1::-1] != expected:
        raise UnreadableImage(f"{path}: the header says {expected}, the pixels are {stored.shape[1::-1]}", "size_mismatch")
    return stored if turned else upright(stored, header.orientation)


def decode_small(path: Path, header: Header | None = None, least: int = 48) -> Image:
    """The upright pixels as `decode`, at 1/2, 1/4 or 1/8 of the size where the shorter side keeps `least` px: for hashes and
    brightness.

    A JPEG's decoder can leave out the fine detail, which takes a third of the time; what is cut off or damaged is found all the
    same, because every block is still read. Other files are decoded whole. `dhash` of both is near.
    """
    header = header or read_header(path)
    shrink = next((factor for factor in (8, 4, 2) if min(header.width, header.height) >= least * factor), 1)
    if header.kind != "JPEG" or header.mode not in CV2_MODES or shrink == 1:
        return decode(path, header)
    return upright(_decode_with_cv2(path, header, shrink), header.orientation)


def _decode_with_cv2(path: Path, header: Header, shrink: int = 1) -> Image:
    import cv2

    quiet_cv2()
    data = path.read_bytes()  # cv2.imread cannot open non-ASCII paths on Windows
    whole = _is_whole_jpeg(data) if header.kind == "JPEG" else header.kind != "PNG" or b"IEND" in data[-65536:]
    if not whole:
        raise UnreadableImage(f"{path}: the {header.kind} file is cut off", "truncated")
    # Colour stands for itself: beside a flag for a smaller size OpenCV would take the names with COLOR in them for BGR.
    smaller = {8: cv2.IMREAD_REDUCED_GRAYSCALE_8, 4: cv2.IMREAD_REDUCED_GRAYSCALE_4, 2: cv2.IMREAD_REDUCED_GRAYSCALE_2}
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION | smaller.get(shrink, 0)
    if header.mode.endswith(";16"):
        flags |= cv2.IMREAD_ANYDEPTH
    try:
        decoded = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags)
    except cv2.error:
        decoded = None
    if decoded is None:
        raise UnreadableImage(f"{path}: the {header.kind} file is damaged or cut off", "truncated")
    return cast(Image, decoded) if decoded.dtype == np.uint8 else _to_8_bits(decoded)


def _decode_with_pillow(path: Path) -> Image:
    from PIL import Image as PillowImage

    try:
        with PillowImage.open(path) as image:
            if image.mode in ("I", "F") or image.mode.startswith("I;16"):
                return np.repeat(_to_8_bits(np.asarray(image))[:, :, None], 3, axis=2)
            if "transparency" in image.info:
                return np.array(image.convert("RGBA").convert("RGB"))
            return np.array(image.convert("RGB"))
    except (OSError, ValueError, SyntaxError, EOFError) as error:
        raise UnreadableImage(f"{path}: damaged or cut off ({error})", "truncated") from error


def _to_8_bits(samples: NDArray[Any]) -> Image:
    """Wide samples, scaled by the bit depth that they use; floats, which have none, by 1 or by their maximum.

    Medical and thermal cameras fill 10, 12 or 14 of the 16 bits: a fixed division by 257 would make their images black.
    """
    peak = float(np.nanmax(samples))
    if np.issubdtype(samples.dtype, np.floating):
        limit = 1.0 if peak <= 1 else max(peak, 255.0)
    else:
        limit = float(2 ** max(8, int(peak).bit_length()) - 1)
    scaled = np.nan_to_num(samples.astype(np.float32)) * np.float32(255 / limit)
    return np.asarray(np.clip(np.rint(scaled), 0, 255).astype(np.uint8))


def _is_whole_jpeg(data: bytes) -> bool:
    """Whether a JPEG has the end marker of its own picture: decoders fill what is missing with grey instead of failing.

    The segments before the first scan are skipped by their lengths, because an embedded thumbnail has an end marker too. Within
    a scan, 0xFF is always escaped (ITU-T T.81, B.1.1.5), so the next end marker is the real one; what follows it does not matter.
    """
    position = 2
    while position + 4 <= len(data):
        marker = data[position + 1]
        if data[position] != 0xFF or marker == 0xFF:  # stray or fill bytes between segments, which decoders skip
            position += 1
        elif marker == 0xDA:  # start of scan
            return data.rfind(b"\xff\xd9", position) >= 0  # from the end, where it nearly always is
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:  # markers without a length
            position += 2
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return False


def upright(stored: Image, orientation: int) -> Image:
    """Turn pixels from the stored frame to the upright frame; see `boxes.orientation_matrix` for the boxes."""
    turned = stored.transpose(1, 0, 2) if orientation >= 5 else stored
    flip_x = orientation in (2, 3, 6, 7)
    flip_y = orientation in (3, 4, 7, 8)
    if flip_x:
        turned = turned[:, ::-1]
    if flip_y:
        turned = turned[::-1]
    return np.ascontiguousarray(turned)


def encode(image: Image, suffix: str, jpeg_quality: int = 95) -> bytes:
    """RGB pixels as the bytes of a file; `suffix` (".jpg", ".png" …) chooses the format. JPEG without chroma subsampling."""
    import cv2

    suffix = suffix.lower()
    options: list[int] = []
    if suffix in JPEG_SUFFIXES:
        # 4:4:4: small coloured objects are what detectors look for, and 4:2:0 smears exactly those.
        options = [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
        suffix = ".jpg"
    done, data = cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
    if not done:
        raise DataError(f"cannot encode a {image.shape} image as '{suffix}'")
    return data.tobytes()


def save(path: Path, image: Image, jpeg_quality: int = 95) -> None:
    """Write RGB pixels in the format that the suffix of `path` names, atomically."""
    files.write_bytes(path, encode(image, path.suffix, jpeg_quality))


def dhash(image: NDArray[Any]) -> str:
    """Difference hash: 512 bits (128 hex digits) that hardly change when a picture is scaled, re-encoded or brightened.

    Of RGB (H, W, 3) or of its brightness alone (H, W), uint8; both hash alike.

    The picture is shrunk to 8x8 cells of grey and each cell is compared with its right and its lower neighbour. The first 256
    bits say where brightness rises or falls strongly (by more than the mean step of this picture), the other 256 where it does
    at least weakly (by a third of that). An edge that is strong here and not even weak there is a difference that no re-encoding
    makes; steps of less than a grey level, as noise makes them on even areas, are never strong. `neighbours` compares so.

    Source: N. Krawetz, "Kind of Like That" (2013), whose hash has one bit a cell: the sign of the step to the right.
    """
    import cv2

    height, width = image.shape[:2]
    step = max(1, min(height, width) // 128)
    # Averaging whole blocks first is five times as fast as going straight to 8x8, and as exact.
    blocks = image[: height // step * step, : width // step * step]
    coarse = cv2.resize(blocks, (width // step, height // step), interpolation=cv2.INTER_AREA)
    grey = (coarse if coarse.ndim == 2 else cv2.cvtColor(coarse, cv2.COLOR_RGB2GRAY)).astype(np.float32)
    right = np.diff(cv2.resize(grey, (9, 8), interpolation=cv2.INTER_AREA), axis=1).ravel()
    down = np.diff(cv2.resize(grey, (8, 9), interpolation=cv2.INTER_AREA), axis=0).ravel()
    strong = max(1.0, float(np.abs(np.concatenate([right, down])).mean()))
    bits = [part for least in (strong, strong / 3) for steps in (right, down) for part in (steps > least, steps < -least)]
    return np.packbits(np.concatenate(bits)).tobytes().hex()
