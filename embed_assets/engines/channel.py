"""Messages between this process and one it started: any object, large arrays without a copy."""

import pickle
import socket
import struct
from contextlib import suppress
from typing import Any

_LENGTH = struct.Struct("<Q")
# The kernel's default of about 200 KiB makes the two sides take turns over every few rows.
_BUFFER_BYTES = 4 << 20


class Channel:
    """One end of a socket pair. EOFError, at once, where either end is closed."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        for direction in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            end.setsockopt(socket.SOL_SOCKET, direction, _BUFFER_BYTES)

    def send(self, message: object) -> None:
        """Send a picklable object; the memory of its arrays goes out as it stands."""
        buffers: list[pickle.PickleBuffer] = []
        pickled = pickle.dumps(message, protocol=5, buffer_callback=buffers.append)
        parts = [memoryview(pickled), *(buffer.raw() for buffer in buffers)]
        sizes = b"".join(_LENGTH.pack(part.nbytes) for part in parts)
        try:
            self._end.sendall(_LENGTH.pack(len(parts)) + sizes)
            for part in parts:
                self._end.sendall(part)
        except OSError as error:
            raise EOFError("the other process is gone") from error

    def receive(self) -> Any:  # noqa: ANN401
        """The next message; waits for it. Its arrays can be written to."""
        (n_parts,) = _LENGTH.unpack(self._read(_LENGTH.size))
        sizes = self._read(n_parts * _LENGTH.size)
        pickled, *buffers = [self._read(size) for (size,) in _LENGTH.iter_unpack(sizes)]
        return pickle.loads(pickled, buffers=buffers)

    def close(self) -> None:
        """Both ends then read EOFError, also where another thread waits for a message."""
        with suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)
        self._end.close()

    def _read(self, n_bytes: int) -> bytearray:
        data = bytearray(n_bytes)
        rest = memoryview(data)
        while rest:
            try:
                n_read = self._end.recv_into(rest)
            except OSError as error:
                raise EOFError("the other process is gone") from error
            if n_read == 0:
                raise EOFError("the other process is gone")
            rest = rest[n_read:]
        return data
