"""How the chart runs the server: safely, for as long as it takes, on the right nodes."""
import hashlib
import pathlib
import re
import subprocess

import pytest
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
FILES = sorted(path.name for path in (ROOT / "deploy" / "helm" / "sluice" / "ci").iterdir())


def all_containers(objects):
    return objects.pod.get("initContainers", []) + objects.pod["containers"]


@pytest.mark.parametrize("file", FILES)
def test_every_container_is_held_to_the_restricted_profile(render, file):
    objects = render(file)
    pod = objects.pod["securityContext"]
    assert pod["runAsNonRoot"] is True
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in all_containers(objects):
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]}}
    for volume in objects.pod.get("volumes", []):
        assert "hostPath" not in volume
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(objects.pod)


@pytest.mark.parametrize("file", FILES)
def test_pods_hold_no_token_of_the_cluster(render, file):
    objects = render(file)
    assert objects.pod["automountServiceAccountToken"] is False
    for account in objects.of_kind("ServiceAccount"):
        assert account["automountServiceAccountToken"] is False
        assert account["metadata"]["name"] == objects.pod["serviceAccountName"]


def test_user_and_groups_are_the_images_unless_the_cluster_is_to_choose(render):
    assert render().pod["securityContext"] == {
        "runAsNonRoot": True, "runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532,
        "fsGroupChangePolicy": "OnRootMismatch", "seccompProfile": {"type": "RuntimeDefault"}}
    assert render("minimal.yaml").pod["securityContext"] == {
        "runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert render("minimal.yaml").pod["serviceAccountName"] == "default"


def test_the_dockerfile_has_the_user_the_ports_and_the_model_that_the_chart_takes(render):
    dockerfile = (ROOT / "Dockerfile").read_text()
    objects = render()
    security = objects.pod["securityContext"]
    users = set(re.findall("^USER (.*)$", dockerfile, re.MULTILINE))
    assert users == {f"{security['runAsUser']}:{security['runAsGroup']}"}
    ports = " ".join(str(port["containerPort"]) for port in objects.container["ports"])
    assert set(re.findall("^EXPOSE (.*)$", dockerfile, re.MULTILINE)) == {ports}
    assert f'"--model={objects.flags["--model"]}"' in dockerfile


@pytest.mark.parametrize("file", FILES)
def test_the_command_needs_no_shell(render, file):
    container = render(file).container
    assert container["command"] == ["sluice-server"]
    assert all(re.fullmatch(r"--[a-z-]+=\S+", argument) for argument in container["args"])


def seconds_before_failure(probe):
    return probe["periodSeconds"] * probe["failureThreshold"]


@pytest.mark.parametrize("file", FILES)
def test_probes_ask_for_health_and_allow_for_a_slow_start(render, file):
    container = render(file).container
    assert seconds_before_failure(container["startupProbe"]) >= 600
    assert seconds_before_failure(container["readinessProbe"]) == 10
    assert seconds_before_failure(container["livenessProbe"]) == 60
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        probe = container[name]
        if "--tls-cert" in render(file).flags:  # kubelet's own gRPC probe speaks no TLS
            assert "grpc" not in probe
            assert probe["exec"]["command"] == ["sluice", "health", "--server",
                                                "unix:/run/sluice/admin.sock"]
        else:
            assert probe["grpc"] == {"port": 50051}


def test_the_startup_probe_waits_as_long_as_the_values_say(render):
    objects = render("gpu.yaml")
    assert seconds_before_failure(objects.container["startupProbe"]) == 1800
    assert objects.one("Deployment")["spec"]["progressDeadlineSeconds"] == 2100


@pytest.mark.parametrize("file", FILES)
def test_the_grace_period_covers_the_drain(render, file):
    objects = render(file)
    drain = int(objects.flags["--drain-limit"].removesuffix("s"))
    lifecycle = objects.container.get("lifecycle")
    sleep = lifecycle["preStop"]["sleep"]["seconds"] if lifecycle else 0
    # The server itself takes 2.1 s more for the last answers.
    assert objects.pod["terminationGracePeriodSeconds"] >= sleep + drain + 3


def test_grace_is_the_sum_of_its_parts_or_what_is_given(render):
    assert render().pod["terminationGracePeriodSeconds"] == 45
    shutdown = {"preStopSeconds": 0, "drainSeconds": 120, "marginSeconds": 20}
    objects = render({"shutdown": shutdown})
    assert objects.pod["terminationGracePeriodSeconds"] == 140
    assert "lifecycle" not in objects.container
    objects = render({"shutdown": {**shutdown, "graceSeconds": 600}})
    assert objects.pod["terminationGracePeriodSeconds"] == 600
    assert objects.flags["--drain-limit"] == "120s"


def test_the_gpu_variant_takes_one_gpu_its_image_and_its_nodes(render):
    objects = render("gpu.yaml")
    assert objects.container["resources"]["limits"] == {"memory": "16Gi", "nvidia.com/gpu": 1}
    assert objects.flags["--device"] == "cuda"
    assert objects.container["image"].startswith("sluice@sha256:0123")
    assert objects.pod["runtimeClassName"] == "nvidia"
    assert objects.pod["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in objects.pod["tolerations"]
    assert {"key": "dedicated", "value": "inference", "effect": "NoSchedule"} in objects.pod["tolerations"]
    assert "podAntiAffinity" in objects.pod["affinity"]
    assert objects.pod["imagePullSecrets"] == [{"name": "registry"}]
    rollout = objects.one("Deployment")["spec"]["strategy"]["rollingUpdate"]
    assert rollout == {"maxSurge": 0, "maxUnavailable": 1}


def test_the_gpu_variant_of_a_mig_profile_takes_that(render):
    objects = render({"variant": "gpu", "gpu": {"resourceName": "nvidia.com/mig-1g.10gb"}})
    assert objects.container["resources"]["limits"]["nvidia.com/mig-1g.10gb"] == 1
    assert objects.pod["tolerations"] == [
        {"key": "nvidia.com/mig-1g.10gb", "operator": "Exists", "effect": "NoSchedule"}]
    assert objects.container["image"] == "sluice:0.1.0-cuda"


def test_the_cpu_variant_takes_no_gpu(render):
    objects = render()
    assert objects.container["resources"] == {"requests": {"cpu": "2", "memory": "1Gi"},
                                              "limits": {"memory": "1Gi"}}
    assert objects.flags["--device"] == "cpu"
    assert objects.container["image"] == "sluice:0.1.0"
    assert "tolerations" not in objects.pod and "runtimeClassName" not in objects.pod
    rollout = objects.one("Deployment")["spec"]["strategy"]["rollingUpdate"]
    assert rollout == {"maxSurge": 1, "maxUnavailable": 0}


@pytest.mark.parametrize("values, threads", [
    ({"resources": {"requests": {"cpu": "2"}}}, 2),
    ({"resources": {"requests": {"cpu": "2"}, "limits": {"cpu": 8}}}, 8),
    ({"resources": {"requests": {"cpu": "3500m"}}}, 4),
    ({"resources": {"requests": {"cpu": "100m"}}}, 1),
    ({"resources": {"requests": {"cpu": "1.5"}}}, 2),
    ({"resources": {"requests": {"cpu": None}}}, 0),
    ({"resources": {"requests": {"cpu": "2"}}, "server": {"threads": 6}}, 6),
])
def test_the_server_has_as_many_threads_as_it_has_cores(render, values, threads):
    assert render(values).container["args"].count(f"--threads={threads}") == 1


def test_numbers_are_written_without_an_exponent(render):
    flags = render("gpu.yaml").flags
    assert flags["--max-prompt-tokens"] == "16777216"
    assert flags["--memory-fraction"] == "0.85"
    assert render({"server": {"maxWaitingTokens": 2**40}}).flags["--max-waiting-tokens"] == str(2**40)


def test_secrets_are_mounted_as_directories_so_that_rotation_is_seen(render):
    objects = render("tls-keys.yaml")
    mounts = {mount["name"]: mount for mount in objects.container["volumeMounts"]}
    assert all("subPath" not in mount for mount in mounts.values())
    volumes = {volume["name"]: volume for volume in objects.pod["volumes"]}
    assert set(mounts) == set(volumes) == {"tls", "run", "client-ca", "api-keys"}
    files = set()
    for name, secret in (("tls", "sluice-tls"), ("client-ca", "sluice-clients"), ("api-keys", "sluice-keys")):
        assert volumes[name]["secret"]["secretName"] == secret
        assert volumes[name]["secret"]["defaultMode"] == 0o440  # the group is fsGroup
        assert mounts[name]["readOnly"] is True
        files |= {f"{mounts[name]['mountPath']}/{item['path']}" for item in volumes[name]["secret"]["items"]}
    flags = objects.flags
    assert {flags[name] for name in ("--tls-cert", "--tls-key", "--tls-client-ca", "--api-keys")} == files
    assert flags["--reload-interval"] == "30s"
    assert flags["--admin-listen"].startswith(f"unix:{mounts['run']['mountPath']}/")
    assert volumes["run"]["emptyDir"]["medium"] == "Memory"


def test_without_secrets_nothing_is_mounted(render):
    objects = render()
    assert "volumes" not in objects.pod and "volumeMounts" not in objects.container
    assert not [name for name in objects.flags if "tls" in name or "keys" in name or "admin" in name]


def test_a_claim_is_mounted_read_only_and_served_under_its_name(render):
    objects = render("gpu.yaml")
    assert objects.pod["volumes"] == [
        {"name": "model", "persistentVolumeClaim": {"claimName": "models", "readOnly": True}}]
    assert objects.container["volumeMounts"] == [
        {"name": "model", "mountPath": "/models", "readOnly": True}]
    assert objects.flags["--model"] == "/models/gla-1.3b"
    assert objects.flags["--model-name"] == "gla-1.3b"


def test_a_download_is_verified_before_it_is_served(render):
    objects = render("download.yaml")
    download, verify = objects.pod["initContainers"]
    assert download["image"] == "registry.example.com/fetch:1.2"
    assert download["env"][0]["valueFrom"]["secretKeyRef"]["name"] == "model-store"
    assert {"name": "model", "mountPath": "/models"} in download["volumeMounts"]
    assert verify["image"] == objects.container["image"]
    assert {"name": "model", "mountPath": "/models", "readOnly": True} in objects.container["volumeMounts"]
    assert objects.flags["--model"] == "/models/story"
    volumes = {volume["name"]: volume for volume in objects.pod["volumes"]}
    assert volumes["checksums"]["configMap"]["name"] == objects.one("ConfigMap")["metadata"]["name"]
    assert volumes["model"]["emptyDir"] == {"sizeLimit": "5Gi"}


def test_other_checksums_make_other_pods(render):
    def annotation(sha256):
        values = {"model": {"source": "download", "download": {"image": "fetch", "sha256": {"a": sha256}}},
                  "networkPolicy": {"enabled": False}}
        template = render(values).one("Deployment")["spec"]["template"]
        return template["metadata"]["annotations"]["sluice/checksums"]

    assert annotation("a" * 64) != annotation("b" * 64)


@pytest.mark.parametrize("change, code", [(None, 0), ("a", 1), ("sub/b.bin", 1)])
def test_the_verifying_command_finds_a_file_that_differs(render, tmp_path, change, code):
    contents = {"a": b"one", "sub/b.bin": b"two"}
    sha256 = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    objects = render({"model": {"source": "download", "download": {"image": "fetch", "sha256": sha256}},
                      "networkPolicy": {"enabled": False}})
    verify = objects.pod["initContainers"][1]
    sums = tmp_path / "SHA256SUMS"
    sums.write_text(objects.one("ConfigMap")["data"]["SHA256SUMS"])
    models = tmp_path / "models"
    for name, content in contents.items():
        (models / name).parent.mkdir(parents=True, exist_ok=True)
        (models / name).write_bytes(content + b"!" if name == change else content)
    assert (verify["workingDir"], verify["command"][-1]) == ("/models", "/etc/sluice/checksums/SHA256SUMS")
    assert subprocess.run([*verify["command"][:-1], sums], cwd=models).returncode == code


def test_pods_are_spread_over_nodes(render):
    (constraint,) = render().pod["topologySpreadConstraints"]
    assert constraint["topologyKey"] == "kubernetes.io/hostname"
    assert constraint["whenUnsatisfiable"] == "ScheduleAnyway"
    assert constraint["labelSelector"]["matchLabels"]["app.kubernetes.io/instance"] == "demo"
    own = {"maxSkew": 2, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule",
           "labelSelector": {"matchLabels": {"a": "b"}}}
    assert render({"topologySpreadConstraints": [own]}).pod["topologySpreadConstraints"] == [own]


def test_autoscaling_alone_sets_the_replicas(render):
    assert render().one("Deployment")["spec"]["replicas"] == 2
    for file in ("hpa.yaml", "keda.yaml"):
        assert "replicas" not in render(file).one("Deployment")["spec"]


def test_the_autoscaler_looks_at_requests_waiting_and_slots_used(render):
    spec = render("hpa.yaml").one("HorizontalPodAutoscaler")["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (3, 12)
    assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "demo-sluice"}
    metrics = {metric["pods"]["metric"]["name"]: metric["pods"]["target"] for metric in spec["metrics"]}
    assert metrics == {
        "sluice_requests_waiting": {"type": "AverageValue", "averageValue": "8"},
        "sluice_slots_used_ratio": {"type": "AverageValue", "averageValue": "750m"}}
    assert spec["behavior"]["scaleDown"] == {
        "stabilizationWindowSeconds": 300, "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}]}


def test_the_adapter_makes_the_metrics_that_the_autoscaler_asks_for(render):
    rules = yaml.safe_load((ROOT / "deploy" / "helm" / "sluice" / "files" / "adapter-rules.yaml").read_text())
    spec = render("hpa.yaml").one("HorizontalPodAutoscaler")["spec"]
    assert {rule["name"]["as"] for rule in rules["rules"]["custom"]} == {
        metric["pods"]["metric"]["name"] for metric in spec["metrics"]}


def test_a_disruption_budget_never_keeps_all_pods(render):
    spec = render().one("PodDisruptionBudget")["spec"]
    assert spec["maxUnavailable"] == 1 and "minAvailable" not in spec
    assert spec["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    spec = render("hpa.yaml").one("PodDisruptionBudget")["spec"]
    assert spec["minAvailable"] == 2 and "maxUnavailable" not in spec
    assert render("gpu.yaml").one("PodDisruptionBudget")["spec"]["minAvailable"] == "50%"


def test_the_network_policy_lets_in_callers_and_scrapers_and_nothing_out(render):
    spec = render().one("NetworkPolicy")["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert spec["egress"] == []
    assert spec["ingress"] == [
        {"ports": [{"port": "grpc", "protocol": "TCP"}], "from": [{"podSelector": {}}]},
        {"ports": [{"port": "metrics", "protocol": "TCP"}], "from": [{"namespaceSelector": {}}]}]


def test_the_network_policy_without_peers_lets_nobody_in(render):
    spec = render({"networkPolicy": {"clients": [], "scrapers": []}}).one("NetworkPolicy")["spec"]
    assert spec["ingress"] == []
    spec = render({"networkPolicy": {"clients": []}}).one("NetworkPolicy")["spec"]
    assert [rule["ports"][0]["port"] for rule in spec["ingress"]] == ["metrics"]


def test_services_reach_the_port_that_the_server_listens_on(render):
    objects = render("tls-keys.yaml")
    services = {service["metadata"]["name"]: service["spec"] for service in objects.of_kind("Service")}
    assert set(services) == {"demo-sluice", "demo-sluice-headless"}
    assert services["demo-sluice"]["type"] == "LoadBalancer"
    assert services["demo-sluice"]["ports"] == [{"name": "grpc", "port": 443, "targetPort": "grpc"}]
    assert services["demo-sluice-headless"]["clusterIP"] == "None"
    ports = {port["name"]: port["containerPort"] for port in objects.container["ports"]}
    assert objects.flags["--listen"] == f"0.0.0.0:{ports['grpc']}"
    assert objects.flags["--metrics-listen"] == f"0.0.0.0:{ports['metrics']}"
    assert render({"listenHost": "[::]"}).flags["--listen"] == "[::]:50051"


@pytest.mark.parametrize("file, said, unsaid", [
    ("default.yaml", ["-plaintext", "round_robin", "There is no TLS", "There are no API keys",
                      "Nothing scrapes it yet", "after 10m"], ["custom.metrics", "authorization"]),
    ("tls-keys.yaml", ["-cacert CA", "-cert CERTIFICATE", "authorization: Bearer KEY", "50051:443"],
     ["There is no TLS", "There are no API keys", "-plaintext"]),
    ("hpa.yaml", ["3 to 12 pods", "files/adapter-rules.yaml", "custom.metrics.k8s.io"], []),
    ("monitoring.yaml", [], ["Nothing scrapes it yet"]),
])
def test_notes_say_how_to_call_it_and_what_is_open(render, file, said, unsaid):
    notes = render(file).notes
    for words in said:
        assert words in notes
    for words in unsaid:
        assert words not in notes
