"""A web server on the loopback interface that can cut connections and ignore ranges."""

import contextlib
import http.server
import socket
import threading


@contextlib.contextmanager
def serve(files: dict[str, bytes], *, ranges: bool = True, cuts: list[int] | None = None):
    """Address of the server, and the Range header of each request so far.

    `cuts` holds for each request in turn how many bytes it gets before the connection closes;
    requests beyond them get all.
    """
    seen = []
    cuts = list(cuts or ())

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            wanted = self.headers["Range"]
            seen.append(wanted)
            data = files.get(self.path)
            if data is None:
                self.send_error(404)
                return
            start, end = 0, len(data)
            if ranges and wanted:
                first, last = wanted.removeprefix("bytes=").split("-")
                start, end = int(first), min(end, int(last) + 1) if last else end
            if start >= len(data):
                self.send_error(416)
                return
            self.send_response(206 if ranges and wanted else 200)
            self.send_header("Content-Length", str(end - start))
            self.end_headers()
            body = data[start:end]
            # A client that has read enough may be gone.
            with contextlib.suppress(ConnectionError):
                self.wfile.write(body[: cuts.pop(0)] if cuts else body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", seen
        finally:
            server.shutdown()
            thread.join()


def dead_address() -> str:
    """An address where nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"
