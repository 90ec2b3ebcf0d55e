#!/usr/bin/env python3
"""Draws what a token costs against the length of its context: a state of fixed size beside a cache that grows.

    build/tests/engine_bench --model DIR --device cuda --prefill "" --decode 1,16 --repeats 2
        --context 1024,2048,4096,8192,16384,32768,65536,131072 > context.txt
    python3 tests/bench/softmax_peer.py > softmax.jsonl
    python3 tests/bench/context_cost.py tests/bench/context.svg softmax.jsonl context.txt

Both on one GPU; DIR is a checkpoint of GLA-1.3B's shape. More files of engine_bench, of other formats of states, are
more curves. A panel a batch, and one of what a sequence keeps in memory; prints a Markdown table too. Needs
matplotlib (tests/bench/requirements.txt).
"""
import json
import sys

import engine_output
import svg_plot

MIB = 1 << 20
STYLES = (("tab:blue", "o"), ("tab:green", "^"), ("tab:purple", "D"))
SOFTMAX = "tab:red"


def read_softmax(path):
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


def ours(output, batch):
    """(context, microseconds a token) of one batch."""
    return [(figure.context, 1e3 * figure.milliseconds / batch) for figure in output.decodes()
            if figure.batch == batch and figure.context]


def theirs(cases, batch, part):
    """(context, microseconds a token) of one batch; of the whole step only where its cache fits."""
    return [(case["context"], case[part] / batch) for case in cases
            if case["batch"] == batch and (case["fits"] or part == "attention_us")]


def bound(outputs, cases, batch):
    """(context, microseconds a token) of reading the cache at the speed of a copy."""
    return [(case["context"], 1e6 * case["cache_bytes"] / outputs[0].copy) for case in cases if case["batch"] == batch]


def draw_cost(axes, batch, outputs, cases):
    for output, (color, marker) in zip(outputs, STYLES):
        axes.plot(*zip(*ours(output, batch)), color=color, marker=marker, markersize=3.5, linewidth=1.2,
                  label=f"Sluice, state {output.state}")
    axes.plot(*zip(*theirs(cases, batch, "step_us")), color=SOFTMAX, marker="s", markersize=3.5, linewidth=1.2,
              label="softmax attention, as far as its cache fits")
    axes.plot(*zip(*theirs(cases, batch, "attention_us")), ":", color=SOFTMAX, linewidth=1.2,
              label="its attention alone (PyTorch)")
    axes.plot(*zip(*bound(outputs, cases, batch)), ":", color="gray", linewidth=1,
              label="its cache, read at the speed of a copy")
    axes.set_title(f"time of a token, {batch} sequence{'s' if batch > 1 else ''} a step", fontsize=8)
    svg_plot.logarithmic(axes, "tokens before it", "microseconds")


def draw_memory(axes, outputs, cases):
    contexts = sorted({case["context"] for case in cases})
    caches = {case["context"]: case["cache_bytes"] / MIB for case in cases}
    for output, (color, _) in zip(outputs, STYLES):
        axes.plot(contexts, [float(output.state_mib)] * len(contexts), color=color, linewidth=1.2,
                  label=f"Sluice, state {output.state}")
    axes.plot(contexts, [caches[context] for context in contexts], color=SOFTMAX, linewidth=1.2,
              label="softmax attention, keys and values")
    axes.set_title("memory of a sequence", fontsize=8)
    svg_plot.logarithmic(axes, "its tokens", "MiB")


def draw(outputs, cases):
    batches = sorted({case["batch"] for case in cases})
    figure, panels = svg_plot.panels(len(batches) + 1, width=4.2)
    for axes, batch in zip(panels, batches):
        draw_cost(axes, batch, outputs, cases)
    draw_memory(panels[-1], outputs, cases)
    case = cases[0]
    figure.suptitle(f"{case['gpu']}: gated linear attention, {outputs[0].weights} M weights, beside softmax attention, "
                    f"{case['parameters'] / 1e6:.1f} M (PyTorch {case['torch']}), bfloat16", fontsize=9)
    return figure


def table(outputs, cases):
    """A row a batch and length: microseconds a token, and MiB a sequence."""
    lines = ["| B | context |" + "".join(f" Sluice, {output.state} |" for output in outputs) +
             " softmax attention: step | its attention alone |"
             " its cache at the speed of a copy | cache of a sequence |",
             "|--:|--:|" + "--:|" * (len(outputs) + 4)]
    for case in cases:
        batch, context = case["batch"], case["context"]
        mine = [dict(ours(output, batch)).get(context) for output in outputs]
        cells = [f"{micros:,.0f} us" if micros is not None else "" for micros in mine]
        cells.append(f"{case['step_us'] / batch:,.0f} us" if case["fits"] else "does not fit")
        cells.append(f"{case['attention_us'] / batch:,.0f} us ({case['backend']})")
        cells.append(f"{dict(bound(outputs, cases, batch))[context]:,.0f} us")
        cells.append(f"{case['cache_bytes'] / MIB:,.0f} MiB")
        lines.append(f"| {batch} | {context:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments):
    if not 3 <= len(arguments) <= 2 + len(STYLES):
        sys.exit(__doc__)
    cases = read_softmax(arguments[1])
    outputs = [engine_output.read(path) for path in arguments[2:]]
    svg_plot.save(draw(outputs, cases), arguments[0])
    print(table(outputs, cases))


if __name__ == "__main__":
    main(sys.argv[1:])
