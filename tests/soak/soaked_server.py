"""A server process of the soak: started, looked at while it works, ended by SIGTERM."""
import json
import os
import pathlib
import subprocess
import time
import urllib.error
import urllib.request
from typing import NamedTuple

START_LIMIT = 120  # seconds
END_LIMIT = 120


class Sample(NamedTuple):
    """A look at the process. `requests` are those of the whole load that were over by then."""
    seconds: float
    requests: int
    resident_kib: int
    anonymous_kib: int
    descriptors: int


class Slots(NamedTuple):
    used: int
    free: int
    running: int
    waiting: int


def wait_until(condition, limit):
    """Polls; what the condition gave last."""
    deadline = time.monotonic() + limit
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return value


class SoakedServer:
    """Serves once it is constructed. Its log goes to a file, from which it is read again at the end."""

    def __init__(self, binary, model, log, slots, flags):
        self.log = pathlib.Path(log)
        with open(self.log, "wb") as out:
            self.process = subprocess.Popen(
                [str(binary), f"--model={model}", "--listen=127.0.0.1:0", "--metrics-listen=127.0.0.1:0",
                 f"--slots={slots}", "--device=cpu", "--max-client-requests=0",
                 "--log-format=json", "--drain-limit=100s", *flags], stderr=out)
        self._events = {}
        wait_until(lambda: "serving" in self._poll_events() or self.process.poll() is not None, START_LIMIT)
        if "serving" not in self._events:
            self.kill()
            raise RuntimeError(f"the server did not start:\n{self.tail()}")
        self.serving_ns = time.monotonic_ns()
        self.address = self._events["listening"]["address"]
        self._metrics_url = self._events["metrics"]["url"]
        self.samples, self.slots, self.idle = [], [], []  # Sample; Slots; Slots and descriptors without a load
        self.signalled_ns = self.ended_ns = self.exit_code = None

    def _poll_events(self):
        """The lines of the start by their event. They end with "serving"."""
        for line in self.lines():
            self._events.setdefault(line["event"], line)
        return self._events

    def lines(self):
        """The lines of the log so far. A sanitizer writes some that are no JSON."""
        with open(self.log, "rb") as file:
            for raw in file:
                if raw.startswith(b"{") and raw.endswith(b"}\n"):
                    yield json.loads(raw)

    def tail(self, lines=30):
        return "\n".join(self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])

    def metrics(self):
        """Every sample of the metrics page by its name with labels."""
        with urllib.request.urlopen(self._metrics_url, timeout=30) as page:
            lines = page.read().decode().splitlines()
        return {name: float(value)
                for name, value in (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))}

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def _read_slots(self):
        now = self.metrics()
        return Slots(*(int(now[name]) for name in (
            'sluice_state_slots{state="used"}', 'sluice_state_slots{state="free"}', "sluice_requests_running",
            "sluice_requests_waiting")))

    def sample(self, requests):
        """A process that is gone has none."""
        try:
            descriptors = self.descriptors()
            status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text(encoding="utf-8")
            slots = self._read_slots()
        except (OSError, urllib.error.URLError):
            if self.process.poll() is None:
                raise
            return
        resident, anonymous = (int(status.split(f"{name}:")[1].split()[0]) for name in ("VmRSS", "RssAnon"))
        self.samples.append(Sample(time.monotonic(), requests, resident, anonymous, descriptors))
        self.slots.append(slots)

    def look_at_idle(self, base_descriptors=None):
        """Once nobody asks for anything: its slots, and its descriptors when the clients' are closed."""
        wait_until(lambda: sum(self._read_slots()[i] for i in (0, 2, 3)) == 0, 30)
        if base_descriptors is not None:
            wait_until(lambda: self.descriptors() <= base_descriptors, 10)
        self.idle.append((self._read_slots(), self.descriptors()))

    def counted_requests(self):
        return int(sum(value for name, value in self.metrics().items() if name.startswith("sluice_requests_total{")))

    def end(self):
        """SIGTERM, and what it says of its drain."""
        self.signalled_ns = time.monotonic_ns()
        self.process.terminate()
        try:
            self.exit_code = self.process.wait(timeout=END_LIMIT)
        except subprocess.TimeoutExpired:
            self.kill()
            self.exit_code = "none: it did not end"
        self.ended_ns = time.monotonic_ns()

    def kill(self):
        self.process.kill()
        self.process.wait()
