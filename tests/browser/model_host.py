"""A server of model files that behaves like the hub: redirect, ranges, ETag, slowness, refusals.

``/org/repo/resolve/main/FILE`` redirects to a second port, as the hub does to its storage. What was
asked of it is in ``asked``. Knows nothing of models.
"""

from __future__ import annotations

import http.server
import re
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
    asked: list[tuple[str, str]] = field(default_factory=list)
    """(path, Range header) of every GET of the storage port."""
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
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    @property
    def storage(self) -> str:
        """Address of the port that has the bytes."""
        return f"http://127.0.0.1:{self._servers[0].server_port}"

    @property
    def hub(self) -> str:
        """Address of the port that redirects."""
        return f"http://127.0.0.1:{self._servers[1].server_port}"


class _Base(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self, status: int, headers: dict[str, str], length: int = 0) -> None:
        self.send_response(status)
        exposed = {"Access-Control-Allow-Origin": "*", "Access-Control-Expose-Headers": "*"}
        for name, value in {**exposed, **headers, "Content-Length": str(length)}.items():
            self.send_header(name, value)
        # What an isolated page (COEP: require-corp) needs of other origins.
        self.send_header("Cross-Origin-Resource-Policy", "cross-origin")
        self.end_headers()


def _hub(host: ModelHost) -> type[_Base]:
    class Hub(_Base):
        def do_GET(self) -> None:
            if host.status:
                return self.answer(host.status, {})
            found = re.fullmatch(r"/org/repo/resolve/main/([\w.-]+)", self.path)
            if found is None or not (host.folder / found[1]).is_file():
                return self.answer(404, {})
            return self.answer(302, {"Location": f"{host.storage}/{found[1]}"})

        def do_OPTIONS(self) -> None:
            host.preflights += 1
            self.answer(405, {})

    return Hub


def _storage(host: ModelHost) -> type[_Base]:
    class Storage(_Base):
        def do_GET(self) -> None:
            path = host.folder / self.path.partition("?")[0].lstrip("/")
            asked = self.headers.get("Range", "")
            host.asked.append((self.path, asked))
            found = re.fullmatch(r"bytes=(\d+)-(\d*)", asked)
            if found is None or not path.is_file():
                return self.answer(404, {})
            content = path.read_bytes()
            first = int(found[1])
            last = min(int(found[2] or len(content)), len(content) - 1)
            headers = {
                "ETag": host.etag,
                "Content-Range": f"bytes {first}-{last}/{len(content)}",
                "Content-Type": "application/octet-stream",
            }
            self.answer(206, headers, last + 1 - first)
            stop = last + 1
            if host.break_after and last > first:
                stop, host.break_after = min(stop, first + host.break_after), 0
            for at in range(first, stop, PIECE):
                piece = content[at : min(at + PIECE, stop)]
                try:
                    self.wfile.write(piece)
                except OSError:
                    return None  # the reader has gone
                host.sent += len(piece)
                if host.bytes_per_second:
                    time.sleep(len(piece) / host.bytes_per_second)
            self.close_connection = stop <= last
            return None

        def do_OPTIONS(self) -> None:
            host.preflights += 1
            self.answer(405, {})

    return Storage
