"""A real Prometheus: Debian's package."""
import json
import re
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request


def until(found, what):
    """Polls, as what is waited for happens inside Prometheus."""
    deadline = time.monotonic() + 120
    while not found():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


class PrometheusProcess:
    """Listens on a free port of loopback; its log is read as it comes."""

    def __init__(self, folder, configuration):
        file = folder / "prometheus.yml"
        file.write_text(configuration)
        self.lines = []
        self._changed = threading.Condition()
        self._ended = False
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={file}", f"--storage.tsdb.path={folder / 'data'}",
             "--web.listen-address=127.0.0.1:0"], stderr=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stderr:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait_until_ready(self):
        def line_with(pattern):
            return next((found for found in (re.search(pattern, line) for line in self.lines)
                         if found), None)

        listening = r'msg="Listening on".* address=(127\.0\.0\.1:[0-9]+)'
        ready = "Server is ready to receive web requests"
        with self._changed:
            self._changed.wait_for(
                lambda: self._ended or (line_with(listening) and line_with(ready)), 120)
            assert not self._ended, "\n".join(self.lines)
            self.url = f"http://{line_with(listening)[1]}"

    def get(self, path, **parameters):
        """The data of an API call; an assertion with Prometheus's own words if it is refused."""
        query = urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{query}", timeout=60) as page:
                answer = json.load(page)
        except urllib.error.HTTPError as error:
            answer = json.load(error)
        assert answer["status"] == "success", f"{parameters}: {answer}"
        return answer["data"]

    def query(self, expression):
        """The series that an expression gives now."""
        return self.get("query", query=expression)["result"]

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=60)
        self._reader.join()
