"""So much of the HTTP interfaces of two object stores as files of a folder need, in memory."""

import contextlib
import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


class Buckets:
    """Files by `BUCKET/PATH`, how often each was written, and the requests that came."""

    def __init__(self):
        self.files: dict[str, bytes] = {}
        self.written: dict[str, int] = {}
        self.requests: list[str] = []
        self.refuses = False
        self.variables: dict[str, str] = {}

    def put(self, name: str, data: bytes) -> None:
        self.files[name] = data
        self.written[name] = self.written.get(name, 0) + 1

    def put_folder(self, name: str, folder: Path) -> None:
        for path in folder.rglob("*"):
            if path.is_file():
                self.put(f"{name}/{path.relative_to(folder)}", path.read_bytes())

    def below(self, bucket: str, start: str, cut: str) -> tuple[dict[str, str], list[str]]:
        """What a listing shows: keys with their names here, and where `cut` ends longer ones."""
        names = [name for name in sorted(self.files) if name.startswith(f"{bucket}/{start}")]
        keys = {name.partition("/")[2]: name for name in names}
        deeper = [key for key in keys if cut and cut in key[len(start) :]]
        folders = {start + key[len(start) :].partition(cut)[0] + cut for key in deeper}
        return {key: keys[key] for key in keys if key not in deeper}, sorted(folders)

    def etag(self, name: str) -> str:
        return hashlib.md5(self.files[name]).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    buckets: Buckets

    def log_message(self, *_):
        pass

    def answer(self, code: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", headers.get("Length", str(len(body))))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def file(self, name: str, **headers: str) -> None:
        data = self.buckets.files[name]
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not found:
            return self.answer(200, data, ETag=f'"{self.buckets.etag(name)}"', **headers)
        first, last = int(found[1]), min(int(found[2] or len(data)), len(data) - 1)
        of = f"bytes {first}-{last}/{len(data)}"
        return self.answer(206, data[first : last + 1], Content_Range=of, **headers)

    def body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return body

    def do(self) -> None:
        self.buckets.requests.append(f"{self.command} {self.path}")
        url = urlsplit(self.path)
        query = {k: v[0] for k, v in parse_qs(url.query, keep_blank_values=True).items()}
        body = self.body()
        if self.buckets.refuses:
            return self.refuse()
        return self.serve(url.path, query, body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = do


class _S3(_Handler):
    def refuse(self):
        self.answer(
            403, b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        )

    def serve(self, path: str, query: dict[str, str], body: bytes):
        files, name = self.buckets.files, unquote(path).strip("/")
        if self.command == "GET" and "list-type" in query:
            return self.list(name, query)
        if self.command == "POST" and "delete" in query:
            for key in re.findall(rb"<Key>(.*?)</Key>", body):
                files.pop(f"{name}/{key.decode()}", None)
            return self.answer(200, b"<DeleteResult/>")
        if self.command == "PUT":
            if "aws-chunked" in self.headers.get("Content-Encoding", ""):
                body = _unchunked(body)
            self.buckets.put(name, body)
            return self.answer(200, ETag=f'"{self.buckets.etag(name)}"')
        if name not in files:
            return self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        if self.command == "DELETE":
            del files[name]
            return self.answer(204)
        if self.command == "HEAD":
            return self.answer(
                200, ETag=f'"{self.buckets.etag(name)}"', Length=str(len(files[name])),
                Last_Modified="Sat, 28 Nov 2026 00:00:00 GMT",
            )  # fmt: skip
        return self.file(name)

    def list(self, bucket: str, query: dict[str, str]):
        start = query.get("prefix", "")
        flat, below = self.buckets.below(bucket, start, query.get("delimiter", ""))
        lines = [
            f"<Contents><Key>{escape(key)}</Key><Size>{len(self.buckets.files[name])}</Size>"
            f"<ETag>&quot;{self.buckets.etag(name)}&quot;</ETag>"
            "<LastModified>2026-11-28T00:00:00.000Z</LastModified></Contents>"
            for key, name in flat.items()
        ] + [f"<CommonPrefixes><Prefix>{escape(key)}</Prefix></CommonPrefixes>" for key in below]
        count = len(flat) + len(below)
        body = (
            '<?xml version="1.0"?><ListBucketResult '
            'xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{bucket}</Name><Prefix>{escape(start)}</Prefix><KeyCount>{count}</KeyCount>"
            f"<IsTruncated>false</IsTruncated>{''.join(lines)}</ListBucketResult>"
        )
        return self.answer(200, body.encode(), Content_Type="application/xml")


def _unchunked(body: bytes) -> bytes:
    """S3's own chunks: SIZE[;signature], data, and trailers after the last, which is empty."""
    data = b""
    while True:
        head, _, body = body.partition(b"\r\n")
        size = int(head.split(b";")[0], 16)
        if not size:
            return data
        data, body = data + body[:size], body[size + 2 :]


class _GCS(_Handler):
    def refuse(self):
        self.answer(403, json.dumps({"error": {"code": 403, "message": "no access"}}).encode())

    def serve(self, path: str, query: dict[str, str], body: bytes):
        if self.command == "POST" and "upload_id" in query:  # the one part of a resumable upload
            self.buckets.put(query["upload_id"], body)
            return self.json(self.about(query["upload_id"]))
        found = re.fullmatch(r"(/upload|/download)?/storage/v1/b/([^/]+)/o(?:/(.+))?", path)
        if not found:
            bucket = re.fullmatch(r"/storage/v1/b/([^/]+)(/storageLayout)?", path)
            return self.json({"name": bucket[1]} if bucket else {}, 200 if bucket else 404)
        bucket, name = found[2], f"{found[2]}/{unquote(found[3] or '')}"
        if self.command == "POST" and found[1] == "/upload":
            if query["uploadType"] == "resumable":
                key = f"{bucket}/{json.loads(body)['name']}"
                where = f"http://{self.headers['Host']}/resume?upload_id={key}"
                return self.answer(200, b"{}", Location=where)
            mark = re.search(r"boundary=['\"]?([^'\";]+)", self.headers["Content-Type"])
            _, meta, data, _ = body.split(b"--" + mark[1].encode())
            key = f"{bucket}/{json.loads(_part(meta))['name']}"
            self.buckets.put(key, _part(data))
            return self.json(self.about(key))
        if name == f"{bucket}/":
            return self.list(bucket, query)
        if name not in self.buckets.files:
            return self.json({"error": {"code": 404, "message": "Not Found"}}, 404)
        if self.command == "DELETE":
            del self.buckets.files[name]
            return self.answer(204)
        if query.get("alt") == "media" or found[1] == "/download":
            return self.file(name)
        return self.json(self.about(name))

    def about(self, name: str) -> dict[str, str]:
        bucket, _, key = name.partition("/")
        return {
            "kind": "storage#object", "bucket": bucket, "name": key,
            "size": str(len(self.buckets.files[name])), "etag": self.buckets.etag(name),
            "generation": str(self.buckets.written[name]),
            "updated": "2026-11-28T00:00:00Z", "timeCreated": "2026-11-28T00:00:00Z",
        }  # fmt: skip

    def list(self, bucket: str, query: dict[str, str]):
        cut = query.get("delimiter", "")
        flat, below = self.buckets.below(bucket, query.get("prefix", ""), cut)
        items = [self.about(name) for name in flat.values()]
        return self.json({"kind": "storage#objects", "items": items, "prefixes": below})

    def json(self, value, code: int = 200) -> None:
        self.answer(code, json.dumps(value).encode(), Content_Type="application/json")


def _part(part: bytes) -> bytes:
    """The content of a part of a multipart body, behind its headers and before its line's end."""
    end = b"\r\n" if part.startswith(b"\r\n") else b"\n"
    return part.partition(end + end)[2].removesuffix(end)


@contextlib.contextmanager
def running(scheme: str) -> Iterator[Buckets]:
    """A store that clients of this scheme find by `variables` of the environment, set meanwhile."""
    buckets = Buckets()
    kind = {"s3": _S3, "gs": _GCS}[scheme]
    handler = type("Handler", (kind,), {"buckets": buckets, "protocol_version": "HTTP/1.1"})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    address = f"http://127.0.0.1:{server.server_port}"
    buckets.variables = {
        "AWS_ENDPOINT_URL": address, "AWS_ACCESS_KEY_ID": "me", "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1", "STORAGE_EMULATOR_HOST": address,
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false", "NO_GCE_CHECK": "true",
    }  # fmt: skip
    before = {name: os.environ.get(name) for name in buckets.variables}
    os.environ.update(buckets.variables)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield buckets
    finally:
        server.shutdown()
        server.server_close()
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
