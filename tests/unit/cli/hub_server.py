"""A small hub for tests: commits, lists with pages, redirects to a second port, ranges, faults."""

from __future__ import annotations

import hashlib
import http.server
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef" * 2 + "01234567"


@dataclass
class Hub:
    """One repository, ``org/repo``, and what goes wrong."""

    files: dict[str, bytes]
    token: str = ""
    page: int = 1000
    ranges: bool = True
    refusals: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    """Answers of the storage before it serves."""
    hub_refusals: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    break_after: list[int] = field(default_factory=list)
    """The next answers of the storage end after so many bytes."""
    damage: bool = False
    hold_after: int = 1 << 30
    """After so many answers of the storage the others wait for ``go``."""
    go: threading.Event = field(default_factory=threading.Event)
    asked: list[tuple[str, str]] = field(default_factory=list)
    """(path, Range) of the storage's GETs."""
    sent: int = 0
    tokens_seen: list[str] = field(default_factory=list)
    """Authorization headers that reached the storage."""
    hub: str = ""
    storage: str = ""

    def entries(self) -> list[dict[str, Any]]:
        """What ``tree`` tells."""
        found: list[dict[str, Any]] = [{"type": "directory", "path": "folder", "oid": "0" * 40}]
        for path, content in self.files.items():
            git = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
            entry = {"type": "file", "path": path, "size": len(content), "oid": git}
            if path.endswith((".gguf", ".safetensors")):
                entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content)}
            found.append(entry)
        return found


class _Base(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    model: Hub

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class _Hub(_Base):
    def do_GET(self) -> None:
        hub, asked = self.model, urlsplit(self.path)
        if hub.hub_refusals:
            return self.answer(*hub.hub_refusals.pop(0))
        if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
            return self.answer(401, {})
        if re.fullmatch(r"/api/models/org/repo/revision/(main|v1|" + COMMIT + ")", asked.path):
            return self.answer(200, {}, json.dumps({"sha": COMMIT}).encode())
        if asked.path == f"/api/models/org/repo/tree/{COMMIT}":
            return self.tree(int(parse_qs(asked.query).get("cursor", ["0"])[0]))
        found = re.fullmatch(f"/org/repo/resolve/{COMMIT}/(.+)", asked.path)
        if found and unquote(found[1]) in hub.files:
            return self.answer(302, {"Location": f"{hub.storage}/{found[1]}"})
        return self.answer(404, {})

    def tree(self, start: int) -> None:
        entries, end = self.model.entries(), start + self.model.page
        headers = {}
        if end < len(entries):
            here = f"{self.model.hub}{urlsplit(self.path).path}"
            headers["Link"] = f'<{here}?recursive=true&cursor={end}>; rel="next"'
        self.answer(200, headers, json.dumps(entries[start:end]).encode())


class _Storage(_Base):
    def do_GET(self) -> None:
        hub, path = self.model, unquote(urlsplit(self.path).path.lstrip("/"))
        asked = self.headers.get("Range", "")
        hub.asked.append((path, asked))
        if "Authorization" in self.headers:
            hub.tokens_seen.append(self.headers["Authorization"])
        if len(hub.asked) > hub.hold_after:
            hub.go.wait(60)
        if hub.refusals:
            return self.answer(*hub.refusals.pop(0))
        content = bytearray(hub.files[path])
        if hub.damage:
            content[len(content) // 2] ^= 1
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", asked) if hub.ranges else None
        first, end = (int(found[1]), int(found[2]) + 1) if found else (0, len(content))
        self.send_response(206 if found else 200)
        self.send_header("Content-Range", f"bytes {first}-{end - 1}/{len(content)}")
        self.send_header("Content-Length", str(end - first))
        self.end_headers()
        stop = min(end, first + hub.break_after.pop(0)) if hub.break_after else end
        try:
            self.wfile.write(content[first:stop])
        except OSError:
            return None  # the reader has gone
        hub.sent += stop - first
        self.close_connection = stop < end
        return None


@contextmanager
def serving(hub: Hub) -> Iterator[Hub]:
    """Serve ``hub`` on two ports."""
    servers = []
    for handler in (_Hub, _Storage):
        made = type(handler.__name__, (handler,), {"model": hub})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), made)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        servers.append(server)
    hub.hub, hub.storage = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
