"""Cameras that are none: a stream of numbered pictures from a server on this machine, and shots without a device."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import cv2
import numpy as np

from pipeline.sources._camera_device import Shot
from tests.serving import Behaviour, Handler

WIDTH, HEIGHT = 160, 96
BEGIN = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)


def picture(number: int) -> np.ndarray:
    """BGR; dark, with the bits of the number in bright squares."""
    image = np.full((HEIGHT, WIDTH, 3), 30, np.uint8)
    for bit in range(8):
        if number >> bit & 1:
            image[8:56, 16 * bit : 16 * bit + 12] = 240
    return image


def number_in(image: Any) -> int:
    return sum(int(image[20:40, 16 * bit + 3 : 16 * bit + 9].mean() > 128) << bit for bit in range(8))


def mjpeg(count: int = 250, every_s: float = 0.02, login: str = "") -> Behaviour:
    """As IP cameras do: `multipart/x-mixed-replace`, a JPEG a part; with a `login`, for those alone who bring it."""

    def behave(handler: Handler) -> None:
        handler.close_connection = True
        if login and handler.headers.get("Authorization") != login:
            handler.answer(401, b"", {"WWW-Authenticate": 'Basic realm="camera"'})
            return
        handler.send_response(200)
        handler.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        handler.end_headers()
        for number in range(count):
            data = cv2.imencode(".jpg", picture(number))[1].tobytes()
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            handler.wfile.write(head.encode() + data + b"\r\n")
            time.sleep(every_s)

    return behave


def shots(count: int, every_s: float = 0.5, look: Callable[[int], np.ndarray] = picture) -> Iterator[Shot]:
    for number in range(count):
        at_s = number * every_s
        yield Shot(look(number), 1000 + at_s, BEGIN + timedelta(seconds=at_s))


def keys(*pressed: str) -> Callable[[], str]:
    """A key a call, then none."""
    waiting = iter(pressed)
    return lambda: next(waiting, "")
