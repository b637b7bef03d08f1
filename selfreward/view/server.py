"""Starts the page on a port of the loopback, says where it is, and stops with Ctrl-C."""

from __future__ import annotations

import contextlib
import getpass
import os
import secrets
import socket
import sys
import threading
from pathlib import Path

from selfreward.errors import UsageError


def serve(path: Path, port: int = 0, open_page: bool = True, reviewer: str = "reviewer") -> None:
    """Show a run until Ctrl-C. Raises UsageError if the port is taken, StoreError if there is no run."""
    import uvicorn

    from selfreward.view.app import make_app
    from selfreward.view.shelf import Shelf

    shelf = Shelf(path)
    try:
        with _listening(port) as listener:
            port, token = listener.getsockname()[1], secrets.token_urlsafe(18)
            app = make_app(shelf, reviewer, token, port)
            settings = uvicorn.Config(
                app,
                log_level="warning",
                access_log=False,
                lifespan="off",
                ws="none",
                timeout_graceful_shutdown=1,
            )
            _say_where(path, f"http://127.0.0.1:{port}/?token={token}", port, open_page)
            # Uvicorn has stopped in order when it passes the signal on; where Ctrl-C was ignored from the start, it does not.
            with contextlib.suppress(KeyboardInterrupt):
                uvicorn.Server(settings).run(sockets=[listener])
            print("\nstopped", file=sys.stderr)
    finally:
        shelf.close()


def _listening(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        # Only the loopback: no other machine can reach it.
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
    except (OSError, OverflowError) as error:
        listener.close()
        reason = error.strerror if isinstance(error, OSError) else "expected 0 to 65535"
        raise UsageError(
            f"--port {port}: cannot be used ({reason}); leave it out, and a free port is chosen"
        ) from error
    return listener


def _say_where(path: Path, address: str, port: int, open_page: bool) -> None:
    print(f"{path}: {address}\nCtrl-C stops it", flush=True)
    connection = os.environ.get("SSH_CONNECTION", "").split()
    if len(connection) == 4:
        here = f"{getpass.getuser()}@{connection[2]}"
        print(f"on your own machine first: ssh -N -L {port}:127.0.0.1:{port} {here}", flush=True)
    elif open_page:
        # In a thread: a browser in the terminal returns only when it is left.
        threading.Thread(target=_open, args=(address,), daemon=True).start()


def _open(address: str) -> None:
    import webbrowser

    if not webbrowser.open(address):
        print("no browser was found; open the address in one", file=sys.stderr, flush=True)
