"""`fv studio`: what looking on costs, when the first key frame is seen, 50 clients for a minute.

    looking on      the same requests by `Generator.run`, with a watch that does nothing, and as a
                    job of the studio, with all that it tells; one after the other, in one process
    first key frame from a request over HTTP, nobody else asking, to its first ids and to a whole
                    key frame's pixels
    clients         each asks for a video, hears all that is told, and asks again; one in ten goes
                    away in the middle, one in ten takes a file, and five more hear nothing of what
                    they asked for. A request is lost if it was taken and its end was not told; the
                    server's memory is read each second

It is one server process and one of clients, on 127.0.0.1.

    cost   two and a half minutes on two CPU cores, half of it with 50 clients (estimated)
"""

import dataclasses
import http.client
import json
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fv_jax.generation.generator import Generator
from fv_jax.generation.plan import plan_videos
from fv_jax.reporting.results import markdown, record
from fv_jax.studio.asked import Asked
from fv_jax.studio.videos import Videos

_PROMPT = "a small red circle moves left over stripes"
_STUCK = 5  # clients that never read
_WARM = 1 / 3  # of the time, after which memory is compared
_PATIENCE = 300.0  # seconds for an answer


@dataclasses.dataclass(frozen=True)
class Settings:
    """What to measure, and where to write the result."""

    model: str = "shapes"
    """A shipped model's name, or a model folder."""
    clients: int = 50
    """Clients that ask at the same time."""
    seconds: int = 60
    """For how long they ask."""
    repeats: int = 30
    """Requests of each kind that looking on is measured with."""
    out: Path = Path("out/bench")
    """Where to write; `experiments` records the result in the tree."""


def run(settings: Settings) -> None:
    """Measure and record."""
    looking = [_looking_on(settings, rows) for rows in (1, 2)]
    with _Server(settings.model) as server:
        first = _first_key_frame(server, settings.repeats)
        load = _load(server, settings)
    values = {"looking_on": looking, "first_key_frame": first, "load": load}
    record("studio", settings, values, _tables(values, settings))


def _looking_on(settings: Settings, rows: int) -> dict[str, Any]:
    """Seconds of this process's cores and of the clock for the same videos, made in three ways."""
    generator, seeds = Generator.load(settings.model), tuple(range(rows))
    plan = plan_videos(generator.model, [_PROMPT] * rows, seed=[*seeds])

    def as_a_job() -> None:
        job = Videos(generator, Asked(_PROMPT, seeds), None)
        for _ in job.turns():
            pass

    ways = {
        "generate": lambda: generator.run(plan),
        "looked on": lambda: generator.run(plan, lambda _: None),
        "the studio's job": as_a_job,
    }
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for turn in range(settings.repeats + 1):
        for name, function in ways.items():
            begin, cores = time.perf_counter(), time.process_time()
            function()
            if turn:  # the first compiles
                spent = time.perf_counter() - begin, time.process_time() - cores
                taken[name].append(spent)
    median = lambda name, which: statistics.median(spent[which] for spent in taken[name])
    return {
        "videos": rows,
        **{f"{name}, seconds": median(name, 0) for name in ways},
        **{f"{name}, core seconds": median(name, 1) for name in ways},
    }


class _Server:
    """`fv studio` as a process, and requests to it."""

    def __init__(self, model: str):
        command = [sys.executable, "-m", "fv_jax", "studio", "--port", "0", "--model", model]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self._address = self._process.stdout.readline().split()[0].split("/")[2]

    def __enter__(self) -> "_Server":
        return self

    def __exit__(self, *_: Any) -> None:
        self._process.terminate()
        self._process.wait(30)

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        """The code and the body of an answer."""
        connection = self.connect()
        connection.request(method, path, None if body is None else json.dumps(body))
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        return answer.status, data

    def connect(self) -> http.client.HTTPConnection:
        """A connection of its own."""
        return http.client.HTTPConnection(self._address, timeout=_PATIENCE)

    def listen(self, path: str) -> Iterator[str]:
        """Names of events, as they come."""
        connection = self.connect()
        try:
            connection.request("GET", path)
            for line in connection.getresponse():
                if line.startswith(b"event: "):
                    yield line[7:].decode().strip()
        finally:
            connection.close()

    def resident(self) -> int:
        """Bytes of the server's memory."""
        return json.loads(self.ask("GET", "/v1/status")[1])["resident_bytes"]


def _first_key_frame(server: _Server, repeats: int) -> dict[str, float]:
    """Medians, in seconds, after one request that waits for what is compiled at the start."""
    taken = {"ids": [], "pixels": [], "done": []}
    for turn in range(repeats + 1):
        begin, seen = time.perf_counter(), set()
        _, answer = server.ask("POST", "/v1/videos", {"prompt": _PROMPT, "seeds": [turn, turn + 1]})
        for name in server.listen(json.loads(answer)["events"]):
            if name in taken and name not in seen:
                seen.add(name)
                if turn:
                    taken[name].append(time.perf_counter() - begin)
    return {name: statistics.median(values) for name, values in taken.items()}


