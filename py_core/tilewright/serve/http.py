"""The static half of the server: the site and a folder of models, as a browser wants them.

Isolation headers, a strict policy, byte ranges, entity tags, precompressed files, and caching for
ever of what carries a hash in its name. Natively only; knows nothing of engines.
"""

from __future__ import annotations

import hashlib
import re
from email.utils import formatdate, parsedate_to_datetime
from pathlib import Path, PurePosixPath
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'wasm-unsafe-eval'",
        "worker-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        # Models come from where the user says.
        "connect-src 'self' https: http://127.0.0.1:* http://localhost:*",
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'self'",
    )
)
ISOLATION = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
}
SHARED = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
}
"""For what the site's pages are made of, which is no secret: pages of other origins may embed the
elements. The pages themselves and the user's models are not among it."""
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".wasm": "application/wasm",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
}
MODEL_SUFFIXES = (".gguf", ".safetensors", ".json")
_ENCODINGS = (("br", ".br"), ("gzip", ".gz"))
_HASHED = re.compile(r"-[0-9A-Za-z]{8,10}(\.\w+)$|-0[0-9a-f]{10}-.*\.whl$")
_PIECE = 1 << 18


def create_app(site: Path, models: Path | None = None) -> Starlette:
    """Return the application: ``site`` at ``/``, the files of ``models`` at ``/models/``.

    The site's own models are there too; ``/models/`` itself lists both as JSON.
    """
    folders = [folder for folder in (models, site / "models") if folder is not None]

    async def serve_site(request: Request) -> Response:
        return _file(request, site, request.path_params["path"] or "index.html", shared=True)

    async def serve_model(request: Request) -> Response:
        path = request.path_params["path"]
        if not path:
            found = {entry["name"]: entry for folder in folders for entry in list_models(folder)}
            return JSONResponse({"models": list(found.values())}, headers=_headers("no-cache"))
        for folder in folders:
            if resolve(folder, path) is not None:
                shared = folder is folders[-1]
                return _file(request, folder, path, encodings=(), shared=shared)
        return _not_found()

    methods = ["GET", "HEAD"]
    return Starlette(
        routes=[
            Route("/models/{path:path}", serve_model, methods=methods),
            Route("/{path:path}", serve_site, methods=methods),
        ]
    )


def list_models(folder: Path) -> list[dict[str, Any]]:
    """Return name and size of the model files below a folder."""
    found = []
    for path in sorted(folder.rglob("*")):
        if path.suffix in MODEL_SUFFIXES and path.is_file():
            found.append({"name": path.relative_to(folder).as_posix(), "size": path.stat().st_size})
    return found


def _headers(caching: str) -> dict[str, str]:
    return {
        **ISOLATION,
        "Content-Security-Policy": POLICY,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": caching,
    }


def _not_found() -> Response:
    return PlainTextResponse("not found\n", 404, headers=_headers("no-cache"))


def resolve(folder: Path, path: str) -> Path | None:
    """Return the file that a URL path names; None outside the folder or where there is none."""
    parts = PurePosixPath(path).parts
    if "\0" in path or "\\" in path or any(part in ("..", "/") for part in parts):
        return None
    base = folder.resolve()
    try:
        target = base.joinpath(*parts).resolve()
        if target.is_dir():
            target = target / "index.html"
        return target if target.is_relative_to(base) and target.is_file() else None
    except OSError:  # a name that the file system cannot hold
        return None


def negotiate(header: str) -> set[str]:
    """Return the encodings that an Accept-Encoding header allows (those with q > 0)."""
    allowed = set()
    for item in header.split(","):
        name, _, rest = item.partition(";")
        quality = re.search(r"q=([\d.]+)", rest)
        if quality is None or float(quality[1].strip(".") or 0) > 0:
            allowed.add(name.strip().lower())
    return allowed


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """Return [start, end) of a single byte range.

    None where the header is to be ignored (malformed, several ranges); ValueError where nothing of
    the range exists (RFC 9110, 14.1.2).
    """
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header.strip())
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] == "":
        start, end = max(0, size - int(match[2])), size
    else:
        start = int(match[1])
        end = size if match[2] == "" else min(size, int(match[2]) + 1)
        if match[2] != "" and int(match[2]) < start:
            return None
    if start >= size or start >= end:
        raise ValueError(header)
    return start, end


def _file(
    request: Request,
    folder: Path,
    path: str,
    encodings: tuple[tuple[str, str], ...] = _ENCODINGS,
    *,
    shared: bool = False,
) -> Response:
    target = resolve(folder, path)
    if target is None or target.suffix in (".br", ".gz"):
        return _not_found()
    hashed = _HASHED.search(path) is not None or "/pyodide-" in f"/{path}"
    headers = _headers("public, max-age=31536000, immutable" if hashed else "no-cache")
    headers |= SHARED if shared and target.suffix != ".html" else {}
    headers["Content-Type"] = TYPES.get(target.suffix, "application/octet-stream")
    headers["Accept-Ranges"] = "bytes"
    wanted = request.headers.get("range")
    if encodings:
        headers["Vary"] = "Accept-Encoding"
        # A range is of the file itself, so that offsets mean what the client thinks.
        allowed = negotiate(request.headers.get("accept-encoding", "")) if not wanted else set()
        for name, suffix in encodings:
            packed = target.with_name(target.name + suffix)
            if name in allowed and packed.is_file():
                target = packed
                headers["Content-Encoding"] = name
                break
    status = target.stat()
    size = status.st_size
    mark = f"{target.name}:{size}:{status.st_mtime_ns}"
    tag = f'"{hashlib.sha256(mark.encode()).hexdigest()[:20]}"'
    headers["ETag"] = tag
    headers["Last-Modified"] = formatdate(status.st_mtime, usegmt=True)
    if _unchanged(request, tag, status.st_mtime):
        return Response(status_code=304, headers=headers)
    condition = request.headers.get("if-range")
    if wanted and condition in (None, tag, headers["Last-Modified"]):
        try:
            found = parse_range(wanted, size)
        except ValueError:
            return Response(
                status_code=416, headers={**headers, "Content-Range": f"bytes */{size}"}
            )
        if found is not None:
            start, end = found
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
            return _stream(request, target, start, end, headers, 206)
    return _stream(request, target, 0, size, headers, 200)


def _unchanged(request: Request, tag: str, modified: float) -> bool:
    known = request.headers.get("if-none-match")
    if known is not None:
        return known.strip() == "*" or tag in [
            item.strip().removeprefix("W/") for item in known.split(",")
        ]
    since = request.headers.get("if-modified-since")
    try:
        return since is not None and int(modified) <= parsedate_to_datetime(since).timestamp()
    except ValueError:
        return False


def _stream(
    request: Request, path: Path, start: int, end: int, headers: dict[str, str], status: int
) -> Response:
    headers["Content-Length"] = str(end - start)
    if request.method == "HEAD":
        return Response(status_code=status, headers=headers)

    def pieces() -> Any:
        with path.open("rb") as file:
            file.seek(start)
            left = end - start
            while left > 0 and (data := file.read(min(_PIECE, left))):
                left -= len(data)
                yield data

    return StreamingResponse(pieces(), status_code=status, headers=headers)
