#!/usr/bin/env python3
"""Draws cost against length for the three forms of gated linear attention, from what forms_bench prints.

    build/tests/forms_bench --device=cuda > cuda.csv
    build/tests/forms_bench --device=cpu > cpu.csv
    python3 tests/bench/plot_forms.py tests/bench/forms.svg cuda.csv cpu.csv

One panel a file. Needs matplotlib (tests/bench/requirements.txt).
"""
import csv
import sys

import svg_plot

STYLES = {"parallel": ("tab:red", "o"), "recurrent": ("tab:blue", "s"), "chunkwise": ("tab:green", "^")}


def read(path):
    """The device's line, and (tokens, milliseconds) of each form."""
    with open(path, encoding="utf-8") as file:
        lines = file.read().splitlines()
    title = lines[0].lstrip("# ")
    rows = csv.DictReader(line for line in lines if not line.startswith("#"))
    forms = {}
    for row in rows:
        forms.setdefault(row["form"], []).append((int(row["tokens"]), 1e3 * float(row["seconds"])))
    return title, forms


def draw_slopes(axes, forms):
    """A time that grows with the length, and one that grows with its square, beside the right ends."""
    for form, power, label in (("chunkwise", 1, "∝ T"), ("parallel", 2, "∝ T²")):
        tokens, time = forms[form][-1]
        ends = [tokens / 8, tokens]
        axes.plot(ends, [0.45 * time / 8 ** power, 0.45 * time], ":", color="gray", linewidth=1)
        axes.text(tokens / 2, 0.45 * time / 2 ** power / 2.5, label, color="gray")


def draw(axes, title, forms):
    for form, (color, marker) in STYLES.items():
        axes.plot(*zip(*forms[form]), color=color, marker=marker, markersize=3.5, linewidth=1.2, label=form)
    draw_slopes(axes, forms)
    axes.set_title(title.replace("; ", "\n"), fontsize=8)
    svg_plot.logarithmic(axes, "tokens T", "milliseconds")


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    out, paths = sys.argv[1], sys.argv[2:]
    figure, panels = svg_plot.panels(len(paths))
    for axes, path in zip(panels, paths):
        draw(axes, *read(path))
    svg_plot.save(figure, out)


if __name__ == "__main__":
    main()
