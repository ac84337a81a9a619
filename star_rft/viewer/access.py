"""Access rules of the viewer: this machine's own browser only, read-only, no foreign scripts."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

# Styles and scripts carry the response's nonce; a page can load and send nothing else.
POLICY = (
    "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; img-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


def hosts_of(port: int) -> frozenset[str]:
    """Return the values of the header Host that name this machine."""
    return frozenset(f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]"))


class Guard:
    """Answers GET and HEAD to this machine's own names only.

    A page from elsewhere whose name was made to lead here (DNS rebinding) has another Host, and is refused.
    """

    def __init__(self, app: ASGIApp, hosts: frozenset[str]) -> None:
        self.app = app
        self.hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, with the headers that keep other sites out."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope["nonce"] = secrets.token_urlsafe(16)

        async def guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_headers(scope["nonce"])]
            await send(message)

        await (self._refusal(scope) or self.app)(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        from starlette.responses import PlainTextResponse

        named = [value.decode("latin-1").lower() for name, value in scope["headers"] if name == b"host"]
        if len(named) != 1 or named[0] not in self.hosts:
            names = " or ".join(f"http://{host}" for host in sorted(self.hosts))
            text = (
                f"421: this viewer is open as {names} only; where a port is forwarded, forward it to the same number\n"
            )
            return PlainTextResponse(text, 421)
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("405: this viewer only shows\n", 405, {"Allow": "GET, HEAD"})
        return None


def _headers(nonce: str) -> list[tuple[bytes, bytes]]:
    found = {"Content-Security-Policy": POLICY.format(nonce=nonce), **HEADERS}
    return [(name.lower().encode(), value.encode()) for name, value in found.items()]
