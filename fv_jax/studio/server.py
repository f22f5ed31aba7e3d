"""The HTTP interface, docs/studio.md has it with curl lines, and who may use it.

It stands on 127.0.0.1. A page of another site cannot reach it: the Host header must name this
machine (a name that was made to point here does not), and an Origin must be the same host. With a
token it may stand elsewhere; who has the token may ask.
"""

import asyncio
import contextlib
import hmac
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from fv_jax.config.registry import require_known
from fv_jax.generation.generator import Generator
from fv_jax.studio import asked as asking
from fv_jax.studio.about import about
from fv_jax.studio.jobs import Full, Job, Jobs
from fv_jax.studio.streams import StreamJob, resident_bytes
from fv_jax.studio.uploads import MOST_BYTES, Uploads, read_upload
from fv_jax.studio.videos import FORMATS, Videos, png

HERE = ("127.0.0.1", "localhost", "[::1]")
COOKIE = "fv_studio"
_STATIC = Path(__file__).parent / "static"
_BODY_SECONDS = 60.0  # in which a body must have come
_CONNECTIONS = 512
_DECODERS = 2  # files read at a time
_HEADERS = {
    "content-security-policy": "default-src 'self'; img-src 'self' data: blob:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Studio:
    """What the routes share.

    Args:
        generator: a loaded model.
        token: who asks must know it; "" for nobody need to.
        jobs: the thread that has JAX.
    """

    def __init__(self, generator: Generator, token: str = "", jobs: Jobs | None = None):
        self.generator, self.token = generator, token
        self.jobs, self.uploads = jobs or Jobs(), Uploads()
        self._about: Future = self.jobs.do(lambda: about(generator.model))
        self._decoders = asyncio.Semaphore(_DECODERS)

    def app(self) -> Starlette:
        """The ASGI application."""
        routes = [
            Route("/", self.page),
            Route("/v1/model", self.model),
            Route("/v1/status", self.status),
            Route("/v1/clips", self.upload, methods=["POST"]),
            Route("/v1/videos", self.make, methods=["POST"]),
            Route("/v1/videos/{id}", self.video, methods=["GET", "DELETE"]),
            Route("/v1/videos/{id}/events", self.events),
            Route("/v1/videos/{id}/frames", self.frames),
            Route("/v1/videos/{id}/file", self.file),
            Route("/v1/streams", self.stream, methods=["POST"]),
            Route("/v1/streams/{id}", self.video, methods=["GET", "DELETE"]),
            Route("/v1/streams/{id}/events", self.events),
            Route("/v1/streams/{id}/pause", self.pause, methods=["POST"]),
            Route("/v1/streams/{id}/resume", self.resume, methods=["POST"]),
            Route("/v1/streams/{id}/fork", self.fork, methods=["POST"]),
            Route("/v1/streams/{id}/state", self.state),
            Mount("/static", StaticFiles(directory=_STATIC)),
        ]
        handlers: Any = {ValueError: _bad, Full: _full, HTTPException: _refused}
        app = Starlette(routes=routes, exception_handlers=handlers, lifespan=self._lifespan)
        app.add_middleware(Guard, token=self.token)
        return app

    def warm(self) -> None:
        """Compile what the page asks for at first, so that nobody waits for it."""
        words = " ".join(self.generator.model.text.words[:1])
        for seeds in ((0, 1), (0,)):
            self.jobs.add(Videos(self.generator, asking.Asked(words, seeds), None))

    async def page(self, request: Request) -> Response:
        """The page; with ?token=.. it remembers it, and the address forgets it."""
        if "token" in request.query_params:
            response: Response = RedirectResponse("/", 303)
            given = request.query_params["token"]
            response.set_cookie(COOKIE, given, httponly=True, samesite="strict")
            return response
        return Response((_STATIC / "index.html").read_bytes(), media_type="text/html")

    async def model(self, _: Request) -> Response:
        """What can be asked for."""
        return JSONResponse(await asyncio.wrap_future(self._about))

    async def status(self, _: Request) -> Response:
        """How much is going on."""
        return JSONResponse({**self.jobs.counts, "resident_bytes": resident_bytes()})

    async def upload(self, request: Request) -> Response:
        """A file's frames, for `first_frames` or `interpolate`."""
        use, count = request.query_params.get("use", "first_frames"), _number(request, "count", 1)
        model = self.generator.model
        require_known("use", use, ("first_frames", "interpolate"))
        if not 1 <= count <= model.config.key_frames:
            raise ValueError(f"count must be in 1..{model.config.key_frames}, got {count}")
        data = await _body(request, MOST_BYTES)
        async with self._decoders:
            upload = await run_in_threadpool(read_upload, data, use, count, model)
        encode = self.jobs.do(lambda: model.frames.encode_clips([upload.frames])[0])
        ids = await asyncio.wrap_future(encode)
        self.uploads.add(upload)
        return JSONResponse({
            "id": upload.id, "use": use, "fps": upload.fps, "notes": upload.notes,
            "ids": ids.reshape(len(ids), -1).tolist(), "frames": [png(f) for f in upload.frames],
        }, 201)  # fmt: skip

    async def make(self, request: Request) -> Response:
        """Videos: a place in the queue."""
        asked = await self._asked(request)
        sent = asked.first_frames or asked.interpolate
        job = Videos(self.generator, asked, self.uploads[sent] if sent else None)
        self.jobs.add(job)
        about_it = {"id": job.id, "events": f"/v1/videos/{job.id}/events", "notes": job.plan.notes}
        return JSONResponse(about_it, 202, {"location": f"/v1/videos/{job.id}"})

    async def stream(self, request: Request) -> Response:
        """A stream."""
        asked = await self._asked(request)
        if asked.first_frames or asked.interpolate:
            raise ValueError("a stream takes no first_frames and no interpolate")
        make, seed = self.generator.stream, asked.seeds[0]
        begin = lambda: StreamJob(make(asked.prompt, seed=seed, options=asked.options))
        return self._begun(await self._on_thread(begin))

    async def video(self, request: Request) -> Response:
        """How a job is; DELETE ends it."""
        job = self._job(request, Job)
        if request.method == "DELETE":
            job.cancel()
            self.jobs.wake()
        return JSONResponse({"id": job.id, "state": job.state})

    async def events(self, request: Request) -> Response:
        """What a job tells, from the beginning or after the number in Last-Event-ID."""
        after = request.headers.get("last-event-id", "-1")
        after = int(after) if after.lstrip("-").isdecimal() and len(after) < 10 else -1
        events = self._events(self._job(request, Job), after)
        return StreamingResponse(events, media_type="text/event-stream")

    async def frames(self, request: Request) -> Response:
        """Ids and pixels that are there already."""
        job, video = self._job(request, Videos), _number(request, "video", 0)
        return JSONResponse(await run_in_threadpool(job.so_far, video))

    async def file(self, request: Request) -> Response:
        """A video as a file."""
        job, video = self._job(request, Videos), _number(request, "video", 0)
        kind, scale = request.query_params.get("format", "mp4"), _number(request, "scale", 4)
        data = await run_in_threadpool(job.file, video, kind, scale)
        name = f'attachment; filename="flashvideo-{job.plan.seeds[video]}.{kind}"'
        return Response(data, media_type=FORMATS[kind], headers={"content-disposition": name})

    async def pause(self, request: Request) -> Response:
        """A stream rests."""
        return self._paused(request, True)

    async def resume(self, request: Request) -> Response:
        """A stream goes on."""
        return self._paused(request, False)

    async def fork(self, request: Request) -> Response:
        """Another stream that goes on from here, with another prompt or seed."""
        job = self._job(request, StreamJob)
        prompt, seed = asking.read_fork(await _body(request, asking.MOST_BYTES))
        return self._begun(await self._on_thread(lambda: job.fork(prompt, seed)))

    async def state(self, request: Request) -> Response:
        """A stream as `fv generate --resume` goes on with it."""
        data = await self._on_thread(self._job(request, StreamJob).saved)
        name = {"content-disposition": 'attachment; filename="stream.safetensors"'}
        return Response(data, media_type="application/octet-stream", headers=name)

    async def _asked(self, request: Request) -> asking.Asked:
        body = await _body(request, asking.MOST_BYTES)
        return asking.read_asked(body, self.generator.model)

    async def _on_thread(self, function: Callable[[], Any]) -> Any:
        return await asyncio.wrap_future(self.jobs.do(function))

    async def _events(self, job: Job, after: int) -> AsyncIterator[str]:
        async with contextlib.aclosing(job.events(after)) as events:
            async for text in events:
                yield text
                self.jobs.wake() if isinstance(job, StreamJob) else None

    def _begun(self, job: StreamJob) -> Response:
        self.jobs.add(job)
        about_it = {"id": job.id, "events": f"/v1/streams/{job.id}/events"}
        return JSONResponse(about_it, 202, {"location": f"/v1/streams/{job.id}"})

    def _paused(self, request: Request, paused: bool) -> Response:
        job = self._job(request, StreamJob)
        job.pause(paused)
        self.jobs.wake()
        return JSONResponse(job.describe())

    def _job(self, request: Request, kind: type) -> Any:
        job = self.jobs.get(request.path_params["id"])
        if not isinstance(job, kind):
            raise HTTPException(404, "there is none of that id, or it is not kept any more")
        return job

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(self.jobs.close)


class Guard:
    """Who may ask, and what every answer says to browsers."""

    def __init__(self, app: Any, token: str):
        self.app, self.token = app, token

    async def __call__(
        self, scope: dict, receive: Callable[[], Awaitable], send: Callable[[Any], Awaitable]
    ) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        request = Request(scope)

        async def with_headers(message: dict) -> None:
            if message["type"] == "http.response.start":
                names = {name for name, _ in message["headers"]}
                more = [(k.encode(), v.encode()) for k, v in _HEADERS.items()]
                message["headers"] += [pair for pair in more if pair[0] not in names]
            await send(message)

        refused = self._refusal(request)
        answer = self.app if refused is None else _error(*refused)
        await answer(scope, receive, with_headers)

    def _refusal(self, request: Request) -> tuple[int, str] | None:
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        if not self.token and _name_of(host) not in HERE:
            return 403, f"this server is for this machine alone, not for {host[:80]!r}"
        if origin is not None and origin.partition("://")[2] != host:
            return 403, "pages of other sites may not ask here"
        if self.token and not self._knows_token(request):
            return 401, "open the address with ?token=TOKEN, or send Authorization: Bearer TOKEN"
        return None

    def _knows_token(self, request: Request) -> bool:
        scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
        given = [request.cookies.get(COOKIE, ""), bearer if scheme.lower() == "bearer" else ""]
        given += [request.query_params.get("token", "")] if request.url.path == "/" else []
        return any(hmac.compare_digest(one.encode(), self.token.encode()) for one in given)


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens there.

    Raises:
        OSError: the port is taken, or the address is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(128)  # who comes before the server is ready waits
    except OSError as error:
        listening.close()
        raise OSError(f"cannot listen at {host} port {port}: {error.strerror}") from error
    return listening


def serve(studio: Studio, listening: socket.socket) -> None:
    """Answer until a signal comes."""
    import uvicorn

    config = uvicorn.Config(
        studio.app(), log_level="warning", access_log=False, server_header=False,
        limit_concurrency=_CONNECTIONS, timeout_keep_alive=30, timeout_graceful_shutdown=1,
    )  # fmt: skip
    uvicorn.Server(config).run(sockets=[listening])


def _name_of(host: str) -> str:
    """A Host header without its port."""
    return host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]


async def _body(request: Request, most: int) -> bytes:
    parts, size = [], 0
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            async for part in request.stream():
                size += len(part)
                if size > most:
                    raise HTTPException(413, f"at most {most} bytes may be sent here")
                parts.append(part)
    except TimeoutError as error:
        raise HTTPException(408, f"the body took more than {_BODY_SECONDS:g} s") from error
    return b"".join(parts)


def _number(request: Request, name: str, usual: int) -> int:
    text = request.query_params.get(name, str(usual))
    if not text.isdecimal() or len(text) > 6:
        raise ValueError(f"{name} must be a whole number, got {text[:40]!r}")
    return int(text)


def _error(code: int, message: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": message}, code, headers)


async def _bad(_: Request, error: Exception) -> Response:
    return _error(400, " ".join(str(error).split()))


async def _full(_: Request, error: Exception) -> Response:
    return _error(503, "too many are waiting; ask again in a moment", {"retry-after": "2"})


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _error(error.status_code, error.detail, dict(error.headers or {}))
