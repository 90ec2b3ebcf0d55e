"""Connections that begin and do not go on."""
import subprocess
import time

from hyperframe.frame import SettingsFrame

from faults.conftest import GENERATE, wait_until
from faults.http2 import PREFACE, Connection, is_closed, open_socket, request_headers

BEGINNINGS = {
    "nothing": b"",
    "half a preface": PREFACE[:10],
    "a preface": PREFACE,
    "half of settings": PREFACE + SettingsFrame().serialize()[:5],
}


def test_a_handshake_that_is_not_finished_is_closed(start):
    server = start("--handshake-limit=1s")
    with server.survives():
        began = time.monotonic()
        silent = [(what, open_socket(server.address)) for what in BEGINNINGS for _ in range(10)]
        for what, peer in silent:
            peer.sendall(BEGINNINGS[what])
        for what, peer in silent:
            assert is_closed(peer, 20), what
            peer.close()
        assert time.monotonic() - began > 0.5, "closed at once"


def test_a_tls_hello_that_is_not_finished_is_closed(start, tmp_path):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                    "-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", tmp_path / "key.pem",
                    "-out", tmp_path / "cert.pem"], check=True, capture_output=True)
    server = start("--handshake-limit=1s", f"--tls-cert={tmp_path}/cert.pem",
                   f"--tls-key={tmp_path}/key.pem")
    files = server.open_files()
    silent = [open_socket(server.address) for _ in range(30)]
    for index, peer in enumerate(silent):
        peer.sendall(bytes.fromhex("16030100c8010000c40303")[:index % 12])
    assert all(is_closed(peer, 20) for peer in silent)
    assert wait_until(lambda: server.open_files() <= files + 2)


def test_frames_that_come_a_byte_at_a_time_hold_nobody_up(start):
    """Such a connection costs a descriptor until it is idle for too long; a slot it costs never."""
    server = start("--slots=2", "--max-connection-idle=2s", "--keepalive=1s")
    with server.survives():
        slow = [Connection(server.address) for _ in range(30)]
        for connection in slow:
            connection.wait_for(lambda c=connection: c.frames)
        frame = slow[0].headers(1, request_headers(GENERATE)).serialize()
        for byte in frame[:20]:
            for connection in slow:
                connection.send_bytes(bytes([byte]))
            assert len(server.tokens(server.ask())) == 8
        assert server.metrics()["sluice_requests_running"] == 0
        for connection in slow:
            connection.close()


def test_a_connection_without_calls_is_closed_in_the_end(start):
    server = start("--max-connection-idle=1s")
    with server.survives():
        idle = Connection(server.address)
        assert wait_until(lambda: idle.read() is None)
        assert idle.goaway is not None, "closed without a word"
