"""A server of model files that behaves like the hub: lists, redirects, ranges, ETags, and refusals.

``/org/repo/resolve/REVISION/FILE`` redirects to a second port, as the hub does to its storage, and
``/api/models/org/repo/tree/REVISION`` lists the folder page by page. What was asked of the storage
is in ``asked``. Knows nothing of models.
"""

from __future__ import annotations

import hashlib
import http.server
import json
import re
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

PIECE = 16 * 1024


@dataclass
class ModelHost:
    """Files under two ports; the knobs may be turned while it runs."""

    folder: Path
    bytes_per_second: float = 0.0
    """0: as fast as it goes."""
    status: int = 0
    """Answer everything with this status instead; 0: normally."""
    break_after: int = 0
    """End the next answer after this many bytes, once."""
    etag: str = '"one"'
    ranges: bool = True
    """Whether Range is honoured; else the whole file is sent."""
    readable: bool = True
    """Whether pages of other origins may read Content-Range and ETag."""
    refusals: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    """Answers of the storage, used up one by one before it serves."""
    damage: set[int] = field(default_factory=set)
    """Offsets of bytes that are sent wrong, once each."""
    token: str = ""
    """Where given, the hub wants it."""
    revisions: set[str] = field(default_factory=lambda: {"main"})
    page: int = 1000
    """Files per page of a list."""
    lists: bool = True
    """Whether there is an API; mirrors may have none."""
    asked: list[tuple[str, str]] = field(default_factory=list)
    """(path, Range header) of every GET of the storage port."""
    lists_asked: int = 0
    tokens: list[str] = field(default_factory=list)
    """Authorization headers that reached the storage."""
    sent: int = 0
    """Bytes of bodies."""
    preflights: int = 0

    def __enter__(self) -> ModelHost:
        self._servers = [self._serve(_storage(self)), self._serve(_hub(self))]
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    @staticmethod
    def _serve(handler: type[http.server.BaseHTTPRequestHandler]) -> http.server.HTTPServer:
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server

    @property
    def storage(self) -> str:
        """Address of the port that has the bytes."""
        return f"http://127.0.0.1:{self._servers[0].server_port}"

    @property
    def hub(self) -> str:
        """Address of the port that redirects."""
        return f"http://127.0.0.1:{self._servers[1].server_port}"

    def listing(self) -> list[dict[str, Any]]:
        """Return what the API tells of the folder: large files with their digest."""
        found: list[dict[str, Any]] = []
        for path in sorted(self.folder.rglob("*")):
            if not path.is_file():
                continue
            content = path.read_bytes()
            entry = {
                "type": "file",
                "path": path.relative_to(self.folder).as_posix(),
                "size": len(content),
                "oid": hashlib.sha1(content).hexdigest(),
            }
            if path.suffix in (".gguf", ".safetensors"):
                digest = hashlib.sha256(content).hexdigest()
                entry["lfs"] = {"oid": digest, "size": len(content), "pointerSize": 134}
            found.append(entry)
        return found


class _Base(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    readable = True

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, status: int, headers: dict[str, str], length: int = 0) -> None:
        self.send_response(status)
        self.send_header("Access-Control-Allow-Origin", "*")
        if self.readable:
            self.send_header("Access-Control-Expose-Headers", "*")
        for name, value in {**headers, "Content-Length": str(length)}.items():
            self.send_header(name, value)
        # What an isolated page (COEP: require-corp) needs of other origins.
        self.send_header("Cross-Origin-Resource-Policy", "cross-origin")
        self.end_headers()

    def preflight(self) -> None:
        """Allow what needs asking first: an access token."""
        allowed = {
            "Access-Control-Allow-Headers": "authorization, range",
            "Access-Control-Allow-Methods": "GET",
        }
        self.answer(204, allowed)


def _hub(host: ModelHost) -> type[_Base]:
    class Hub(_Base):
        def do_GET(self) -> None:
            if host.status:
                return self.answer(host.status, {})
            asked = urlsplit(self.path)
            listed = re.fullmatch(r"/api/models/org/repo/tree/([^/]+)(?:/.*)?", asked.path)
            found = re.fullmatch(r"/org/repo/resolve/([^/]+)/(.+)", asked.path)
            if host.token and self.headers.get("Authorization") != f"Bearer {host.token}":
                return self.answer(401, {"X-Error-Code": "GatedRepo"})
            revision = unquote((listed or found or ["", ""])[1])
            if (listed or found) and revision not in host.revisions:
                return self.answer(404, {"X-Error-Code": "RevisionNotFound"})
            if listed and host.lists:
                return self.list(asked.query)
            if found is None or not (host.folder / unquote(found[2])).is_file():
                return self.answer(404, {"X-Error-Code": "EntryNotFound"} if found else {})
            return self.answer(302, {"Location": f"{host.storage}/{found[2]}"})

        def list(self, query: str) -> None:
            host.lists_asked += 1
            start = int(parse_qs(query).get("cursor", ["0"])[0])
            files = host.listing()
            headers = {"Content-Type": "application/json"}
            if start + host.page < len(files):
                here = urlsplit(self.path).path
                target = f"{host.hub}{here}?recursive=true&cursor={start + host.page}"
                headers["Link"] = f'<{target}>; rel="next"'
            body = json.dumps(files[start : start + host.page]).encode()
            self.answer(200, headers, len(body))
            self.wfile.write(body)

        def do_OPTIONS(self) -> None:
            host.preflights += 1
            if host.token:
                return self.preflight()
            return self.answer(405, {})

    return Hub


def _storage(host: ModelHost) -> type[_Base]:
    class Storage(_Base):
        def do_GET(self) -> None:
            self.readable = host.readable
            path = host.folder / unquote(self.path.partition("?")[0].lstrip("/"))
            asked = self.headers.get("Range", "")
            host.asked.append((self.path, asked))
            if "Authorization" in self.headers:
                host.tokens.append(self.headers["Authorization"])
            if host.refusals:
                return self.answer(*host.refusals.pop(0))
            if not path.is_file():
                return self.answer(404, {})
            size = path.stat().st_size
            found = re.fullmatch(r"bytes=(\d+)-(\d*)", asked) if host.ranges else None
            first, last = 0, size - 1
            headers = {"ETag": host.etag, "Content-Type": "application/octet-stream"}
            if found:
                first = int(found[1])
                last = min(int(found[2] or last), last)
                headers["Content-Range"] = f"bytes {first}-{last}/{size}"
            with path.open("rb") as file:
                file.seek(first)
                content = bytearray(file.read(last + 1 - first))
            for at in [at for at in host.damage if first <= at <= last]:
                host.damage.discard(at)
                content[at - first] ^= 0xFF
            self.answer(206 if found else 200, headers, last + 1 - first)
            return self.send(content)

        def send(self, content: bytearray) -> None:
            stop = len(content)
            if host.break_after and stop > 1:
                stop, host.break_after = min(stop, host.break_after), 0
            for at in range(0, stop, PIECE):
                piece = content[at : min(at + PIECE, stop)]
                try:
                    self.wfile.write(piece)
                except OSError:
                    return None  # the reader has gone
                host.sent += len(piece)
                if host.bytes_per_second:
                    time.sleep(len(piece) / host.bytes_per_second)
            self.close_connection = stop < len(content)
            return None

        def do_OPTIONS(self) -> None:
            host.preflights += 1
            self.answer(405, {})

    return Storage
