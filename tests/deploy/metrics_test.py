"""Rules, dashboard and autoscaling against the real server and a real Prometheus."""
import hashlib
import json
import re

import grpc
import pytest
import watched
from certificate import write_certificate
from prometheus_process import until
from promql import grouping_labels, selectors, values_meant
from rendered_chart import NAMESPACE

KEY = "a-key-of-the-tests"
# What Prometheus, or the monitors of the chart, put on every series of a target.
TARGET_LABELS = {"namespace", "job", "pod", "instance"}


def call(api, channel, metadata=()):
    """Streams, scores, and makes a mistake: something for every metric."""
    generation = api.generation_grpc.GenerationServiceStub(channel)
    request = api.generation.GenerateRequest(text="It was")
    request.stopping.max_tokens = 8
    for _ in range(3):
        assert list(generation.Generate(request, metadata=metadata))
    model = api.model_grpc.ModelServiceStub(channel)
    model.Score(api.model.ScoreRequest(text="It was a fine evening."), metadata=metadata)
    request.sampling.temperature = -1
    with pytest.raises(grpc.RpcError) as error:
        list(generation.Generate(request, metadata=metadata))
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture(scope="module")
def plain(start_server):
    return start_server("--slots=8")


@pytest.fixture(scope="module")
def secured(start_server, tmp_path_factory):
    """A server with TLS and API keys, and a channel to it."""
    folder = tmp_path_factory.mktemp("secured")
    write_certificate(folder)
    keys = {"keys": [{"tenant": "acme", "sha256": hashlib.sha256(KEY.encode()).hexdigest()}]}
    (folder / "keys.json").write_text(json.dumps(keys))
    server = start_server(f"--tls-cert={folder / 'tls.crt'}", f"--tls-key={folder / 'tls.key'}",
                          f"--api-keys={folder / 'keys.json'}")
    credentials = grpc.ssl_channel_credentials((folder / "tls.crt").read_bytes())
    server.channel = grpc.secure_channel(server.address, credentials)
    return server


@pytest.fixture(scope="module")
def samples(api, plain, secured):
    """Every metric of the two servers: its name to the values of each of its labels."""
    call(api, plain.channel)
    call(api, secured.channel, [("authorization", f"Bearer {KEY}")])
    seen = {"up": {}}
    for sample in [*plain.metrics(), *secured.metrics()]:
        name, _, labels = sample.partition("{")
        values = seen.setdefault(name, {})
        for label, value in re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', labels):
            values.setdefault(label, set()).add(value)
    for rule in watched.rules():
        if "record" in rule:
            seen[rule["record"]] = {}
    return seen


@pytest.fixture(scope="module")
def expressions(render):
    queries = [("variable", watched.filled_in(variable["query"]["query"]))
               for variable in watched.dashboard()["templating"]["list"][1:]]
    notes = [("annotation", watched.filled_in(note["expr"]))
             for note in watched.dashboard()["annotations"]["list"]]
    return [*watched.rule_expressions(), *watched.panel_expressions(), *watched.adapter_expressions(),
            *watched.scaling_expressions(render), *queries, *notes]


def test_every_metric_that_is_named_is_served(samples, expressions):
    named = {name: where for where, expression in expressions for name, _ in selectors(expression)}
    assert len(named) > 30
    assert {name: where for name, where in named.items() if name not in samples} == {}


def test_every_label_and_value_that_is_named_is_served(samples, expressions):
    missing = []
    for where, expression in expressions:
        for name, matchers in selectors(expression):
            for label, operator, value in matchers:
                if label in TARGET_LABELS:
                    continue
                there = samples.get(name, {}).get(label, set())
                missing += [(where, name, label, pattern) for pattern in values_meant(operator, value)
                            if not any(re.fullmatch(pattern, one) for one in there)]
    assert missing == []


def test_what_is_grouped_by_is_a_label_of_what_is_grouped(samples, expressions):
    missing = []
    for where, expression in expressions:
        labels = {label for name, _ in selectors(expression) for label in samples.get(name, {})}
        missing += [(where, label) for label in grouping_labels(expression) - labels - TARGET_LABELS]
    assert missing == []


@pytest.mark.parametrize("histogram, value", [
    ("sluice_time_to_first_token_seconds", "firstTokenSeconds"),
    ("sluice_inter_token_latency_seconds", "interTokenSeconds")])
def test_the_objectives_that_values_may_name_are_the_buckets(samples, histogram, value):
    schema = json.loads((watched.FILES.parent / "values.schema.json").read_text())
    bounds = schema["properties"]["monitoring"]["properties"]["objectives"]["properties"][value]["enum"]
    buckets = samples[f"{histogram}_bucket"]["le"] - {"+Inf"}
    assert {float(bound) for bound in bounds} == {float(bucket) for bucket in buckets}


CONFIGURATION = """
global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}
rule_files: [%s]
scrape_configs:
  - job_name: %s
    static_configs:
      - {targets: ["%s"], labels: {namespace: %s, pod: %s}}
      - {targets: ["%s"], labels: {namespace: %s, pod: %s}}
"""


@pytest.fixture(scope="module")
def prometheus(api, start_prometheus, samples, plain, secured):
    """A Prometheus that has seen traffic of both servers, and evaluated the rules on it."""
    plain_target, secured_target = (server.metrics_url.split("/")[2] for server in (plain, secured))
    started = start_prometheus(CONFIGURATION % (
        watched.FILES / "alerts.yaml", watched.JOB, plain_target, NAMESPACE, watched.PODS[0],
        secured_target, NAMESPACE, watched.PODS[1]))

    def traffic_seen():
        call(api, plain.channel)
        call(api, secured.channel, [("authorization", f"Bearer {KEY}")])
        tokens = started.query("rate(sluice_output_tokens_total[30s]) > 0")
        return len(tokens) == 2 and started.query("sluice:inter_token_slow:ratio_rate1h")

    until(traffic_seen, "Prometheus saw no traffic")
    return started


def test_prometheus_evaluates_every_rule(prometheus):
    def evaluated():
        groups = prometheus.get("rules")["groups"]
        return all(rule["health"] != "unknown" for group in groups for rule in group["rules"])

    until(evaluated, "rules were not evaluated")
    found = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert len(found) == len(watched.rules())
    assert [rule for rule in found if rule["health"] != "ok"] == []


def test_every_panel_shows_data(prometheus):
    empty = [title for title, expression in watched.panel_expressions() if not prometheus.query(expression)]
    assert empty == []


def test_the_autoscalers_get_a_number(prometheus, render):
    for where, expression in watched.adapter_expressions():
        series = prometheus.query(expression)
        assert {one["metric"]["pod"] for one in series} == set(watched.PODS), where
    for where, expression in watched.scaling_expressions(render):
        (series,) = prometheus.query(expression)
        assert float(series["value"][1]) >= 0, where


def test_healthy_servers_raise_no_alert_and_one_that_is_gone_does(prometheus, plain):
    assert prometheus.query('ALERTS{alertstate="firing"}') == []
    assert plain.stop() == 0
    gone = f'ALERTS{{alertname="SluicePodDown",alertstate="pending",pod="{watched.PODS[0]}"}}'
    until(lambda: prometheus.query(gone), "no alert of the server that is gone")
