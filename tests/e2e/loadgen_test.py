"""sluice-loadgen against the real server, and the pictures of what it reports."""
import importlib.util
import json
import pathlib
import signal
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SHARES = ("answered", "cancelled", "refused", "interrupted", "errors")


@pytest.fixture(scope="module")
def command(request, server):
    """The command line up to the options of a load."""
    build = pathlib.Path(request.config.getoption("--build"))
    return [str(build / "client" / "loadgen" / "sluice-loadgen"), "--server", server.address, "--connect-limit", "60s"]


def load(command, out, *options):
    """Runs a load to its end; the report, once as JSON and once as text."""
    done = subprocess.run([*command, *options, "--json", str(out)], capture_output=True, text=True, timeout=300,
                          check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(out.read_text(encoding="utf-8")), done.stdout


def metrics_once(server, true):
    """The server's metrics, as soon as this is true of them: it counts a request about when its client hears of it."""
    deadline = time.monotonic() + 60
    while not true(metrics := server.metrics()):
        assert time.monotonic() < deadline, metrics
        time.sleep(0.02)
    return metrics


def idle_metrics(server):
    return metrics_once(server, lambda metrics: metrics["sluice_requests_running"] == 0)


@pytest.fixture(scope="module")
def mixed(command, server, tmp_path_factory):
    """A closed loop of everything, what it reported, and how many requests the server refused meanwhile."""
    refusals = 'sluice_errors_total{code="INVALID_ARGUMENT"}'
    before = idle_metrics(server).get(refusals, 0)
    out = tmp_path_factory.mktemp("mixed") / "run.json"
    report, table = load(command, out, "--users", "8", "--requests", "120", "--output-tokens", "uniform:4,24",
                         "--prompt-tokens", "lognormal:24,0.5", "--shared-prefix", "50%", "--shared-prefix-tokens",
                         "16", "--cancel", "30%", "--cancel-after", "2", "--slow", "5%", "--slow-pause", "2ms",
                         "--invalid", "10%", "--ignore-eos", "--objective", "ttft=60s")
    return out, report, table, idle_metrics(server).get(refusals, 0) - before


def test_a_load_ends_as_intended(mixed):
    _, report, table, refused = mixed
    requests = report["requests"]
    assert requests["measured"] == 120
    assert sum(requests[share] for share in SHARES) == 120
    assert requests["errors"] == 0, report["errors"]
    assert requests["cancelled"] > 0 and requests["refused"] > 0
    assert refused == requests["refused"]
    assert f"{requests['refused']} refused as intended, 0 errors" in table


def test_tokens_are_those_that_the_server_counts(command, server, tmp_path):
    before = idle_metrics(server)
    report, _ = load(command, tmp_path / "run.json", "--users", "4", "--requests", "40", "--output-tokens",
                     "uniform:4,24", "--ignore-eos")
    after = idle_metrics(server)
    for name, reported in (("output_tokens", "output"), ("prompt_tokens", "prompt")):
        counted = after[f"sluice_{name}_total"] - before[f"sluice_{name}_total"]
        tokens = report["throughput"][f"{reported}_tokens_per_second"] * report["window"]["seconds"]
        assert round(tokens) == counted
    assert report["latency_seconds"]["time_to_first_token"]["count"] == 40
    assert report["latency_seconds"]["end_to_end"]["count"] == 40


def test_an_open_loop_with_words_is_served(command, tmp_path):
    report, table = load(command, tmp_path / "run.json", "--rate", "20", "--warmup", "500ms", "--duration", "1s",
                         "--prompt-kind", "words", "--output-tokens", "4", "--progress")
    assert report["load"]["loop"] == "open"
    assert report["requests"]["errors"] == 0, report["errors"]
    assert report["window"]["seconds"] == pytest.approx(1)
    assert "open loop, 20 requests/s (Poisson)" in table


def test_prompts_come_from_a_file(command, tmp_path):
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text('{"text": "It was", "max_tokens": 3}\n{"token_ids": [5, 6, 7, 8], "max_tokens": 3}\n')
    report, _ = load(command, tmp_path / "run.json", "--users", "2", "--requests", "10", "--ignore-eos", "--prompts",
                     str(prompts))
    assert report["requests"]["answered"] == 10
    tokens = report["throughput"]["output_tokens_per_second"] * report["window"]["seconds"]
    assert round(tokens) == 30


def test_control_c_ends_a_load_with_its_report(command, tmp_path):
    out = tmp_path / "run.json"
    process = subprocess.Popen([*command, "--users", "2", "--duration", "1h", "--output-tokens", "20000",
                                "--ignore-eos", "--progress", "--json", str(out)],
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert "in flight 2" in next(line for line in process.stderr if "in flight 2" in line)
    process.send_signal(signal.SIGINT)
    table, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "2 interrupted" in table
    assert json.loads(out.read_text(encoding="utf-8"))["window"]["interrupted"] is True


def test_nothing_is_left_running_after_loads(mixed, server):
    assert idle_metrics(server)["sluice_requests_waiting"] == 0


@pytest.fixture(scope="module")
def plot():
    spec = importlib.util.spec_from_file_location("plot", ROOT / "client" / "loadgen" / "plot.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def check_pictures(plot, report, out, names, suffix):
    plot.main([str(report), "--out", str(out), "--format", suffix])
    for name in names:
        picture = out.with_name(f"{out.name}.{name}.{suffix}")
        assert picture.stat().st_size > 1000
        head = picture.read_bytes()[:200]
        assert head.startswith(b"\x89PNG") if suffix == "png" else b"<?xml" in head


def test_a_run_is_drawn(mixed, plot, tmp_path):
    path, report, _, _ = mixed
    check_pictures(plot, path, tmp_path / "run", ("latency", "throughput"), "svg")
    check_pictures(plot, path, tmp_path / "run", ("latency", "throughput"), "png")
    cdfs = plot.run_latency(report).axes[0]
    assert [line.get_label() for line in cdfs.lines] == list(plot.LATENCIES.values())
    for line in cdfs.lines:
        assert line.get_ydata()[-1] == 1
    requests, tokens = plot.run_throughput(report).axes
    assert [line.get_label() for line in requests.lines] == ["due", "answered", "errors"]
    assert sum(requests.lines[0].get_ydata()) == 120
    assert list(tokens.lines[0].get_ydata()) == report["series"]["output_tokens"]


def test_a_sweep_is_drawn(command, plot, tmp_path):
    out = tmp_path / "sweep.json"
    sweep, table = load(command, out, "--sweep-rates", "5,10", "--duration", "600ms", "--warmup", "0s",
                        "--output-tokens", "8", "--objective", "ttft=60s", "--sweep-served", "0")
    assert sweep["knee"] == 10
    assert "knee: 10 requests/s" in table
    check_pictures(plot, out, tmp_path / "sweep", ("sweep", "latency"), "svg")
    served, latency = plot.sweep_knee(sweep).axes
    assert [len(line.get_xdata()) for line in served.lines[:3]] == [2, 2, 2]
    assert len(latency.lines) == 5  # two latencies, two percentiles, and the knee
    panels = plot.sweep_latency(sweep).axes
    assert [line.get_label() for line in panels[0].lines] == ["5/s", "10/s"]
    # An answer that came in one message has no gaps.
    gaps = [point for point in sweep["points"] if point["report"]["cdf"]["inter_token"]]
    assert len(panels[1].lines) == len(gaps)


def test_what_is_no_report_is_not_drawn(plot, tmp_path):
    report = tmp_path / "other.json"
    report.write_text('{"schema": "other/1"}')
    with pytest.raises(SystemExit, match="schema 'other/1'"):
        plot.main([str(report)])
