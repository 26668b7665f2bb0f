"""Training on all cores of a CPU, and without fighting its memory allocator.

Measured on two cores of an AMD EPYC (yolo11n, imgsz 320, batch 16, seconds a step): ultralytics' own single thread 1.1, two
threads 0.56, and with the allocator and layout below 0.40.
"""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline import machine

# Parameters of mallopt(3), see malloc.h of the GNU C library.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_DEFAULT_THRESHOLD = 128 * 1024


@contextmanager
def kept_memory() -> Iterator[None]:
    """Let freed memory stay with the process, as long as the block lasts.

    Every step of training allocates and frees the same large tensors. The GNU C library gives each back to the system at once,
    which must then hand out zeroed pages again: a fifth of the time. Other systems' allocators do not; nothing happens there.
    """
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_THRESHOLD, 1 << 30)
    libc.mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)
    try:
        yield
    finally:
        libc.mallopt(_M_MMAP_THRESHOLD, _DEFAULT_THRESHOLD)
        libc.mallopt(_M_TRIM_THRESHOLD, _DEFAULT_THRESHOLD)
        libc.malloc_trim(0)


def threads() -> int:
    """Threads for arithmetic: one a physical core that this process may use; two on one core only wait for each other."""
    import psutil

    return min(machine.usable_cores(), psutil.cpu_count(logical=False) or machine.usable_cores())


def prefers_channels_last() -> bool:
    """Whether convolutions run faster with channels as the innermost axis: measured so for oneDNN on x86, unknown elsewhere."""
    return platform.machine().lower() in ("x86_64", "amd64")
