"""The rules, by Prometheus's own tool: they parse, they fire, they keep quiet."""
import pathlib
import re
import subprocess

import pytest
import watched

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
ALERTS = [rule["alert"] for rule in watched.rules() if "alert" in rule]


def promtool(*arguments):
    done = subprocess.run(["promtool", *arguments], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_promtool_takes_the_rules():
    said = promtool("check", "rules", "--lint-fatal", "deploy/helm/sluice/files/alerts.yaml")
    assert f"{len(watched.rules())} rules found" in said


def test_promtool_takes_the_local_configuration():
    said = promtool("check", "config", "--lint-fatal", "deploy/local/prometheus.yml")
    assert f"{len(watched.rules())} rules found" in said


def test_alerts_fire_when_they_should_and_only_then():
    assert "SUCCESS" in promtool("test", "rules", "tests/deploy/alert_cases.yaml")


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_has_a_case_in_which_it_fires(alert):
    assert f'alertname="{alert}"' in (HERE / "alert_cases.yaml").read_text()


def test_the_readme_says_of_each_alert_what_to_do():
    readme = (ROOT / "deploy" / "README.md").read_text()
    assert re.findall("^#### (Sluice.*)$", readme, re.MULTILINE) == ALERTS


@pytest.mark.parametrize("rule", [rule for rule in watched.rules() if "alert" in rule],
                         ids=lambda rule: rule["alert"])
def test_every_alert_says_how_urgent_it_is_and_what_it_is_of(rule):
    assert rule["labels"]["severity"] in ("page", "ticket")
    assert "{{ $labels.job }}" in rule["annotations"]["summary"]
    assert rule["annotations"]["description"].endswith(".")
