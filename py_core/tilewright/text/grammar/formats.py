"""The string formats of JSON Schema that are generated, as regular expressions.

Each generates a part of what its specification allows that every validator accepts.
"""

from __future__ import annotations

_DATE = (
    r"(?:[12]\d{3})-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])"
    r"|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)"
)
_TIME = r"(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d(?:\.\d{1,6})?(?:Z|[+-](?:0\d|1[0-4]):[0-5]\d)"
_BYTE = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_LABEL = r"[a-z](?:[a-z0-9-]{0,20}[a-z0-9])?"
_HOST = rf"{_LABEL}(?:\.{_LABEL}){{0,3}}\.[a-z]{{2,6}}"
_PATH = r"[A-Za-z0-9._~!$&'()*+,;=:@-]{0,60}"

FORMATS = {
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}T{_TIME}",
    "duration": r"P(?:\d{1,4}W|\d{1,4}D(?:T\d{1,4}H)?|T\d{1,4}H(?:\d{1,4}M)?|T\d{1,4}[MS])",
    "uuid": r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
    "email": rf"[A-Za-z0-9_+-]{{1,30}}(?:\.[A-Za-z0-9_+-]{{1,30}}){{0,2}}@{_HOST}",
    "hostname": _HOST,
    "ipv4": rf"{_BYTE}(?:\.{_BYTE}){{3}}",
    "ipv6": r"[0-9a-f]{1,4}(?::[0-9a-f]{1,4}){7}",
    "uri": rf"https?:\/\/{_HOST}(?:\/{_PATH}){{0,8}}",
}
"""RFC 3339 (dates and times), RFC 4122, RFC 5321, RFC 1123, RFC 2673, RFC 4291, RFC 3986."""
