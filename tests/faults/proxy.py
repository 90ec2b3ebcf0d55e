"""A network between client and server that can go away without a word."""
import selectors
import socket
import threading

from faults.http2 import open_socket


class Proxy:
    """Forwards TCP connections to `address`. After stop() it forwards nothing and closes nothing:
    neither side hears of it."""

    def __init__(self, address):
        self._to = address
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self):
        self._stopped.set()
        self._thread.join()

    def close(self):
        self.stop()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()
        self._selector.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _run(self):
        while not self._stopped.is_set():
            for key, _ in self._selector.select(0.02):
                if key.fileobj is self._listener:
                    self._accept()
                elif not self._stopped.is_set():
                    self._forward(key)

    def _accept(self):
        near, far = self._listener.accept()[0], open_socket(self._to)
        self._selector.register(near, selectors.EVENT_READ, far)
        self._selector.register(far, selectors.EVENT_READ, near)

    def _forward(self, key):
        try:
            data = key.fileobj.recv(65536)
            if data:
                key.data.sendall(data)
                return
        except OSError:
            pass
        for side in (key.fileobj, key.data):
            self._selector.unregister(side)
            side.close()
