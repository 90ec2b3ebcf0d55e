"""Values that are wrong are refused, with a message that says which and why."""
import pathlib

import helm_python
import pytest
import yaml

CHART = pathlib.Path(__file__).resolve().parents[2] / "deploy" / "helm" / "sluice"


def refusal(render, values):
    with pytest.raises(helm_python.HelmError) as error:
        render(values)
    return str(error.value)


@pytest.mark.parametrize("values, message", [
    ({"replica": 3}, "additional properties 'replica' not allowed"),
    ({"server": {"max-waiting": 3}}, "at '/server': additional properties 'max-waiting' not allowed"),
    ({"server": {"drainLimit": "30s"}}, "additional properties 'drainLimit' not allowed"),
    ({"image": {"repo": "x"}}, "at '/image': additional properties 'repo' not allowed"),
    ({"networkPolicy": {"clients": [{"pods": {}}]}}, "at '/networkPolicy/clients/0': additional properties 'pods'"),
    ({"replicas": "three"}, "at '/replicas': got string, want integer"),
    ({"replicas": 0}, "at '/replicas': minimum: got 0, want 1"),
    ({"replicas": 1.5}, "at '/replicas': got number, want integer"),
    ({"variant": "tpu"}, "at '/variant': value must be one of 'cpu', 'gpu'"),
    ({"server": {"slots": 5000}}, "at '/server/slots': maximum: got 5,000, want 4,096"),
    ({"server": {"memoryFraction": 0}}, "at '/server/memoryFraction': exclusiveMinimum"),
    ({"server": {"keepalive": "1 minute"}}, "at '/server/keepalive': '1 minute' does not match pattern"),
    ({"server": {"maxConnectionAge": 600}}, "at '/server/maxConnectionAge': got number, want string"),
    ({"server": {"logLevel": "trace"}}, "at '/server/logLevel': value must be one of"),
    ({"service": {"port": 70000}}, "at '/service/port': maximum: got 70,000, want 65,535"),
    ({"image": {"digest": "sha256:12"}}, "at '/image/digest': 'sha256:12' does not match pattern"),
    ({"model": {"path": "../secrets"}}, "at '/model/path': '../secrets' does not match pattern"),
    ({"model": {"path": "/models"}}, "at '/model/path': '/models' does not match pattern"),
    ({"model": {"source": "hostPath"}}, "at '/model/source': value must be one of"),
    ({"model": {"source": "claim"}}, "at '/model/claim/name': minLength: got 0, want 1"),
    ({"model": {"source": "download"}}, "at '/model/download/image': minLength: got 0, want 1"),
    ({"model": {"source": "download", "download": {"image": "x"}}},
     "at '/model/download/sha256': minProperties: got 0, want 1"),
    ({"model": {"download": {"sha256": {"a": "12"}}}}, "at '/model/download/sha256/a': '12' does not match pattern"),
    ({"resources": {"limits": {"memory": "lots"}}}, "at '/resources/limits/memory'"),
    ({"shutdown": {"marginSeconds": 1}}, "at '/shutdown/marginSeconds': minimum: got 1, want 3"),
    ({"autoscaling": {"keda": {"enabled": True}}}, "at '/autoscaling/keda/prometheusAddress': minLength"),
    ({"autoscaling": {"slotsUsedPercent": 0.75}}, "at '/autoscaling/slotsUsedPercent': got number, want integer"),
    ({"monitoring": {"objectives": {"firstTokenSeconds": 0.7}}},
     "at '/monitoring/objectives/firstTokenSeconds': value must be one of"),
    ({"monitoring": {"rules": {"disabled": ["Watchdog"]}}}, "at '/monitoring/rules/disabled/0'"),
    ({"podDisruptionBudget": {"maxUnavailable": 0}}, "at '/podDisruptionBudget/maxUnavailable'"),
    ({"podDisruptionBudget": {"minAvailable": "100%"}}, "at '/podDisruptionBudget/minAvailable'"),
    ({"podSecurity": {"runAsUser": 0}}, "at '/podSecurity/runAsUser': minimum: got 0, want 1"),
])
def test_the_schema_refuses(render, values, message):
    assert message in refusal(render, values)


