"""The person at the camera: what they see of it, and the keys they press in the preview window or the terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

from pipeline.errors import UsageError
from pipeline.stage import Context

TAKE, END = " ", "q"
TITLE = "yolo-pipeline camera: space takes a picture, q ends"
WIDEST = 1280
"""Pixels; larger pictures are shown smaller."""

Keys = Callable[[], str]
"""The key that was pressed since the last call, or ""."""


class Window:
    """The preview."""

    def __init__(self) -> None:
        import cv2

        cv2.namedWindow(TITLE, cv2.WINDOW_AUTOSIZE)
        self._is_shown = False

    def show(self, pixels: Any) -> str:
        """Show a frame (BGR), if there is a new one; the key that was pressed, which closing the window counts as END."""
        import cv2

        if pixels is not None:
            scale = min(1.0, WIDEST / pixels.shape[1])
            shown = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else pixels
            cv2.imshow(TITLE, shown)
        code = cv2.waitKey(1)
        if self._is_shown and cv2.getWindowProperty(TITLE, cv2.WND_PROP_VISIBLE) < 1:
            return END
        self._is_shown = self._is_shown or pixels is not None
        return chr(code & 0xFF).lower() if code >= 0 else ""

    def close(self) -> None:
        import cv2

        cv2.destroyAllWindows()


@contextmanager
def preview(wanted: Literal["auto", "on", "off"], context: Context) -> Iterator[Window | None]:
    """The window, or None.

    Raises:
        UsageError: it must be there, and cannot.
    """
    why = "" if wanted == "off" else why_no_window()
    if why and wanted == "on":
        raise UsageError(f"collect.options.preview: {why}.", "With preview: auto the recording goes on without.")
    if why:
        context.warn(f"The camera is recorded without a preview: {why}.")
    window = None if why or wanted == "off" else Window()
    try:
        yield window
    finally:
        if window is not None:
            window.close()


def why_no_window() -> str:
    """Why OpenCV cannot show one; "" when it can. Tried in another process: without a display Qt ends the process it is in."""
    if sys.platform.startswith("linux") and not os.environ.get("DISPLAY"):
        return "there is no display"
    code = "import cv2; cv2.namedWindow('preview'); cv2.destroyAllWindows()"
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return "the display does not answer"
    return "" if done.returncode == 0 else "this OpenCV has no windows (opencv-python-headless), or the display does not answer"


@contextmanager
def terminal() -> Iterator[Keys | None]:
    """The keys of the terminal, without Return; None where nobody sits at one."""
    if not sys.stdin or not sys.stdin.isatty():
        yield None
    elif sys.platform == "win32":
        import msvcrt

        yield lambda: msvcrt.getwch().lower() if msvcrt.kbhit() else ""
    else:
        import select
        import termios
        import tty

        number = sys.stdin.fileno()
        try:
            is_in_background = os.tcgetpgrp(number) != os.getpgrp()
        except OSError:  # another process group's terminal
            is_in_background = False
        if is_in_background:  # touching the terminal would stop the process
            yield None
            return
        before = termios.tcgetattr(number)

        def pressed() -> str:
            ready = select.select([number], [], [], 0)[0]
            return os.read(number, 1).decode(errors="replace").lower() if ready else ""

        try:
            tty.setcbreak(number)
            yield pressed
        finally:
            termios.tcsetattr(number, termios.TCSADRAIN, before)
