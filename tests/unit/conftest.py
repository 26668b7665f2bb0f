"""What the tests of several modules are given: a context, servers, clips and what decodes them, finished artifacts."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipeline.stage import Context
from tests import serving
from tests.serving import Server

if TYPE_CHECKING:  # what they need is not installed everywhere
    from tests.huggingface_service import Hub
    from tests.roboflow_service import Roboflow


@pytest.fixture
def bars() -> list[str]:
    """The finished progress bars of `context`, as "label done/total"."""
    return []


@pytest.fixture
def warnings() -> list[str]:
    """What `context` was warned of."""
    return []


@pytest.fixture
def context(tmp_path: Path, bars: list[str], warnings: list[str]) -> Context:
    """That of a project in `tmp_path` in which nothing was run yet."""

    @contextmanager
    def progress(label: str, total: int) -> Iterator[Callable[..., None]]:
        done = 0

        def advance(n: int = 1, **info: object) -> None:
            nonlocal done
            done += n

        yield advance
        bars.append(f"{label} {done}/{total}")

    cache = tmp_path / "workspace" / ".cache"
    return Context(base=tmp_path, cache=cache, workers=2, progress=progress, warn=warnings.append)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A web server that is asked itself, whatever proxies this machine has."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    with serving.serving() as running:
        yield running


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    from tests import huggingface_service

    with huggingface_service.serving(monkeypatch, tmp_path) as running:
        yield running


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Roboflow]:
    from tests import roboflow_service

    with roboflow_service.serving(monkeypatch, tmp_path) as running:
        yield running


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """The folder of the source `video:clips`."""
    folder = tmp_path / "clips"
    folder.mkdir()
    return folder


@pytest.fixture(params=["PyAV", "OpenCV"])
def decoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the two that videos may be read by."""
    from pipeline.sources import _video_decoder, _video_opencv

    if request.param == "OpenCV":
        monkeypatch.setattr(_video_decoder, "decoder", lambda: _video_opencv)
    return str(request.param)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artifacts of all stages; tests that change them take a copy, `workspace`."""
    from tests.reporting import finish

    base = tmp_path_factory.mktemp("finished")
    finish(base)
    return base


@pytest.fixture
def workspace(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "workspace"))
