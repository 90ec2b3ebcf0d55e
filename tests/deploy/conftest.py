"""Renders the chart; starts the real server and a real Prometheus."""
import importlib.util
import pathlib

import pytest

from prometheus_process import PrometheusProcess
from rendered_chart import RenderedChart

ROOT = pathlib.Path(__file__).resolve().parents[2]

# The servers and stubs of the end-to-end tests.
_spec = importlib.util.spec_from_file_location("e2e_conftest", ROOT / "tests" / "e2e" / "conftest.py")
_e2e = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_e2e)
api = _e2e.api
start_server = _e2e.start_server


@pytest.fixture(scope="session")
def render():
    """render(values) or render("gpu.yaml"): the objects that Helm would send to a cluster."""
    chart = RenderedChart.load(ROOT / "deploy" / "helm" / "sluice")
    yield chart.render
    chart.close()


@pytest.fixture(scope="session")
def start_prometheus(tmp_path_factory):
    """start_prometheus(configuration): Prometheus on a port of its own; ended with the tests."""
    processes = []

    def start(configuration):
        processes.append(PrometheusProcess(tmp_path_factory.mktemp("prometheus"), configuration))
        processes[-1].wait_until_ready()
        return processes[-1]

    yield start
    for process in processes:
        process.stop()
