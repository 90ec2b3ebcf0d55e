"""A client of HTTP/2 that says what it is told to: frames out of order, half frames, floods."""
import contextlib
import dataclasses
import socket
import struct
import time

import hpack
from hyperframe.frame import (DataFrame, ExtensionFrame, Frame, GoAwayFrame, HeadersFrame, PingFrame,
                              RstStreamFrame, SettingsFrame, WindowUpdateFrame)

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
WINDOW = 1 << 20
TIMEOUT = 120  # seconds: no machine is so busy


def open_socket(address, timeout=TIMEOUT, source=""):
    """A socket connected to host:port or unix:path; `source` is the address it comes from."""
    if address.startswith("unix:"):
        peer = socket.socket(socket.AF_UNIX)
        peer.settimeout(timeout)
        peer.connect(address.removeprefix("unix:"))
        return peer
    host, _, port = address.rpartition(":")
    peer = socket.create_connection((host, int(port)), timeout, (source, 0))
    # A small frame would wait until the one before is acknowledged, which may take 40 ms.
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return peer


def is_closed(peer, timeout=TIMEOUT):
    """Whether the other side ends the connection in time; what it still sends is read."""
    peer.settimeout(timeout)
    try:
        while peer.recv(65536):
            pass
    except socket.timeout:
        return False
    except OSError:
        pass
    return True


def reset(peer):
    """Closes with RST instead of FIN."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


def grpc_message(body, compressed=False, length=None):
    """A message as gRPC frames it; `length` may lie."""
    return struct.pack(">?I", compressed, len(body) if length is None else length) + body


def request_headers(path, **changed):
    """The headers of a gRPC call, in order; a changed one that is None is left out."""
    headers = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "test",
               "te": "trailers", "content-type": "application/grpc", "user-agent": "faults"}
    headers.update({name.replace("_", "-"): value for name, value in changed.items()})
    return [(name, value) for name, value in headers.items() if value is not None]


@dataclasses.dataclass
class Answer:
    """What came back on one stream."""
    headers: dict = dataclasses.field(default_factory=dict)
    data: bytes = b""
    reset: int | None = None  # the code of RST_STREAM
    ended: bool = False

    @property
    def code(self):
        """grpc-status, or None."""
        status = self.headers.get("grpc-status")
        return None if status is None else int(status)

    @property
    def message(self):
        return self.headers.get("grpc-message", "")


class Connection:
    """One connection. Answers are gathered by stream while frames are read."""

    def __init__(self, address, settings=None, greet=True, source=""):
        self.socket = open_socket(address, source=source)
        self.encoder = hpack.Encoder()
        self.decoder = hpack.Decoder()
        self.answers = {}
        self.goaway = None  # the last GOAWAY
        self.frames = 0  # that were read
        self.closed = False
        self._rest = b""
        # What may be sent: on the connection, on a new stream, and what a stream has beyond that.
        self._window, self._initial_window, self._windows = 65535, 65535, {}
        if greet:
            all_settings = {SettingsFrame.INITIAL_WINDOW_SIZE: WINDOW, **(settings or {})}
            self.send_bytes(PREFACE)
            self.send(SettingsFrame(settings=all_settings))

    def send_bytes(self, data):
        """False once the other side has closed."""
        try:
            self.socket.sendall(data)
        except OSError:
            self.closed = True
        return not self.closed

    def send(self, *frames):
        return self.send_bytes(b"".join(frame.serialize() for frame in frames))

    def headers(self, stream, headers, *flags):
        return HeadersFrame(stream, data=self.encoder.encode(headers), flags=["END_HEADERS", *flags])

    def call(self, stream, path, body, **changed):
        """Begins a call whose whole request is `body`, as gRPC frames it."""
        return self.send(self.headers(stream, request_headers(path, **changed)),
                         DataFrame(stream, data=body, flags=["END_STREAM"]))

    def upload(self, stream, path, body):
        """A call with a body of any size, in pieces that the other side has room for."""
        self.send(self.headers(stream, request_headers(path)))
        while body and not self.closed:
            room = min(self._window, self._initial_window + self._windows.get(stream, 0), 16384)
            if room <= 0:
                self.read()
                continue
            piece, body = body[:room], body[room:]
            self.send(DataFrame(stream, data=piece, flags=[] if body else ["END_STREAM"]))
            self._window -= len(piece)
            self._windows[stream] = self._windows.get(stream, 0) - len(piece)

    def read(self, timeout=TIMEOUT):
        """Reads one frame and answers it as a polite client would; None at the connection's end."""
        self.socket.settimeout(timeout)
        try:
            header = self._exactly(9)
            frame, length = Frame.parse_frame_header(memoryview(header))
            frame.parse_body(memoryview(self._exactly(length)))
        except (ConnectionError, EOFError):
            self.closed = True
            return None
        self.frames += 1
        self._take(frame)
        return frame

    def wait(self, stream, timeout=TIMEOUT):
        """The whole answer on a stream, or what there is of it when the connection ends."""
        return self.wait_for(lambda: self.answer(stream).ended, timeout) and self.answer(stream)

    def wait_for(self, condition, timeout=TIMEOUT):
        """Reads until the condition holds or the connection ends."""
        deadline = time.monotonic() + timeout
        while not condition() and not self.closed:
            self.read(max(deadline - time.monotonic(), 0.001))
        return True

    def answer(self, stream):
        return self.answers.setdefault(stream, Answer())

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.close()

    def _exactly(self, count):
        while len(self._rest) < count:
            data = self.socket.recv(65536)
            if not data:
                raise EOFError
            self._rest += data
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken

    def _take(self, frame):
        if isinstance(frame, ExtensionFrame):
            return
        if isinstance(frame, WindowUpdateFrame) and not frame.stream_id:
            self._window += frame.window_increment
        elif isinstance(frame, WindowUpdateFrame):
            self._windows[frame.stream_id] = (self._windows.get(frame.stream_id, 0)
                                              + frame.window_increment)
        elif isinstance(frame, SettingsFrame) and "ACK" not in frame.flags:
            self._initial_window = frame.settings.get(SettingsFrame.INITIAL_WINDOW_SIZE,
                                                      self._initial_window)
            self.send(SettingsFrame(flags=["ACK"]))
        elif isinstance(frame, PingFrame) and "ACK" not in frame.flags:
            self.send(PingFrame(opaque_data=frame.opaque_data, flags=["ACK"]))
        elif isinstance(frame, GoAwayFrame):
            self.goaway = frame
        elif isinstance(frame, HeadersFrame):
            self.answer(frame.stream_id).headers.update(self.decoder.decode(frame.data))
        elif isinstance(frame, RstStreamFrame):
            self.answer(frame.stream_id).reset = frame.error_code
            self.answer(frame.stream_id).ended = True
        elif isinstance(frame, DataFrame):
            self.answer(frame.stream_id).data += frame.data
            if frame.data:
                self.send(WindowUpdateFrame(0, window_increment=len(frame.data)),
                          WindowUpdateFrame(frame.stream_id, window_increment=len(frame.data)))
        if "END_STREAM" in frame.flags and frame.stream_id:
            self.answer(frame.stream_id).ended = True
