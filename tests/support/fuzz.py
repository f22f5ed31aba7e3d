"""Files damaged on purpose, and a process of its own that reads them all.

    python fuzz.py FOLDER RESULTS    reads every file of a folder; a line of JSON for each

A file's name is written before it is read, so that a crash or a hang can be told whose it is.
"""

import faulthandler
import json
import re
import resource
import subprocess
import sys
import time
import zlib
from pathlib import Path

import numpy as np

MEMORY = 6 * 2**30  # bytes that reading may take at most: a header may claim gigabytes
_HERE = Path(__file__)


def flipped(data: bytes, rng: np.random.Generator, *, bits: int, first: int = 0) -> bytes:
    """The same with some bits changed, all of them in the first `first` bytes if that is not 0."""
    changed = bytearray(data)
    for place in rng.choice(8 * min(first or len(data), len(data)), bits, replace=False):
        changed[place // 8] ^= 1 << (place % 8)
    return bytes(changed)


def no_videos(rng: np.random.Generator) -> dict[str, bytes]:
    """What may lie in a folder under the name of a video."""
    words = b"these are words and no video, said again and again\n"
    return {
        "empty": b"",
        "one byte": b"\0",
        "zeros": bytes(5000),
        "ones": b"\xff" * 5000,
        "random": rng.bytes(5000),
        "long random": rng.bytes(200_000),
        "text": words * 100,
        "json": json.dumps({"file_name": "a.mp4", "text": "a cat"}).encode() * 50,
        "html": b"<!DOCTYPE html><html><body>404 Not Found</body></html>" * 20,
        "playlist": b"#EXTM3U\n#EXTINF:4,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
        "concat": b"ffconcat version 1.0\nfile a.mp4\n",
        "subtitles": b"1\n00:00:00,000 --> 00:00:04,000\nHello\n\n" * 20,
        "only ftyp": b"\0\0\0\x14ftypisom\0\0\x02\0isom",
        "huge box": b"\0\0\0\x14ftypisom\0\0\x02\0isom\x7f\xff\xff\xffmoov" + bytes(100),
        "huge gif": b"GIF89a\xff\xff\xff\xff\x80\0\0" + bytes(6) + b"," + bytes(4)
        + b"\xff\xff\xff\xff\0\x02\x02L\x01\0;",
    }  # fmt: skip


def read_in_a_process(folder: Path, *, seconds: float) -> dict[str, dict]:
    """Result of each file by name: `frames` and a `digest`, or the `reason` of a ClipError."""
    log = folder.with_suffix(".jsonl")
    command = [sys.executable, "-X", "faulthandler", str(_HERE), str(folder), str(log)]
    end = ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
        end = done.stderr[-3000:] if done.returncode else ""
    except subprocess.TimeoutExpired:
        end = f"not done after {seconds} s"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert not end, f"reading {lines[-1] if lines else 'nothing'}: {end}"
    return {line["name"]: line for line in lines if "seconds" in line}


def _main(folder: Path, log: Path) -> None:
    from fv_jax.media import open_clip
    from fv_jax.media.readers import ClipError

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with log.open("w") as file:

        def say(**what) -> None:
            print(json.dumps(what), file=file, flush=True)

        for path in sorted(folder.iterdir()):
            say(name=path.name)
            faulthandler.dump_traceback_later(30, exit=True)
            start, result = time.perf_counter(), {}
            try:
                reader = open_clip(path)
                frames = reader.frames(range(len(reader.times)))
                assert (np.diff(reader.times) > 0).all()
                assert len(frames) == len(reader.times)
                result = {
                    "frames": len(frames),
                    "digest": zlib.crc32(frames),
                    "notes": reader.notes,
                }
            except ClipError as error:
                result = {"reason": str(error)}
            used = _peak_megabytes()
            say(name=path.name, seconds=time.perf_counter() - start, megabytes=used, **result)
        faulthandler.cancel_dump_traceback_later()


def _peak_megabytes() -> int:
    """Of this process; `getrusage` would count what its parent used before it."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return int(re.search(r"VmHWM:\s+(\d+) kB", status.read_text())[1]) // 1024


if __name__ == "__main__":
    _main(Path(sys.argv[1]), Path(sys.argv[2]))
