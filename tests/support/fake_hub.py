"""So much of a model hub's HTTP interface as fetching and pushing a model needs, in memory."""

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


class Hub:
    """Models by `OWNER/NAME`: files of each, and all requests that came."""

    def __init__(self):
        self.models: dict[str, dict[str, bytes]] = {}
        self.private: set[str] = set()
        self.requests: list[str] = []
        self.address = ""

    def commit(self, name: str) -> str:
        """Changes with the files, as a commit's hash does."""
        return hashlib.sha1(repr(sorted(self.models[name].items())).encode()).hexdigest()


@contextlib.contextmanager
def running() -> Iterator[Hub]:
    """A hub that answers at `address` for the block."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def answer(self, code: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(code)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def json(self, value, code: int = 200) -> None:
            self.answer(code, json.dumps(value).encode(), Content_Type="application/json")

        def missing(self, why: str) -> None:
            self.answer(404, b"{}", X_Error_Code=why, X_Error_Message=f"no {why}")

        def do_GET(self):
            hub.requests.append(f"{self.command} {self.path}")
            path = unquote(urlsplit(self.path).path)
            if found := re.fullmatch(r"/api/models/(\w+/\w+)(?:/(revision|tree)/(\w+))?", path):
                name, what, revision = found.groups()
                if name not in hub.models:
                    return self.missing("RepoNotFound")
                sha, files = hub.commit(name), hub.models[name]
                if revision not in (None, "main", sha):
                    return self.missing("RevisionNotFound")
                if what == "tree":
                    return self.json([
                        {"type": "file", "path": file, "size": len(data), "oid": _git(data)}
                        for file, data in files.items()
                    ])  # fmt: skip
                siblings = [{"rfilename": file} for file in files]
                return self.json({"id": name, "sha": sha, "siblings": siblings, "private": False})
            if found := re.fullmatch(r"/(\w+/\w+)/resolve/(\w+)/(.+)", path):
                name, _, file = found.groups()
                if file not in hub.models.get(name, {}):
                    return self.missing("EntryNotFound")
                data, sha = hub.models[name][file], hub.commit(name)
                return self.answer(200, data, ETag=f'"{_git(data)}"', X_Repo_Commit=sha)
            return self.missing("Unknown")

        do_HEAD = do_GET

        def do_POST(self):
            hub.requests.append(f"{self.command} {self.path}")
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            if self.headers.get("Authorization") != "Bearer let-me-in":
                return self.answer(401, b"{}", X_Error_Message="Invalid username or password.")
            if self.path == "/api/repos/create":
                wanted = json.loads(body)
                name = "/".join(filter(None, [wanted.get("organization"), wanted["name"]]))
                hub.models.setdefault(name, {})
                if wanted.get("private") or wanted.get("visibility") == "private":
                    hub.private.add(name)
                return self.json({"url": f"{hub.address}/{name}", "name": name})
            found = re.fullmatch(r"/api/models/(\w+/\w+)/(preupload|commit)/main.*", self.path)
            if not found:
                return self.json({})
            name, what = found.groups()
            if what == "preupload":
                files = [file["path"] for file in json.loads(body)["files"]]
                modes = [
                    {"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in files
                ]
                return self.json({"files": modes})
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    content = base64.b64decode(line["value"]["content"])
                    hub.models[name][line["value"]["path"]] = content
            sha = hub.commit(name)
            url = f"{hub.address}/{name}/commit/{sha}"
            return self.json({"success": True, "commitOid": sha, "commitUrl": url})

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def _git(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
