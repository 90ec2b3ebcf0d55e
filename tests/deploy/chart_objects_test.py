"""Every object that the chart makes is one that Kubernetes takes, in its oldest and newest version."""
import pathlib

import helm_python
import kubernetes_validate
import pytest
import yaml
from rendered_chart import NAMESPACE, RELEASE

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "helm" / "sluice"
FILES = sorted(path.name for path in (CHART / "ci").iterdir())
VERSIONS = ("1.30", kubernetes_validate.latest_version().rsplit(".", 1)[0])
CUSTOM = ("monitoring.coreos.com/", "keda.sh/")


def is_custom(thing):
    return thing["apiVersion"].startswith(CUSTOM)


def test_the_oldest_version_is_the_one_that_the_chart_asks_for():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["kubeVersion"] == f">={VERSIONS[0]}.0-0"
    assert VERSIONS[0] != VERSIONS[1]


def test_the_chart_is_of_the_version_that_it_deploys():
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    cmake = (ROOT / "CMakeLists.txt").read_text()
    assert f"project(sluice VERSION {chart['appVersion']} " in cmake


@pytest.mark.parametrize("file", FILES)
def test_kubernetes_takes_every_object(render, file):
    for thing in render(file).all:
        if is_custom(thing):
            continue
        for version in VERSIONS:
            assert kubernetes_validate.validate(thing, version, strict=True) == version