@pytest.mark.parametrize("values, message", [
    ({"autoscaling": {"hpa": {"enabled": True},
                      "keda": {"enabled": True, "prometheusAddress": "http://prometheus:9090"}}},
     "autoscaling.hpa.enabled and autoscaling.keda.enabled: two autoscalers would fight over the replicas"),
    ({"autoscaling": {"minReplicas": 5, "maxReplicas": 4}},
     "autoscaling.minReplicas is 5, more than autoscaling.maxReplicas, 4"),
    ({"shutdown": {"graceSeconds": 44}},
     "shutdown.graceSeconds is 44, less than preStopSeconds 5 + drainSeconds 30 + marginSeconds 10"),
    ({"shutdown": {"graceSeconds": 60, "drainSeconds": 300}}, "shutdown.graceSeconds is 60, less than"),
    ({"podDisruptionBudget": {"minAvailable": 2}},
     "podDisruptionBudget.minAvailable is 2, but there may be no more than 2 pods"),
    ({"podDisruptionBudget": {"minAvailable": 3}, "replicas": 9,
      "autoscaling": {"hpa": {"enabled": True}, "minReplicas": 3}},
     "podDisruptionBudget.minAvailable is 3, but there may be no more than 3 pods"),
    ({"monitoring": {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}}},
     "monitoring.serviceMonitor.enabled and monitoring.podMonitor.enabled: every pod would be scraped twice"),
    ({"model": {"source": "download", "download": {"image": "x", "sha256": {"a": "a" * 64}}}},
     "networkPolicy.egress is empty"),
    ({"tls": {"clientCaSecretName": "ca"}}, "tls.clientCaSecretName is set, but tls.secretName is not"),
])
def test_values_that_contradict_each_other_are_refused(render, values, message):
    assert message in refusal(render, values)


def test_exactly_enough_is_not_refused(render):
    assert render({"shutdown": {"graceSeconds": 45}}).pod["terminationGracePeriodSeconds"] == 45
    render({"podDisruptionBudget": {"minAvailable": 1}})
    render({"autoscaling": {"minReplicas": 4, "maxReplicas": 4, "hpa": {"enabled": True}}})


def keys(tree, prefix=()):
    """The paths of a values tree down to what is no tree."""
    for key, value in tree.items():
        yield (*prefix, key)
        if isinstance(value, dict):
            yield from keys(value, (*prefix, key))


def properties(schema, prefix=()):
    for key, value in schema.get("properties", {}).items():
        yield (*prefix, key)
        yield from properties(value, (*prefix, key))


def test_values_and_schema_name_the_same():
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    schema = helm_python.Chart.load(CHART).schema
    # Flags have their defaults in the server; what resources are called is Kubernetes's business.
    apart = ("server", "global", "resources")
    in_values = {path for path in keys(values) if path[0] not in apart}
    in_schema = {path for path in properties(schema) if path[0] not in apart}
    assert in_values == in_schema


def test_every_flag_of_the_schema_is_explained_in_the_values():
    text = (CHART / "values.yaml").read_text()
    server = text[text.index("\nserver:"):text.index("\nlistenHost")]
    schema = helm_python.Chart.load(CHART).schema["properties"]["server"]["properties"]
    for name in schema:
        assert f" {name}: " in server, name


def test_every_object_of_the_schema_refuses_what_it_does_not_know():
    # Objects of Kubernetes itself, which the cluster checks.
    passed_on = {"global", "affinity", "podSelector", "namespaceSelector", "ipBlock"}

    def check(name, schema):
        if schema.get("type") == "object" and name not in passed_on:
            assert "additionalProperties" in schema, name
        for key, value in schema.get("properties", {}).items():
            check(key, value)

    schema = helm_python.Chart.load(CHART).schema
    check("", schema)
    for name, definition in schema["definitions"].items():
        check(name, definition)
