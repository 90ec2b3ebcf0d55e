"""A cut of the soak: everything that it does and judges, in two minutes."""
import collections
import json
import pathlib
import subprocess
import sys

import pytest

from soak import workload

TESTS = pathlib.Path(__file__).resolve().parents[1]


def soak(request, *options):
    build, model = (pathlib.Path(request.config.getoption(name)).resolve() for name in ("--build", "--model-dir"))
    return subprocess.run([sys.executable, "-m", "soak", f"--build={build}", f"--model={model}", *options],
                          cwd=TESTS, capture_output=True, text=True, timeout=900, check=False)


@pytest.mark.long
def test_two_minutes(request, tmp_path):
    done = soak(request, "--plans=400", "--seconds=100", f"--json={tmp_path / 'report.json'}")
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert all(verdict["kept"] for verdict in report["verdicts"])
    assert len(report["processes"]) == 3
    assert f"{len(report['verdicts'])} promises kept, 0 broken" in done.stdout


def test_the_command_line_says_what_is_wrong(request):
    done = soak(request, "--requests=0")
    assert done.returncode == 2 and "--requests: has to be at least 1" in done.stderr


def test_a_server_that_does_not_start_is_a_failure(request):
    done = soak(request, "--requests=10", "--server-flag=--slots=0x")
    assert done.returncode == 1 and "the server did not start" in done.stdout


def test_the_load_is_mixed_as_promised_and_the_same_for_a_seed():
    plans = workload.draw_plans(1, 500)
    assert plans == workload.draw_plans(1, 500) != workload.draw_plans(2, 500)
    assert len({plan["sampling"]["seed"] for plan in plans}) == 500
    assert {len(workload.draw_plans(1, 500)), len({json.dumps(plan) for plan in plans})} == {500}
    lengths = [plan["stopping"]["maxTokens"] for plan in plans]
    requests = [request.split() for request in workload.draw_requests(1, 20_000, lengths)]
    assert requests == [request.split() for request in workload.draw_requests(1, 20_000, lengths)]
    assert collections.Counter(kind for _, _, kind, _ in requests) == {
        "cancel": 6_000, "slow": 1_000, "invalid": 1_000, "plain": 12_000}
    afters = [(int(after), lengths[int(plan)]) for _, plan, kind, after in requests if kind == "cancel"]
    assert all(after < length for after, length in afters)
    assert {after for after, _ in afters} == set(range(workload.LONGEST_CANCEL + 1))
    for setting in ("temperature", "topK", "topP", "minP", "repetitionPenalty", "logitBias"):
        assert any(setting in plan["sampling"] for plan in plans)
    assert any("stop" in plan["stopping"] for plan in plans) and any("tokenIds" in plan for plan in plans)
    assert any(plan["output"].get("logprobs") for plan in plans)
