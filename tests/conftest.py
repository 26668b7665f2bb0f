"""Fixtures for all tests."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# Its assertions tell what they compared, as those of tests do.
pytest.register_assert_rewrite("tests.collecting")

# A shared machine is slow at times: a deadline would fail tests for that alone.
settings.register_profile("pipeline", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("pipeline")

OFFLINE = ("unit", "contract")
LOOPBACK = ("127.0.0.1", "::1", "localhost", "0.0.0.0", "", None)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Real services are asked only by who asks for it: they change, and they are somebody's."""
    if "online" not in config.option.markexpr:
        for item in items:
            if item.get_closest_marker("online"):
                item.add_marker(pytest.mark.skip(reason="online: run by `pytest -m online`"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets, which is not part of the repository."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("YOLO_PIPELINE_SHARED_DATA") or beside)
    if not folder.is_dir():
        pytest.skip(f"needs the shared data: {folder} does not exist (YOLO_PIPELINE_SHARED_DATA says where it is)")
    return folder


@pytest.fixture(autouse=True)
def no_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unit and contract tests reach nothing but this machine."""
    parts = Path(request.path).relative_to(Path(__file__).parent).parts
    if parts[0] not in OFFLINE or request.node.get_closest_marker("online"):
        return
    connect, connect_ex, getaddrinfo = socket.socket.connect, socket.socket.connect_ex, socket.getaddrinfo

    def refuse_unless_local(address: Any) -> None:
        host = address[0] if isinstance(address, tuple) else None  # a path is a local socket
        if host not in LOOPBACK:
            raise OSError(f"this test may not reach the network: {address}")

    def guarded_connect(self: socket.socket, address: Any) -> None:
        refuse_unless_local(address)
        connect(self, address)

    def guarded_connect_ex(self: socket.socket, address: Any) -> int:
        refuse_unless_local(address)
        return connect_ex(self, address)

    def guarded_getaddrinfo(host: Any, *arguments: Any, **options: Any) -> Any:
        refuse_unless_local((host.decode() if isinstance(host, bytes) else host,))
        return getaddrinfo(host, *arguments, **options)

    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
    monkeypatch.setattr(socket, "getaddrinfo", guarded_getaddrinfo)
