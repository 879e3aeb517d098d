"""A large log file through the sidecar to a proxy, beside a bare loop that reads, frames, compresses and posts it.

    python -m tests.bench.bulk [lines] [rounds]

The bare loop has no queue, no fsync, no rate and no second thread: it is what Python takes for the work itself. Both
run in turn, in one run, on the same file and the same sink; what counts is the ratio of the medians.
"""

import json
import os
import resource
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import msgspec
import zstandard

from tests.bench.sink import Sink, sink

LINE = (
    "2026-11-23T02:51:09.{:06d}Z INFO  app.web[4242] ~S{:010d}~ 10.20.30.40"
    ' "GET /api/v1/items/{:04d}?limit=50 HTTP/1.1"'
    " status=200 bytes=5120 dur_ms=12.345 trace=4bf92f3577b34da6a3ce929d0e0e4736 user=operator shop=17\n"
)
BODY_BYTES = 499_000
BLOCK_BYTES = 512 * 1024
STALL_S = 60.0


class Run(NamedTuple):
    seconds: float
    cpu_s: float


def make_file(path: Path, lines: int) -> None:
    with path.open("w") as file:
        for start in range(0, lines, 10_000):
            numbers = range(start, min(start + 10_000, lines))
            file.write("".join([LINE.format(number * 7919 % 10**6, number, number % 9973) for number in numbers]))


def bare_loop(path: Path, port: int) -> None:
    """Read, frame, compress and post; runs in a process of its own."""
    encode = msgspec.json.Encoder().encode
    event = {"event_name": "log", "target": "0:127.0.0.1", "event": {"content": ""}, "dimension": {"file": str(path)}}
    before, _, behind = encode(event | {"timestamp": int(time.time() * 1000)}).partition(b'""')
    before, behind = before + b'"', b'"' + behind
    between = behind + b"," + before
    packer, connection = zstandard.ZstdCompressor(level=1), socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    head = b'{"data_id":1500006,"access_token":"bench","data":['
    fd, offset, waiting = os.open(path, os.O_RDONLY), 0, b""

    def post(events: bytes) -> None:
        body = b"%b%b]}" % (head, events)
        connection.sendall(
            b"POST /v2/push/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n" % len(body)
        )
        connection.sendall(body)
        assert b" 200 " in connection.recv(65_536)

    while data := os.pread(fd, BLOCK_BYTES, offset):
        data = data[: data.rfind(b"\n") + 1]
        offset += len(data)
        inside = encode(data.decode().replace("\n", "\x7f"))[1:-2]
        events = before + inside.replace(b"\x7f", between) + behind
        packer.compress(events)
        waiting = waiting + b"," + events if waiting else events
        while len(waiting) > BODY_BYTES:
            cut = waiting.rfind(between, 0, BODY_BYTES) + len(behind)
            post(waiting[:cut])
            waiting = waiting[cut + 1 :]
    if waiting:
        post(waiting)


def run_bare(path: Path, lines: int, target: Sink) -> Run:
    return run([sys.executable, "-m", "tests.bench.bulk", "--bare", str(path), str(target.port)], lines, target)


def run_sidecar(path: Path, lines: int, target: Sink, directory: Path) -> Run:
    with tempfile.TemporaryDirectory(dir=directory) as state:
        config = Path(state) / "config.yml"
        config.write_text(json.dumps({
            "state": f"{state}/state",
            "proxy": {"urls": [f"http://127.0.0.1:{target.port}"], "rate": "unlimited"},
            "queue": {"max_size": "8GiB"},
            "http": {"listen": "127.0.0.1:0"},
            "streams": {"bench": {"data_id": 1500006, "access_token": "bench"}},
            "tails": {"bench": {"paths": [str(path)], "stream": "bench", "start_at": "beginning",
                                "event": {"name": "log", "target": "0:127.0.0.1", "dimension": {"file": "{path}"}}}},
        }))  # fmt: skip
        return run([sys.executable, "-m", "sidecar", "run", "--config", str(config)], lines, target)


def run(command: list[str], lines: int, target: Sink) -> Run:
    """Run `command` until the sink has all lines, from its first event on: the start is not counted."""
    had, used_s = target.events, cpu_of_children_s()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        seen, moved_s = had, time.monotonic()
        while target.events == had:
            time.sleep(0.001)
        started_s, start_cpu_s = time.monotonic(), cpu_s(process.pid)
        while target.events < had + lines:
            time.sleep(0.01)
            if target.events != seen:
                seen, moved_s = target.events, time.monotonic()
            assert time.monotonic() < moved_s + STALL_S, "it does not go on"
        seconds = time.monotonic() - started_s
        still_s = cpu_s(process.pid)
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait()
    total_s = still_s if still_s is not None else cpu_of_children_s() - used_s
    assert target.events == had + lines, "some came twice"
    return Run(seconds, total_s - (start_cpu_s or 0.0))


def cpu_s(pid: int) -> float | None:
    """Return the processor time of a process; None if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] == "Z" else sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def cpu_of_children_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main(lines: int = 1_000_000, rounds: int = 5) -> None:
    with tempfile.TemporaryDirectory() as directory, sink() as target:
        path = Path(directory) / "app.log"
        make_file(path, lines)
        megabytes = path.stat().st_size / 1e6
        path.read_bytes()  # into the page cache
        runs: dict[str, list[Run]] = {"bare loop": [], "sidecar": []}
        for _ in range(rounds):
            runs["bare loop"].append(run_bare(path, lines, target))
            runs["sidecar"].append(run_sidecar(path, lines, target, Path(directory)))
        medians = {}
        for name, each in runs.items():
            speed = [megabytes / one.seconds for one in each]
            cost = [one.cpu_s / lines * 1e6 for one in each]
            medians[name] = statistics.median(speed), statistics.median(cost)
            print(
                f"{name:10}  {medians[name][0]:6.1f} MB/s ({min(speed):.1f} to {max(speed):.1f})"
                f"  {medians[name][1]:5.2f} us CPU a line ({min(cost):.2f} to {max(cost):.2f})"
            )
        speed_ratio, cost_ratio = (medians["sidecar"][at] / medians["bare loop"][at] for at in (0, 1))
        print(f"sidecar / bare loop: {speed_ratio:.2f} of its speed, {cost_ratio:.2f} times its CPU")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--bare"]:
        bare_loop(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        main(*map(int, sys.argv[1:]))