def test_an_object_with_an_unknown_field_is_noticed(render):
    deployment = render().one("Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["livenessprobe"] = {}
    for version in VERSIONS:
        with pytest.raises(kubernetes_validate.ValidationError, match="livenessprobe"):
            kubernetes_validate.validate(deployment, version, strict=True)


@pytest.mark.parametrize("file", FILES)
def test_helm_finds_nothing_to_complain_about(file):
    values = yaml.safe_load((CHART / "ci" / file).read_text())
    report = helm_python.lint(CHART, values, strict=True)
    assert report["errors"] == []
    assert [message["error"] for message in report["messages"]] == ["icon is recommended"]


@pytest.mark.parametrize("file, kinds", [
    ("default.yaml", ["Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service", "Service",
                      "ServiceAccount"]),
    ("minimal.yaml", ["Deployment", "Service", "Service"]),
    ("hpa.yaml", ["Deployment", "HorizontalPodAutoscaler", "NetworkPolicy", "PodDisruptionBudget",
                  "Service", "Service", "ServiceAccount"]),
    ("keda.yaml", ["Deployment", "NetworkPolicy", "PodDisruptionBudget", "ScaledObject", "Service",
                   "Service", "ServiceAccount"]),
    ("monitoring.yaml", ["ConfigMap", "Deployment", "NetworkPolicy", "PodDisruptionBudget",
                         "PrometheusRule", "Service", "Service", "ServiceAccount",
                         "ServiceMonitor"]),
    ("pod-monitor.yaml", ["Deployment", "NetworkPolicy", "PodDisruptionBudget", "PodMonitor",
                          "Service", "Service", "ServiceAccount"]),
    ("download.yaml", ["ConfigMap", "Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service",
                       "Service", "ServiceAccount"]),
])
def test_values_decide_what_there_is(render, file, kinds):
    assert render(file).kinds() == kinds


@pytest.mark.parametrize("file", FILES)
def test_names_are_distinct_and_what_selects_pods_finds_them(render, file):
    objects = render(file)
    names = [(thing["kind"], thing["metadata"]["name"]) for thing in objects.all]
    assert len(set(names)) == len(names)
    deployment = objects.one("Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    selectors = [deployment["spec"]["selector"]["matchLabels"]]
    selectors += [service["spec"]["selector"] for service in objects.of_kind("Service")]
    selectors += [thing["spec"]["selector"]["matchLabels"]
                  for thing in objects.of_kind("PodDisruptionBudget") + objects.of_kind("PodMonitor")]
    selectors += [thing["spec"]["podSelector"]["matchLabels"]
                  for thing in objects.of_kind("NetworkPolicy")]
    for selector in selectors:
        assert selector["app.kubernetes.io/instance"] == RELEASE
        assert selector.items() <= labels.items()


def test_a_long_release_name_still_makes_names_that_kubernetes_takes(render):
    values = {"fullnameOverride": "a" * 120, "monitoring": {"dashboard": {"enabled": True}}}
    for thing in render(values).all:
        assert len(thing["metadata"]["name"]) <= 63


# What follows holds CRDs, whose schemas no package carries, to what their operators' references say.

def check_endpoint(endpoint):
    assert endpoint == {"port": "metrics", "path": "/metrics", "interval": endpoint["interval"],
                        "relabelings": [{"targetLabel": "job", "replacement": "demo-sluice"}]}


def test_the_service_monitor_finds_one_service_with_a_port_of_that_name(render):
    objects = render("monitoring.yaml")
    monitor = objects.one("ServiceMonitor")
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert monitor["metadata"]["labels"]["release"] == "prometheus"
    assert set(monitor["spec"]) == {"selector", "endpoints"}
    (endpoint,) = monitor["spec"]["endpoints"]
    check_endpoint(endpoint)
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    (service,) = [service for service in objects.of_kind("Service")
                  if wanted <= service["metadata"]["labels"].items()]
    assert "metrics" in [port["name"] for port in service["spec"]["ports"]]


def test_the_pod_monitor_names_a_port_of_the_pods(render):
    objects = render("pod-monitor.yaml")
    monitor = objects.one("PodMonitor")
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert set(monitor["spec"]) == {"selector", "podMetricsEndpoints"}
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    check_endpoint(endpoint)
    assert endpoint["interval"] == "30s"
    assert {"name": "metrics", "containerPort": 9464} in objects.container["ports"]


def test_the_prometheus_rule_is_the_file_with_the_values_objectives(render):
    rule = render("monitoring.yaml").one("PrometheusRule")
    assert rule["apiVersion"] == "monitoring.coreos.com/v1"
    assert set(rule["spec"]) == {"groups"}
    text = (CHART / "files" / "alerts.yaml").read_text()
    text = text.replace('first_token_seconds_bucket{le=~"1([.]0)?"}',
                        'first_token_seconds_bucket{le=~"0[.]5"}')
    text = text.replace('inter_token_latency_seconds_bucket{le=~"0[.]1"}',
                        'inter_token_latency_seconds_bucket{le=~"2([.]0)?"}')
    groups = yaml.safe_load(text)["groups"]
    for group in groups:
        group["rules"] = [rule for rule in group["rules"] if rule.get("alert") != "SluiceRestarting"]
    assert rule["spec"]["groups"] == groups
    assert "le=~\"0[.]5\"" in text and "le=~\"2([.]0)?\"" in text


def test_the_dashboard_is_the_file_with_the_label_that_grafana_looks_for(render):
    dashboard = render("monitoring.yaml").one("ConfigMap")
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert dashboard["metadata"]["annotations"] == {"grafana_folder": "Serving"}
    text = (CHART / "files" / "dashboard.json").read_text()
    assert dashboard["data"]["sluice.json"].strip() == text.strip()
    assert len(text) < 2**20  # of a ConfigMap


def test_the_scaled_object_asks_prometheus_about_this_release(render):
    scaled = render("keda.yaml").one("ScaledObject")
    assert scaled["apiVersion"] == "keda.sh/v1alpha1"
    spec = scaled["spec"]
    assert spec["scaleTargetRef"] == {"name": "demo-sluice"}
    assert (spec["minReplicaCount"], spec["maxReplicaCount"], spec["pollingInterval"]) == (2, 8, 15)
    assert set(spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]) == {"scaleUp", "scaleDown"}
    assert [trigger["name"] for trigger in spec["triggers"]] == ["requests-waiting", "slots-used-percent"]
    for trigger, threshold in zip(spec["triggers"], ["4", "75"]):
        assert trigger["type"] == "prometheus"
        assert trigger["metricType"] == "AverageValue"
        assert trigger["authenticationRef"] == {"name": "prometheus"}
        assert trigger["metadata"]["serverAddress"] == "http://prometheus.monitoring:9090"
        assert trigger["metadata"]["threshold"] == threshold
        assert f'{{namespace="{NAMESPACE}",job="demo-sluice"' in trigger["metadata"]["query"]
