"""How long does it take to fetch 10,000 small files, beside aria2c and bare loops?

    python benchmarks/collect.py [--files 10000] [--size 20000] [--rounds 3]

A server in a process of its own on this machine (asyncio, keep-alive) serves the same bytes under every name; all have 16
connections. The bare loops get, read and write, with no retry, resume, hash, check or rename: "bare httpx" in one asyncio loop,
"bare urllib3" in 16 threads. In turns, in one run, to the same disk: ratios hold across machines better than times. The goal is
at most 1.3 of aria2c or of the httpx loop.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import multiprocessing
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import urllib3

from pipeline.downloads import Download, Limits, download_all
from pipeline.stage import Context

PARALLEL = 16
OURS = "this pipeline"


def serve(size: int, port: Connection) -> None:
    head = f'HTTP/1.1 200 OK\r\nContent-Length: {size}\r\nETag: "x"\r\nContent-Type: image/jpeg\r\n\r\n'
    answer = head.encode() + bytes(size)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def run() -> None:
        server = await asyncio.start_server(talk, "127.0.0.1", 0)
        port.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


def ours(addresses: list[str], out: Path) -> None:
    wanted = [Download(url, out / f"{number:06}.jpg") for number, url in enumerate(addresses)]
    outcomes = download_all(wanted, Context().progress, limits=Limits(parallel=PARALLEL, per_host=PARALLEL))
    assert not any(outcome.reason for outcome in outcomes)


def bare(addresses: list[str], out: Path) -> None:
    pool = urllib3.PoolManager(maxsize=PARALLEL)

    def fetch(number: int) -> None:
        answer = pool.request("GET", addresses[number])
        (out / f"{number:06}.jpg").write_bytes(answer.data)

    with ThreadPoolExecutor(PARALLEL) as threads:
        list(threads.map(fetch, range(len(addresses))))


def bare_httpx(addresses: list[str], out: Path) -> None:
    import httpx

    async def run() -> None:
        at_once = asyncio.Semaphore(PARALLEL)
        async with httpx.AsyncClient(limits=httpx.Limits(max_connections=PARALLEL), timeout=60) as client:

            async def fetch(number: int) -> None:
                async with at_once:
                    answer = await client.get(addresses[number])
                (out / f"{number:06}.jpg").write_bytes(answer.content)

            await asyncio.gather(*(fetch(number) for number in range(len(addresses))))

    asyncio.run(run())


def aria2c(addresses: list[str], out: Path) -> None:
    listed = out / "list.txt"
    listed.write_text("".join(f"{url}\n out={number:06}.jpg\n" for number, url in enumerate(addresses)))
    quiet = ["--quiet", "--file-allocation=none", "--max-connection-per-server=16"]
    subprocess.run(["aria2c", f"-j{PARALLEL}", *quiet, f"--dir={out}", f"--input-file={listed}"], check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=20_000, help="bytes of a file")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    tools: dict[str, Callable[[list[str], Path], None]] = {OURS: ours, "bare urllib3": bare}
    if importlib.util.find_spec("httpx"):
        tools["bare httpx"] = bare_httpx
    else:
        print("httpx is not installed")
    if shutil.which("aria2c"):
        tools["aria2c -j16"] = aria2c
    else:
        print("aria2c is not installed")
    here, there = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(arguments.size, there), daemon=True)
    server.start()
    base = f"http://127.0.0.1:{here.recv()}"
    addresses = [f"{base}/{number:06}.jpg" for number in range(arguments.files)]
    least: dict[str, float] = {}
    try:
        for round_number in range(arguments.rounds + 1):
            for name, fetch in tools.items():
                with tempfile.TemporaryDirectory() as folder:
                    started = time.perf_counter()
                    fetch(addresses if round_number else addresses[:100], Path(folder))  # the first round pays the imports
                    taken = time.perf_counter() - started
                if round_number:
                    least[name] = min(taken, least.get(name, taken))
    finally:
        server.terminate()
    print(f"{arguments.files:,} files of {arguments.size:,} bytes, {PARALLEL} at once; the least of {arguments.rounds} rounds")
    for name, seconds in least.items():
        ratio = least[OURS] / seconds
        print(f"{name:<16}{seconds:8.2f} s{1000 * seconds / arguments.files:8.2f} ms a file   ours takes {ratio:.2f} of it")


if __name__ == "__main__":
    main()
