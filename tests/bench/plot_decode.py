#!/usr/bin/env python3
"""Draws decode against the batch for every format of weights and states, with the floor of each, from what engine_bench prints.

    build/tests/engine_bench --model DIR --device cuda --prefill "" --decode 1,2,4,8,16,32,64,128,256 > float32.txt
    build/tests/engine_bench ... --state_type float16 --state_ring 16 > float16.txt
    python3 tests/bench/plot_decode.py tests/bench/decode.svg float32.txt float16.txt

A curve a file, and dotted what the same step takes if its weights and states come at the speed of a copy. Prints a
Markdown table too. Needs matplotlib (tests/bench/requirements.txt).
"""
import sys

import engine_output
import svg_plot

STYLES = (("tab:blue", "o"), ("tab:green", "^"), ("tab:red", "s"), ("tab:purple", "D"))


def floor(figure):
    """Tokens a second at the roofline."""
    return figure.rate / figure.share


def draw(axes, outputs):
    for output, (color, marker) in zip(outputs, STYLES):
        figures = output.decodes()
        batches = [figure.batch for figure in figures]
        axes.plot(batches, [figure.rate for figure in figures], color=color, marker=marker, markersize=3.5,
                  linewidth=1.2, label=output.formats)
        axes.plot(batches, [floor(figure) for figure in figures], ":", color=color, linewidth=1,
                  label=f"floor: weights and states of {output.state_mib} MiB, copied")
    axes.set_title(f"decode, {outputs[0].weights} M weights\n{outputs[0].device}", fontsize=8)
    svg_plot.logarithmic(axes, "sequences in a step", "tokens a second")
    axes.set_xticks(batches, [str(batch) for batch in batches])


def table(outputs):
    """Tokens a second and shares of the floor: a row a batch, a column a format."""
    lines = ["| B |" + "".join(f" {output.formats} |" for output in outputs), "|--:|" + "--:|" * len(outputs)]
    rates = [{figure.batch: figure for figure in output.decodes()} for output in outputs]
    for batch in sorted(set().union(*rates)):
        cells = [f" {rate[batch].rate:,.0f} ({100 * rate[batch].share:.0f} %) |" if batch in rate else " |"
                 for rate in rates]
        lines.append(f"| {batch} |" + "".join(cells))
    return "\n".join(lines)


def main(arguments):
    if not 2 <= len(arguments) <= 1 + len(STYLES):
        sys.exit(__doc__)
    outputs = [engine_output.read(path) for path in arguments[1:]]
    figure, (axes,) = svg_plot.panels(1, width=6.4, height=4.4)
    draw(axes, outputs)
    svg_plot.save(figure, arguments[0])
    print(table(outputs))


if __name__ == "__main__":
    main(sys.argv[1:])
