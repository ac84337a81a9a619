"""Starts the viewer for a run folder on this machine until it is stopped."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

from star_rft.errors import UserError
from star_rft.progress import Progress
from star_rft.viewer.access import hosts_of
from star_rft.viewer.app import Viewer, application
from star_rft.viewer.index import build, units_of
from star_rft.viewer.reload import Shelf

LOOPBACK = "127.0.0.1"
# The default if it is free, so that links to the viewer keep working.
PORT = 8320


def listen(port: int | None) -> socket.socket:
    """Return a socket on this machine only. None: the usual port or, where that is taken, any; 0: any free one.

    Raises UserError if a given port cannot be used.
    """
    for wanted in (PORT, 0) if port is None else (port,):
        found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((LOOPBACK, wanted))
            found.listen()
            return found
        except OSError as error:
            found.close()
            reason = error.strerror
    raise UserError(f"--port {port}: {reason}: choose another, or leave it out for any free one")


def serve(
    run_dir: Path,
    *,
    port: int | None,
    group_by: str | None,
    own: range | None,
    progress: Callable[[], AbstractContextManager[Progress]],
    say: Callable[[str], None],
    opens: bool,
) -> None:
    """Read a run, print the viewer's address, and serve it until SIGINT or SIGTERM.

    The port is taken first, so that one that is in use fails at once.
    """
    import uvicorn

    with listen(port) as taken, tempfile.TemporaryDirectory(prefix="star-rft-view-") as scratch:
        number = taken.getsockname()[1]
        make = partial(build, run_dir, group_by=group_by, scratch=Path(scratch))
        began = time.monotonic()
        with progress() as shown, shown.stage("reading the ledger", len(units_of(run_dir)[0])) as advance:
            index = make(advance=advance)
        shelf = Shelf(run_dir, make, index, time.monotonic() - began)
        viewer = Viewer(shelf, run_dir.resolve().name, group_by, own)
        app = application(viewer, hosts=hosts_of(number))
        config = uvicorn.Config(
            app,
            log_level="warning",
            lifespan="off",
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=2,
        )
        say(f"{run_dir}: http://{LOOPBACK}:{number}/  (Ctrl-C ends it)")
        if opens and has_display():
            open_browser(f"http://{LOOPBACK}:{number}/")
        uvicorn.Server(config).run(sockets=[taken])


def has_display() -> bool:
    """Return whether this machine has a display to open a browser on."""
    return sys.platform in ("darwin", "win32") or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def open_browser(url: str) -> None:
    """Open a page in the default browser."""
    import webbrowser

    webbrowser.open(url)
