"""Whether the other processes of a run still live, and how each of them ended.

Processes that compute together wait for each other, also for one that is gone. So each holds a
connection to process 0, which passes on what it hears: `DONE`, `FAILED`, the number of a signal, or
`DIED` where a connection broke with nothing said. The kernel closes the connections of a process
that is killed, and TCP gives up one to a host that does not answer within `SILENCE` seconds; no
process has to be awake for that. Connections begin with a token that only the run knows.

Cost: a connection and a thread for each process.

Not guaranteed: that of two ends the first is heard first. That a process which stands still while
its host answers is noticed: it lives.
"""

import contextlib
import secrets
import socket
import struct
import threading
from collections.abc import Callable, Iterable

DONE, FAILED, DIED = 0, 1, 255  # between them, numbers of signals
SILENCE = 30  # seconds
_CONNECT = 10.0  # seconds for one address
_NOTICE = struct.Struct("!IB")
_HELLO = struct.Struct("!16sI")


class Liveness:
    """This process's part of the watch; `serve` in process 0, `join` in the others.

    Args:
        number: of this process.
        heard: called with (process, how it ended) from a thread of its own.

    Example:
        >>> import queue
        >>> heard = queue.Queue()
        >>> first = Liveness(0, lambda *notice: heard.put(notice))
        >>> second = Liveness(1, print)
        >>> second.join(["localhost"], *first.serve(count=2))
        >>> second.tell(DONE)
        >>> heard.get()
        (1, 0)
    """

    def __init__(self, number: int, heard: Callable[[int, int], None]):
        self.number = number
        self._heard = heard
        self._connections: dict[int, socket.socket] = {}
        self._notices: list[bytes] = []  # for whoever joins after them
        self._told = False
        self._lock = threading.Lock()

    def serve(self, count: int) -> tuple[int, str]:
        """Wait, in a thread, for the others of `count` processes; the port and the token."""
        token = secrets.token_bytes(16)
        server = socket.create_server(("", 0), backlog=count)
        threading.Thread(target=self._accept, args=(server, token, count), daemon=True).start()
        return server.getsockname()[1], token.hex()

    def join(self, hosts: Iterable[str], port: int, token: str) -> None:
        """Connect to process 0 at the first of its names that answers.

        Raises:
            OSError: none does.
        """
        failure = OSError("process 0 has no address")
        for host in hosts:
            try:
                connection = socket.create_connection((host, port), _CONNECT)
                connection.sendall(_HELLO.pack(bytes.fromhex(token), self.number))
            except OSError as error:
                failure = error
                continue
            self._add(0, connection)
            return
        raise failure

    def tell(self, how: int) -> None:
        """Say how this process ends; the first word counts."""
        with self._lock:
            told, self._told = self._told, True
        if told:
            return
        self._pass_on(self.number, how)

    def _accept(self, server: socket.socket, token: bytes, count: int) -> None:
        with server:
            while len(self._connections) < count - 1:
                connection, _ = server.accept()
                connection.settimeout(_CONNECT)
                with contextlib.suppress(OSError):
                    said = _receive(connection, _HELLO.size)
                    if len(said) == _HELLO.size and said[:16] == token:
                        self._add(_HELLO.unpack(said)[1], connection)
                        continue
                connection.close()  # a stranger

    def _add(self, peer: int, connection: socket.socket) -> None:
        connection.settimeout(None)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        tries = {"TCP_KEEPIDLE": SILENCE // 3, "TCP_KEEPINTVL": SILENCE // 6, "TCP_KEEPCNT": 4}
        for name, value in tries.items():
            if hasattr(socket, name):  # macOS has not all
                connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        with self._lock:
            self._connections[peer] = connection
            with contextlib.suppress(OSError):
                connection.sendall(b"".join(self._notices))
        threading.Thread(target=self._listen, args=(peer, connection), daemon=True).start()

    def _listen(self, peer: int, connection: socket.socket) -> None:
        said = False
        with connection, contextlib.suppress(OSError):
            while len(notice := _receive(connection, _NOTICE.size)) == _NOTICE.size:
                process, how = _NOTICE.unpack(notice)
                said |= process == peer
                self._hear(process, how)
        if not said:
            self._hear(peer, DIED)

    def _hear(self, process: int, how: int) -> None:
        if self.number == 0:
            self._pass_on(process, how)
        self._heard(process, how)

    def _pass_on(self, process: int, how: int) -> None:
        notice = _NOTICE.pack(process, how)
        with self._lock:
            self._notices.append(notice)
            for peer, connection in self._connections.items():
                if peer != process:
                    with contextlib.suppress(OSError):
                        connection.sendall(notice)


def _receive(connection: socket.socket, size: int) -> bytes:
    """So many bytes, or fewer where the connection ends."""
    data = b""
    while len(data) < size and (more := connection.recv(size - len(data))):
        data += more
    return data