def _load(server: _Server, settings: Settings) -> dict[str, Any]:
    counts, waits, memory, lock = Counter(), [], [], threading.Lock()
    begin = time.perf_counter()
    until = begin + settings.seconds

    def client(number: int) -> None:
        turn = 0
        while time.perf_counter() < until:
            turn += 1
            try:
                what, wait = _one(server, 1000 * number + turn, turn + number)
            except (OSError, http.client.HTTPException, ValueError) as error:
                what, wait = f"error: {type(error).__name__}", 0.0
            with lock:
                counts[what] += 1
                waits.extend([wait] if what == "done" else [])
            if what == "full":
                time.sleep(1)

    def look() -> None:
        while time.perf_counter() < until:
            memory.append((time.perf_counter() - begin, server.resident()))
            time.sleep(1)

    stuck = [_stuck(server) for _ in range(_STUCK)]
    threads = [threading.Thread(target=client, args=(n,)) for n in range(settings.clients)]
    threads.append(threading.Thread(target=look))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - begin
    for connection in stuck:
        connection.close()
    memory.append((seconds, server.resident()))
    warm = next(size for at, size in memory if at >= settings.seconds * _WARM)
    return {
        "counts": dict(counts), "seconds": seconds, "videos_a_second": counts["done"] / seconds,
        "wait_median": statistics.median(waits) if waits else None,
        "wait_most": max(waits, default=None), "memory": memory,
        "resident_warm": warm, "resident_end": memory[-1][1],
    }  # fmt: skip


def _one(server: _Server, seed: int, kind: int) -> tuple[str, float]:
    """What became of one request, and after how long."""
    begin = time.perf_counter()
    code, answer = server.ask("POST", "/v1/videos", {"prompt": _PROMPT, "seeds": [seed]})
    if code == 503:
        return "full", 0.0
    if code != 202:
        return f"error: {code}", 0.0
    made, last = json.loads(answer), ""
    for last in server.listen(made["events"]):
        if last == "ids" and kind % 10 == 0:
            return "left", 0.0
    wait = time.perf_counter() - begin
    if last != "done":
        return ("lost" if last not in ("failed", "canceled") else f"error: {last}"), wait
    if kind % 10 == 5:
        code, file = server.ask("GET", f"/v1/videos/{made['id']}/file?format=mp4")
        if code != 200 or file[4:8] != b"ftyp":
            return f"error: file {code}", wait
    return "done", wait


def _stuck(server: _Server) -> http.client.HTTPConnection:
    """A client that asks, begins to listen, and reads nothing."""
    _, answer = server.ask("POST", "/v1/videos", {"prompt": _PROMPT, "seeds": [1]})
    connection = server.connect()
    connection.request("GET", json.loads(answer)["events"])
    return connection


def _tables(values: dict[str, Any], settings: Settings) -> str:
    ways, rows = ("generate", "looked on", "the studio's job"), []
    for at in values["looking_on"]:
        for unit in ("seconds", "core seconds"):
            plain = at[f"generate, {unit}"]
            cells = [f"{at[f'{way}, {unit}']:.3f} ({at[f'{way}, {unit}'] / plain - 1:+.1%})"
                     for way in ways]  # fmt: skip
            rows.append([f"{at['videos']} at a time, {unit}", *cells])
    first, load = values["first_key_frame"], values["load"]
    counts = load["counts"]
    wrong = sum(number for name, number in counts.items() if name.startswith("error"))
    growth = load["resident_end"] / load["resident_warm"] - 1
    return "\n".join([
        markdown(["median", *ways], rows),
        f"From a request for two videos to its first ids {first['ids']:.2f} s, to whole key frames "
        f"{first['pixels']:.2f} s, to the end {first['done']:.2f} s (medians of "
        f"{settings.repeats}).\n",
        markdown(
            [f"{settings.clients} clients, {settings.seconds} s", ""],
            [["videos made and heard to the end", counts.get("done", 0)],
             ["left in the middle, on purpose", counts.get("left", 0)],
             ["told that the queue is full, asked again", counts.get("full", 0)],
             ["errors", wrong], ["lost", counts.get("lost", 0)],
             ["a request's wait, median and longest, s",
              f"{load['wait_median']:.1f}, {load['wait_most']:.1f}"],
             ["server's memory after a third and at the end, MB",
              f"{load['resident_warm'] / 1e6:.0f}, {load['resident_end'] / 1e6:.0f} "
              f"({growth:+.1%})"]],
        ),
    ])  # fmt: skip
