"""The static server: what a browser's caches, ranges and policies rely on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tilewright.serve.http import create_app, negotiate, parse_range


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    site, models = tmp_path / "site", tmp_path / "models"
    (site / "assets").mkdir(parents=True)
    models.mkdir()
    (site / "index.html").write_text("<!doctype html>hello")
    (site / "assets" / "page-ABCD1234.js").write_bytes(b"plain script")
    (site / "assets" / "page-ABCD1234.js.br").write_bytes(b"brotli")
    (site / "assets" / "page-ABCD1234.js.gz").write_bytes(b"gzip!!")
    (site / "app.wasm").write_bytes(b"\0asm")
    (models / "tiny.gguf").write_bytes(bytes(range(100)))
    (site / "models").mkdir()
    (site / "models" / "own.gguf").write_bytes(b"own")
    (tmp_path / "secret.txt").write_text("secret")
    transport = httpx.ASGITransport(create_app(site, models))
    async with httpx.AsyncClient(transport=transport, base_url="http://site") as client:
        yield client


async def test_pages_are_isolated_and_under_the_strict_policy(client: httpx.AsyncClient) -> None:
    answer = await client.get("/")
    assert answer.text == "<!doctype html>hello"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"
    assert answer.headers["cross-origin-embedder-policy"] == "require-corp"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self' 'wasm-unsafe-eval';" in policy
    assert "unsafe-inline" not in policy
    assert answer.headers["cache-control"] == "no-cache"


async def test_other_origins_may_load_parts_but_neither_pages_nor_models(
    client: httpx.AsyncClient,
) -> None:
    expected = {
        "/": "same-origin",
        "/app.wasm": "cross-origin",
        "/models/own.gguf": "cross-origin",
        "/models/tiny.gguf": "same-origin",
    }
    for path, policy in expected.items():
        headers = (await client.get(path)).headers
        assert headers["cross-origin-resource-policy"] == policy
        assert headers.get("access-control-allow-origin") == ("*" if policy[0] == "c" else None)


async def test_content_types(client: httpx.AsyncClient) -> None:
    assert (await client.get("/app.wasm")).headers["content-type"] == "application/wasm"
    assert (await client.get("/")).headers["content-type"] == "text/html; charset=utf-8"
    assert (await client.get("/models/tiny.gguf")).headers[
        "content-type"
    ] == "application/octet-stream"


@pytest.mark.parametrize(
    ("accepted", "body", "encoding"),
    [("gzip, br", b"brotli", "br"), ("gzip", b"gzip!!", "gzip"), ("br;q=0", b"plain script", None)],
)
async def test_precompressed_files(
    client: httpx.AsyncClient, accepted: str, body: bytes, encoding: str | None
) -> None:
    path = "/assets/page-ABCD1234.js"
    async with client.stream("GET", path, headers={"Accept-Encoding": accepted}) as answer:
        assert b"".join([piece async for piece in answer.aiter_raw()]) == body
        assert answer.headers.get("content-encoding") == encoding
        assert answer.headers["content-type"].startswith("text/javascript")
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        assert answer.headers["vary"] == "Accept-Encoding"
    assert (await client.get(path + ".br")).status_code == 404


@pytest.mark.parametrize(
    ("asked", "status", "body", "told"),
    [
        ("bytes=0-0", 206, bytes([0]), "bytes 0-0/100"),
        ("bytes=90-", 206, bytes(range(90, 100)), "bytes 90-99/100"),
        ("bytes=-3", 206, bytes([97, 98, 99]), "bytes 97-99/100"),
        ("bytes=95-1000", 206, bytes(range(95, 100)), "bytes 95-99/100"),
        ("bytes=100-", 416, b"", "bytes */100"),
        ("bytes=5-2", 200, bytes(range(100)), None),
        ("bytes=0-1,4-5", 200, bytes(range(100)), None),
        ("lines=0-1", 200, bytes(range(100)), None),
    ],
)
async def test_ranges(
    client: httpx.AsyncClient, asked: str, status: int, body: bytes, told: str | None
) -> None:
    answer = await client.get("/models/tiny.gguf", headers={"Range": asked})
    assert (answer.status_code, answer.content) == (status, body)
    assert answer.headers.get("content-range") == told


async def test_ranges_and_validators(client: httpx.AsyncClient) -> None:
    tag = (await client.get("/models/tiny.gguf")).headers["etag"]
    assert (
        await client.get("/models/tiny.gguf", headers={"If-None-Match": tag})
    ).status_code == 304
    assert (
        await client.get("/models/tiny.gguf", headers={"If-None-Match": '"old"'})
    ).status_code == 200
    same = {"Range": "bytes=0-1", "If-Range": tag}
    assert (await client.get("/models/tiny.gguf", headers=same)).status_code == 206
    changed = {"Range": "bytes=0-1", "If-Range": '"old"'}
    assert (await client.get("/models/tiny.gguf", headers=changed)).status_code == 200


async def test_models_are_listed(client: httpx.AsyncClient) -> None:
    assert (await client.get("/models/")).json() == {
        "models": [{"name": "tiny.gguf", "size": 100}, {"name": "own.gguf", "size": 3}]
    }
    assert (await client.get("/models/own.gguf")).content == b"own"


@pytest.mark.parametrize(
    "path", ["/../secret.txt", "/..%2fsecret.txt", "/%2e%2e/secret.txt", "/a%00b", "/nothing"]
)
async def test_nothing_outside_the_folder(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 404
    assert "secret" not in answer.text.replace("secret.txt", "")


async def test_a_link_out_of_the_folder_is_not_followed(
    client: httpx.AsyncClient, tmp_path: Path
) -> None:
    (tmp_path / "site" / "link.txt").symlink_to(tmp_path / "secret.txt")
    assert (await client.get("/link.txt")).status_code == 404


async def test_head_has_no_body(client: httpx.AsyncClient) -> None:
    answer = await client.head("/models/tiny.gguf")
    assert (answer.headers["content-length"], answer.content) == ("100", b"")


def test_negotiation_reads_qualities() -> None:
    assert negotiate("gzip;q=0.5, br;q=1.0, zstd;q=0") == {"gzip", "br"}


def test_a_suffix_range_longer_than_the_file_is_the_file() -> None:
    assert parse_range("bytes=-500", 100) == (0, 100)
