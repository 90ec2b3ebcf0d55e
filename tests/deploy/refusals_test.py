"""What the real server refuses, for each reason, as the alerts of a real Prometheus see it."""
import hashlib
import json

import grpc
import pytest
import watched
from prometheus_process import until

KEY = "a-key-of-the-tests"
OF_KEYS = {"SluiceKeysRefused", "SluiceMostKeysRefused"}
OF_LIMITS = {"SluiceRefusing"}
# What the only key of a server may, the reason for which that refuses calls, and what that raises.
CASES = {
    "wrong": ({}, "key", OF_KEYS),
    "expired": ({"not_after": "2020-01-31T00:00:00Z"}, "key", OF_KEYS),
    "method": ({"methods": ["GetModel"]}, "method", OF_KEYS),
    "rate": ({"requests_per_second": 0.001}, "rate", OF_LIMITS),
    "concurrency": ({"max_requests": 1}, "concurrency", OF_LIMITS),
    "tokens": ({"max_output_tokens": 4}, "limit", OF_LIMITS),
    "well": ({}, None, set()),
}
# So that the call that takes up its key's place is not over before the test.
FLAGS = {"concurrency": ["--max-output-tokens=16000000", "--stall-limit=1h"]}


class Refusing:
    """A server with one key, and calls that it refuses for one reason."""

    def __init__(self, api, start_server, folder, case):
        self.case = case
        entry = {"tenant": "acme", "sha256": hashlib.sha256(KEY.encode()).hexdigest(), **CASES[case][0]}
        (folder / "keys.json").write_text(json.dumps({"keys": [entry]}))
        self.server = start_server(f"--api-keys={folder / 'keys.json'}", *FLAGS.get(case, []))
        self._api = api
        self._stub = api.generation_grpc.GenerationServiceStub(self.server.channel)
        if case == "concurrency":
            self._held = self._generate(max_tokens=16_000_000)
            next(self._held)
        if case == "rate":
            list(self._generate())

    def _generate(self, max_tokens=4):
        request = self._api.generation.GenerateRequest(text="It was")
        request.stopping.max_tokens = max_tokens
        request.stopping.ignore_eos = True
        key = "another" if self.case == "wrong" else KEY
        return self._stub.Generate(request, metadata=[("authorization", f"Bearer {key}")])

    def call(self):
        """The code that one call ends with."""
        try:
            list(self._generate(max_tokens=5 if self.case == "tokens" else 4))
        except grpc.RpcError as error:
            return error.code()
        return grpc.StatusCode.OK

    def refused(self):
        """How many calls were refused, for the reasons that there were."""
        return {name.split('"')[1]: count for name, count in self.server.metrics().items()
                if name.startswith("sluice_requests_refused_total{") and count > 0}

    def exhausted(self):
        return self.server.metrics()['sluice_errors_total{code="RESOURCE_EXHAUSTED"}']


@pytest.fixture(scope="module")
def servers(api, start_server, tmp_path_factory):
    return [Refusing(api, start_server, tmp_path_factory.mktemp(case), case) for case in CASES]


CONFIGURATION = """
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: [%s]
scrape_configs:
"""
JOB = """
  - job_name: %s
    static_configs: [{targets: ["%s"], labels: {namespace: refusals, pod: p}}]
"""


@pytest.fixture(scope="module")
def prometheus(start_prometheus, servers):
    jobs = [JOB % (one.case, one.server.metrics_url.split("/")[2]) for one in servers]
    return start_prometheus(CONFIGURATION % (watched.FILES / "alerts.yaml") + "".join(jobs))


def test_what_the_gate_refuses_is_counted_there_alone(servers):
    for one in servers:
        codes = {one.call() for _ in range(3)}
        reason = CASES[one.case][1]
        assert one.refused() == ({reason: 3} if reason else {}), one.case
        assert (codes == {grpc.StatusCode.OK}) == (reason is None), one.case
        assert one.exhausted() == 0, one.case


def test_each_reason_raises_its_alert(prometheus, servers):
    expected = {(case, alert) for case, (_, _, alerts) in CASES.items() for alert in alerts}

    def raised():
        for one in servers:
            one.call()
        return {(series["metric"]["job"], series["metric"]["alertname"]) for series in prometheus.query("ALERTS")}

    until(lambda: raised() >= expected, f"there are not all of {expected}")
    assert raised() == expected
