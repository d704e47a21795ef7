"""Whether a server can be reached, found out in two seconds.

Clients of HTTP wait long and try often, which suits slow answers; without a route to the server it
only delays the message. One connection is tried first, with a short limit that holds for the name's
resolution too.
"""

import functools
import os
import queue
import socket
import threading
import urllib.parse
import urllib.request

from substrate_jax.data.paths import one_line

SECONDS = 2.0
_PORTS = {"http": 80, "https": 443, "socks5": 1080, "socks5h": 1080}


def check_route(url: str) -> None:
    """Connect once to the server of a URL, or to the proxy before it; again only after a failure.

    The limit is `SECONDS`, or HF_HUB_ETAG_TIMEOUT where a slow line made the user set that.

    Raises:
      OSError: no connection within the limit.
    """
    parts = urllib.parse.urlsplit(url)
    if not parts.hostname:
        return
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if proxy and not urllib.request.proxy_bypass(parts.hostname):
        parts = urllib.parse.urlsplit(proxy if "//" in proxy else f"//{proxy}")
    _connect(parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 80))


def check_hub_route() -> None:
    """Find out at once that there is no route: the client of the Hugging Face hub tries for 25 s.

    Raises:
      OSError: as `check_route`.
    """
    from huggingface_hub import constants

    if not constants.HF_HUB_OFFLINE:
        check_route(constants.ENDPOINT)


def hub_errors() -> tuple[type[Exception], ...]:
    """What keeps a file of the Hugging Face hub from us."""
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    # The first bases are the HTTP client's own, whichever the installed huggingface_hub has.
    return (*HfHubHTTPError.__bases__, HFValidationError, OSError)


@functools.lru_cache
def _connect(host: str, port: int) -> None:
    chosen = os.environ.get("HF_HUB_ETAG_TIMEOUT", "")
    seconds = float(chosen) if chosen.isdecimal() else SECONDS
    answers: queue.SimpleQueue[OSError | None] = queue.SimpleQueue()

    def connect() -> None:
        try:
            socket.create_connection((host, port), seconds).close()
            answers.put(None)
        except OSError as error:
            answers.put(error)

    # Resolving a name knows no limit, so it is left behind in a thread that ends with the process.
    threading.Thread(target=connect, name="route", daemon=True).start()
    try:
        error = answers.get(timeout=seconds)
    except queue.Empty:
        error = TimeoutError(f"no answer within {seconds:g} s")
    if error is not None:
        raise OSError(f"no route to {host}: {error.strerror or one_line(error)}") from error
