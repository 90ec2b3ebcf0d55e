"""deploy/local/run: a server, Prometheus and a load, seen from outside, and gone after Ctrl-C."""
import json
import os
import pathlib
import re
import signal
import subprocess
import time
import urllib.parse
import urllib.request

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
RUN = ROOT / "deploy" / "local" / "run"


@pytest.fixture
def start(request):
    """Starts the script; what a failed test leaves running is ended, as it would load the machine for ever."""
    build = request.config.getoption("--build")
    started = []

    def start_with(*options):
        started.append(subprocess.Popen([RUN, "--device", "cpu", "--build", build, *options],
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        return started[-1]

    yield start_with
    for process in started:
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=120)


def read_until(process, last):
    lines = []
    for line in process.stdout:
        lines.append(line.rstrip("\n"))
        if lines[-1] == last:
            return lines
    raise AssertionError("ended without saying so:\n" + "\n".join(lines))


def value_at(url, query):
    with urllib.request.urlopen(f"{url}/api/v1/query?{urllib.parse.urlencode({'query': query})}") as page:
        result = json.load(page)["data"]["result"]
    return float(result[0]["value"][1]) if result else None


def children_of(process):
    """By name; the script's own short-lived helpers are among them until they are waited for."""
    children = {}
    for pid in pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        try:
            children[pathlib.Path(f"/proc/{pid}/comm").read_text().strip()] = int(pid)
        except FileNotFoundError:
            pass
    return children


def test_everything_runs_and_ends_with_ctrl_c(start):
    process = start()
    said = dict(line.split(None, 1) for line in read_until(process, "Ctrl-C ends all.")[:-1])
    with urllib.request.urlopen(said["metrics"]) as page:
        assert b"sluice_build_info" in page.read()
    prometheus = said["graphs"].removesuffix("/graph")
    assert said["alerts"] == f"{prometheus}/alerts"
    logs = pathlib.Path(said["logs"]).parent
    assert {path.name for path in logs.glob("*.log")} == {"server.log", "prometheus.log", "load.log"}

    served = 'sum(sluice_requests_total{namespace="local",job="sluice"})'
    deadline = time.monotonic() + 120
    while not value_at(prometheus, served):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.2)
    children = children_of(process)
    assert set(children) == {"sluice-server", "prometheus", "sluice-loadgen"}

    process.send_signal(signal.SIGINT)
    rest = process.stdout.read()
    assert process.wait(timeout=120) == 0, rest
    assert "tokens/s" in rest  # of the load's report
    assert not logs.exists()
    for child in children.values():
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)


def test_a_load_that_ends_by_itself_ends_all(start):
    process = start("--", "--users", "2", "--requests", "4", "--output-tokens", "4")
    said = process.stdout.read()
    assert process.wait(timeout=120) == 0, said
    assert "tokens/s" in said


def test_what_cannot_start_is_told_with_its_log(start):
    process = start("--", "--users", "no")
    said = process.stdout.read()
    assert process.wait(timeout=120) != 0
    assert "--users" in said
    assert re.search("Try `sluice-loadgen --help`", said)


@pytest.mark.parametrize("options, message", [
    (["--bild", "x"], "run: there is no option --bild"),
    (["--build"], "run: --build needs a value"),
    (["--build", "/nowhere"], "server ended before it was ready"),
])
def test_wrong_options_are_named(options, message):
    done = subprocess.run([RUN, *options], capture_output=True, text=True)
    assert done.returncode in (1, 2)
    assert message in done.stderr
