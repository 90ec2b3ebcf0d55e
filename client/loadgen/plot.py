#!/usr/bin/env python3
"""Draws what sluice-loadgen wrote with --json: latency CDFs and throughput over time of a run, or a sweep's knee.

    sluice-loadgen --rate 20 --json run.json && python3 client/loadgen/plot.py run.json
    sluice-loadgen --sweep-rates auto --objective ttft=200ms --json sweep.json && python3 client/loadgen/plot.py sweep.json

A run gives FILE.latency.svg and FILE.throughput.svg, a sweep FILE.sweep.svg and FILE.latency.svg (a curve a rate);
FILE is the report's name without .json. --out names another stem, --format png another format.
Needs matplotlib 3 (tests/requirements.txt).
"""
import argparse
import json
import sys

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams.update({"svg.hashsalt": "sluice", "svg.fonttype": "none", "font.size": 9})
import matplotlib.pyplot as plt  # noqa: E402

LATENCIES = {"time_to_first_token": "time to first token", "inter_token": "inter-token",
             "message_gap": "gap between messages", "end_to_end": "end to end"}


def curve(points):
    """A CDF's steps as matplotlib takes them: milliseconds and shares, from 0 upwards."""
    milliseconds = [1e3 * seconds for seconds, _ in points]
    return [milliseconds[0], *milliseconds], [0, *(share for _, share in points)]


def draw_cdf(axes, named_points, xlabel):
    for label, points in named_points:
        if points:
            axes.step(*curve(points), where="post", linewidth=1.2, label=label)
    axes.set_xscale("log")
    axes.set_ylim(0, 1)
    axes.set_xlabel(xlabel)
    axes.set_ylabel("share of all")
    axes.grid(True, which="major", linewidth=0.3)
    if axes.lines:
        axes.legend(fontsize=7)


def run_latency(report):
    figure, axes = plt.subplots(figsize=(5.6, 3.8))
    draw_cdf(axes, [(label, report["cdf"][name]) for name, label in LATENCIES.items()], "milliseconds")
    axes.set_title("latencies, as shares of requests, tokens and gaps")
    return figure


def mark_phases(axes, window, seconds):
    """Grey where nothing is measured."""
    begin = window["warmup_seconds"]
    end = begin + window["seconds"]
    if begin > 0:
        axes.axvspan(0, begin, color="0.9")
    if end < seconds:
        axes.axvspan(end, seconds, color="0.9")


def run_throughput(report):
    series = report["series"]
    seconds = len(series["due"])
    middles = [second + 0.5 for second in range(seconds)]
    figure, (requests, tokens) = plt.subplots(2, 1, figsize=(5.6, 4.6), sharex=True)
    for name in ("due", "answered", "errors"):
        requests.plot(middles, series[name], linewidth=1.2, label=name)
    requests.set_ylabel("requests/s")
    requests.legend(fontsize=7)
    tokens.plot(middles, series["output_tokens"], linewidth=1.2, color="tab:green")
    tokens.set_ylabel("output tokens/s")
    tokens.set_xlabel("seconds since the start; grey: not measured")
    for axes in (requests, tokens):
        axes.set_ylim(bottom=0)
        axes.set_xlim(0, max(seconds, 1))
        axes.grid(True, linewidth=0.3)
        mark_phases(axes, report["window"], seconds)
    requests.set_title("throughput over time")
    return figure


def percentile_curve(points, latency, percentile):
    """Rates and milliseconds, where there are any."""
    pairs = [(point["rate"], point["report"]["latency_seconds"][latency].get(percentile)) for point in points]
    return list(zip(*[(rate, 1e3 * seconds) for rate, seconds in pairs if seconds is not None])) or [[], []]


def sweep_knee(sweep):
    points = sweep["points"]
    rates = [point["rate"] for point in points]
    figure, (served, latency) = plt.subplots(2, 1, figsize=(5.6, 5.2), sharex=True)
    served.plot(rates, rates, ":", color="gray", linewidth=1, label="offered")
    served.plot(rates, [point["report"]["throughput"]["served_per_second"] for point in points], "o-",
                markersize=3.5, linewidth=1.2, label="served")
    served.plot(rates, [point["report"]["goodput"]["requests_per_second"] for point in points], "s-",
                markersize=3.5, linewidth=1.2, label=f"goodput ({sweep['objective']})")
    served.set_ylabel("requests/s")
    for name in ("time_to_first_token", "inter_token"):
        for percentile, style in (("p50", "--"), ("p99", "-")):
            latency.plot(*percentile_curve(points, name, percentile), style, marker="o", markersize=3, linewidth=1.2,
                         label=f"{LATENCIES[name]} {percentile}")
    latency.set_yscale("log")
    latency.set_ylabel("milliseconds")
    latency.set_xlabel("offered requests/s")
    for axes in (served, latency):
        axes.grid(True, which="major", linewidth=0.3)
        if sweep["knee"] is not None:
            axes.axvline(sweep["knee"], color="black", linewidth=0.8)
        axes.legend(fontsize=7)
    knee = "no rate is sustained" if sweep["knee"] is None else f"knee at {sweep['knee']:g} requests/s"
    served.set_title(knee)
    return figure


def sweep_latency(sweep):
    figure, panels = plt.subplots(1, 2, figsize=(9, 3.8))
    for axes, name in zip(panels, ("time_to_first_token", "inter_token")):
        draw_cdf(axes, [(f"{point['rate']:g}/s", point["report"]["cdf"][name]) for point in sweep["points"]],
                 f"{LATENCIES[name]}, milliseconds")
    return figure


DRAWINGS = {
    "sluice-loadgen/1": {"latency": run_latency, "throughput": run_throughput},
    "sluice-loadgen-sweep/1": {"sweep": sweep_knee, "latency": sweep_latency},
}


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", help="what --json wrote")
    parser.add_argument("--out", help="stem of the pictures' names")
    parser.add_argument("--format", default="svg", choices=["svg", "png", "pdf"])
    options = parser.parse_args(arguments)
    with open(options.report, encoding="utf-8") as file:
        report = json.load(file)
    drawings = DRAWINGS.get(report.get("schema"))
    if drawings is None:
        sys.exit(f"plot.py: {options.report} has schema {report.get('schema')!r}; known are {', '.join(DRAWINGS)}")
    stem = options.out or options.report.removesuffix(".json")
    for name, draw in drawings.items():
        figure = draw(report)
        figure.tight_layout()
        figure.savefig(f"{stem}.{name}.{options.format}", dpi=150,
                       metadata={"Date": None} if options.format == "svg" else None)
        plt.close(figure)
        print(f"{stem}.{name}.{options.format}")


if __name__ == "__main__":
    main()
