"""What the benches print, read and drawn."""
import json
import xml.etree.ElementTree

import context_cost
import engine_output
import plot_decode
import pytest

HEAD = """\
cuda:0 (NVIDIA H200, 9.0), bfloat16, 1365.9 M weights (2605.2 MiB), state {state} MiB a slot ({type}, ring {ring}), \
256 slots, 4096 tokens a step
load        1.500 s, host memory 517.0 MiB at the peak, 434.0 MiB after
copy 4000.0 GB/s, matrix product 690.00 TFLOP/s
a token of prefill: 2.540 G operations, 0.063 of them the recurrence's
"""
DECODES = """\
prefill 1x2048       10.800 ms            189081 tok/s  70.0 % of the roofline
decode  B=1           1.000 ms a step       1000 tok/s  50.0 % of the roofline
decode  B=64          4.000 ms a step      16000 tok/s  80.0 % of the roofline
"""
CONTEXTS = """\
decode  B=1       after 1024 tokens     1.000 ms a step       1000 tok/s  50.0 % of the roofline
decode  B=16      after 1024 tokens     1.600 ms a step      10000 tok/s  60.0 % of the roofline
decode  B=1       after 65536 tokens     1.010 ms a step        990 tok/s  50.0 % of the roofline
decode  B=16      after 65536 tokens     1.616 ms a step       9901 tok/s  60.0 % of the roofline
"""


def printed(figures, state="48.00", state_type="float32", ring=0):
    return HEAD.format(state=state, type=state_type, ring=ring) + figures


def case(batch, context, fits=True):
    return {"gpu": "NVIDIA H200", "torch": "2.11.0", "parameters": 1364197376, "batch": batch, "context": context,
            "backend": "flash", "step_us": 1000.0 * batch + context, "attention_us": float(context),
            "cache_bytes": 196608 * context, "fits": fits}


@pytest.fixture
def cases():
    return [case(1, 1024), case(1, 65536), case(16, 1024), case(16, 65536, fits=False)]


def text_of(svg):
    return " ".join(xml.etree.ElementTree.parse(svg).getroot().itertext())


def test_reads_what_engine_bench_prints():
    output = engine_output.parse(printed(DECODES, "24.70", "float16", 16))
    assert (output.device, output.dtype, output.weights) == ("cuda:0 (NVIDIA H200, 9.0)", "bfloat16", "1365.9")
    assert (output.state_mib, output.state, output.copy) == ("24.70", "float16, ring 16", 4e12)
    prefill, first, last = output.figures
    assert (prefill.what, prefill.shape, prefill.rate, prefill.context) == ("prefill", "1x2048", 189081, None)
    assert output.decodes() == [first, last]
    assert (last.batch, last.milliseconds, last.rate, last.share) == (64, 4.0, 16000, 0.8)


def test_reads_contexts():
    output = engine_output.parse(printed(CONTEXTS))
    assert output.state == "float32"
    assert [(figure.batch, figure.context) for figure in output.decodes()] == [
        (1, 1024), (16, 1024), (1, 65536), (16, 65536)]


def test_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match="not what engine_bench prints"):
        engine_output.parse("something else\n")


def test_decode_is_drawn_beside_its_floor(tmp_path, capsys):
    for name, text in (("float32", printed(DECODES)), ("float16", printed(DECODES, "24.70", "float16", 16))):
        (tmp_path / name).write_text(text, encoding="utf-8")
    plot_decode.main([str(tmp_path / name) for name in ("decode.svg", "float32", "float16")])
    drawn = text_of(tmp_path / "decode.svg")
    for label in ("state float32", "state float16, ring 16", "24.70 MiB, copied", "NVIDIA H200", "64"):
        assert label in drawn
    assert "| 64 | 16,000 (80 %) | 16,000 (80 %) |" in capsys.readouterr().out
    assert plot_decode.floor(engine_output.parse(printed(DECODES)).decodes()[0]) == 2000


def test_context_is_drawn_beside_softmax_attention(tmp_path, capsys, cases):
    (tmp_path / "softmax").write_text("\n".join(map(json.dumps, cases)), encoding="utf-8")
    (tmp_path / "engine").write_text(printed(CONTEXTS), encoding="utf-8")
    context_cost.main([str(tmp_path / name) for name in ("context.svg", "softmax", "engine")])
    drawn = text_of(tmp_path / "context.svg")
    for label in ("1 sequence a step", "16 sequences a step", "memory of a sequence", "1364.2 M"):
        assert label in drawn
    rows = capsys.readouterr().out.splitlines()
    assert rows[2] == "| 1 | 1,024 | 1,000 us | 2,024 us | 1,024 us (flash) | 50 us | 192 MiB |"
    assert rows[5] == "| 16 | 65,536 | 101 us | does not fit | 4,096 us (flash) | 3,221 us | 12,288 MiB |"


def test_a_step_that_does_not_fit_is_not_drawn(cases):
    assert context_cost.theirs(cases, 16, "step_us") == [(1024, 1064.0)]
    assert [context for context, _ in context_cost.theirs(cases, 16, "attention_us")] == [1024, 65536]


def test_figures_make_the_same_file(tmp_path, cases):
    outputs = [engine_output.parse(printed(CONTEXTS))]
    for name in ("a.svg", "b.svg"):
        context_cost.svg_plot.save(context_cost.draw(outputs, cases), tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
