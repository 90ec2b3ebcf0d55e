"""Every expression that is evaluated somewhere over Sluice's metrics, by where it stands."""
import json
import pathlib

import yaml
from rendered_chart import NAMESPACE, RELEASE

FILES = pathlib.Path(__file__).resolve().parents[2] / "deploy" / "helm" / "sluice" / "files"
JOB = f"{RELEASE}-sluice"
PODS = (f"{JOB}-a", f"{JOB}-b")


def rules():
    return [rule for group in yaml.safe_load((FILES / "alerts.yaml").read_text())["groups"]
            for rule in group["rules"]]


def rule_expressions():
    return [(rule.get("alert") or rule["record"], rule["expr"]) for rule in rules()]


def dashboard():
    return json.loads((FILES / "dashboard.json").read_text())


def filled_in(expression):
    """With Grafana's variables as they are if all is chosen."""
    for variable in ("$namespace", "$job"):
        expression = expression.replace(variable, ".*")
    return expression.replace("$__rate_interval", "30s")


def panel_expressions():
    return [(panel["title"], filled_in(target["expr"]))
            for panel in dashboard()["panels"] for target in panel.get("targets", [])]


def adapter_expressions():
    """As prometheus-adapter asks for the pods of a HorizontalPodAutoscaler."""
    expressions = []
    for rule in yaml.safe_load((FILES / "adapter-rules.yaml").read_text())["rules"]["custom"]:
        expressions.append((rule["name"]["as"], rule["seriesQuery"]))
        query = rule["metricsQuery"].replace("<<.Series>>", rule["seriesQuery"].split("{")[0])
        query = query.replace("<<.GroupBy>>", "pod")
        matchers = f'namespace="{NAMESPACE}",pod=~"{"|".join(PODS)}"'
        expressions.append((rule["name"]["as"], query.replace("<<.LabelMatchers>>", matchers)))
    return expressions


def scaling_expressions(render):
    scaled = render("keda.yaml").one("ScaledObject")
    return [(trigger["name"], trigger["metadata"]["query"]) for trigger in scaled["spec"]["triggers"]]
