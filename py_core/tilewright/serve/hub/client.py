"""What is asked of a hub, over HTTP: commits, lists of files, ranges of files.

Speaks the Hugging Face Hub's API (``revision``, ``tree`` with Link pages, ``resolve``). The token
goes to the hub alone, never to where it redirects. Calls block: the asynchronous half runs them in
threads. Refused and broken requests are tried again with growing pauses.
"""

from __future__ import annotations

import email.message
import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any
from urllib.parse import quote, urlsplit

from ...errors import SourceError
from .reference import HubFile, Reference

HUB = "https://huggingface.co"
_PAGES = 50
_CHUNK = 1 << 18
_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_SAID = {
    401: "it is gated or private, or there is no such repository: accept its conditions on its "
    "page and give a token (HF_TOKEN), or check the name",
    403: "the token may not read it: accept the model's conditions on its page",
    404: "there is no such repository, revision or file: check the name",
    410: "it was removed",
    429: "too many requests were made: wait some minutes, or give a token (HF_TOKEN)",
}


def default_hub() -> str:
    """Return the hub's address; ``HF_ENDPOINT`` names a mirror."""
    return (os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects without taking the token to another host."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        made = super().redirect_request(req, fp, code, msg, headers, newurl)
        if made is not None and urlsplit(newurl).netloc != urlsplit(req.full_url).netloc:
            made.remove_header("Authorization")
        return made


@dataclass(frozen=True)
class Client:
    """A hub and how patiently it is asked."""

    hub: str
    token: str | None = None
    retries: int = 5
    pause: float = 0.5
    """Seconds before the second try; doubled each time."""
    timeout: float = 30.0

    def commit(self, reference: Reference) -> str:
        """Return the commit of a revision. Raises SourceError."""
        revision = quote(reference.revision, safe="")
        found = self._json(f"{self.hub}/api/models/{reference.repository}/revision/{revision}")
        sha = found.get("sha") if isinstance(found, dict) else None
        if not isinstance(sha, str) or not re.fullmatch(r"[0-9a-f]{40}", sha):
            raise SourceError(f"{self.hub} does not answer like a hub: check HF_ENDPOINT.")
        return sha

    def files(self, reference: Reference, commit: str) -> list[HubFile]:
        """Return all files of a repository at a commit. Raises SourceError."""
        page: str | None = (
            f"{self.hub}/api/models/{reference.repository}/tree/{commit}?recursive=true"
        )
        found = []
        for _ in range(_PAGES):
            if page is None:
                break
            with self._open(page) as answer:
                entries, headers = json.load(answer), answer.headers
            found += [_file(entry) for entry in entries if entry.get("type") == "file"]
            page = self._next(headers)
        return found

    def _next(self, headers: email.message.Message) -> str | None:
        match = re.search(r'<([^>]+)>;\s*rel="next"', headers.get("Link", ""))
        # A list that leads elsewhere must not take the token along.
        same = match and urlsplit(match[1]).netloc == urlsplit(self.hub).netloc
        return match[1] if match and same else None

    def address(self, reference: Reference, commit: str, path: str) -> str:
        """Return where the hub gives a file."""
        return f"{self.hub}/{reference.repository}/resolve/{commit}/{quote(path)}"

    def range(self, url: str, first: int, end: int, size: int) -> Iterator[tuple[int, bytes]]:
        """Yield (offset, bytes) of ``first .. end``; from 0 on where the server ignores ranges.

        One try: what was yielded is kept by the caller, who asks again for the rest.
        """
        with self._once(url, {"Range": f"bytes={first}-{end - 1}"}) as answer:
            at = first
            if answer.status == 206:
                told = re.fullmatch(
                    r"bytes (\d+)-\d+/(\d+)", answer.headers.get("Content-Range", "")
                )
                if told and (int(told[1]), int(told[2])) != (first, size):
                    raise SourceError(
                        f"{url} is another file than the hub's list says: pull it again.",
                        reason="changed",
                    )
            else:
                at, end = 0, size
            while at < end:
                data = answer.read(min(_CHUNK, end - at))
                if not data:
                    raise ConnectionError(f"the connection ended at byte {at} of {end}")
                yield at, data
                at += len(data)

    def _json(self, url: str) -> Any:
        with self._open(url) as answer:
            return json.load(answer)

    def _open(self, url: str) -> Any:
        for attempt in range(self.retries + 1):
            try:
                return self._once(url, {})
            except (SourceError, OSError) as error:
                self.wait_or_raise(error, attempt, url)
        raise AssertionError("the last try returns or raises")

    def wait_or_raise(self, error: Exception, attempt: int, url: str) -> None:
        """Pause before another try, or raise SourceError where there is none."""
        if isinstance(error, SourceError):
            if error.details.get("status") not in _AGAIN or attempt >= self.retries:
                raise error
        elif attempt >= self.retries:
            raise SourceError(
                f"{url} cannot be reached ({error}): check the network, then go on with the same "
                "command.",
                url=url,
            ) from error
        asked = getattr(error, "details", {}).get("retry_after", 0)
        time.sleep(min(60.0, max(asked, self.pause * 2**attempt)))

    def _once(self, url: str, headers: dict[str, str]) -> Any:
        request = urllib.request.Request(url, headers={"User-Agent": "tilewright", **headers})
        if self.token and urlsplit(url).netloc == urlsplit(self.hub).netloc:
            request.add_header("Authorization", f"Bearer {self.token}")
        opener = urllib.request.build_opener(_Redirects())
        try:
            return opener.open(request, timeout=self.timeout)
        except urllib.error.HTTPError as error:
            with error:
                said = _SAID.get(error.code, "the server refused")
                after = error.headers.get("Retry-After", "0")
                raise SourceError(
                    f"{url} was not given ({error.code}): {said}.",
                    status=error.code,
                    retry_after=float(after) if after.isdigit() else 0,
                ) from None
        except urllib.error.URLError as error:
            raise ConnectionError(str(error.reason)) from error
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from error


def _file(entry: dict[str, Any]) -> HubFile:
    lfs = entry.get("lfs") or {}
    digest = lfs.get("oid") or lfs.get("sha256")
    known = isinstance(digest, str) and re.fullmatch(r"[0-9a-f]{64}", digest) is not None
    oid = str(digest if known else entry.get("oid", ""))
    path, size = entry.get("path"), lfs.get("size", entry.get("size"))
    unsafe = not isinstance(path, str) or ".." in path.split("/") or path.startswith("/")
    if unsafe or not isinstance(size, int) or not re.fullmatch(r"[0-9a-f]{40,64}", oid):
        raise SourceError("The hub's list of files makes no sense: check HF_ENDPOINT.")
    return HubFile(str(path), size, oid, digest if known else None)
