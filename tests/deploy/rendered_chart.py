"""A Helm chart, rendered by Helm's own engine, without a cluster."""
import pathlib

import helm_python
import yaml

RELEASE = "demo"
NAMESPACE = "llm"


class Objects:
    """What one set of values makes."""

    def __init__(self, manifests):
        self.notes = next(text for name, text in manifests.items() if name.endswith("NOTES.txt"))
        documents = (document for name, text in manifests.items() if name.endswith(".yaml")
                     for document in yaml.safe_load_all(text))
        self.all = [document for document in documents if document is not None]

    def kinds(self):
        return sorted(document["kind"] for document in self.all)

    def of_kind(self, kind):
        return [document for document in self.all if document["kind"] == kind]

    def one(self, kind):
        found = self.of_kind(kind)
        assert len(found) == 1, f"{len(found)} objects of kind {kind}"
        return found[0]

    @property
    def pod(self):
        """The pod's spec."""
        return self.one("Deployment")["spec"]["template"]["spec"]

    @property
    def container(self):
        """The server's container."""
        (container,) = self.pod["containers"]
        return container

    @property
    def flags(self):
        """The flags of the server: "--name" to its value."""
        return dict(argument.split("=", 1) for argument in self.container["args"])


class RenderedChart:
    """A chart and its values files for tests, in ci/."""

    def __init__(self, path, chart):
        self.path = path
        self._chart = chart

    @classmethod
    def load(cls, path):
        return cls(pathlib.Path(path), helm_python.Chart.load(path))

    def close(self):
        self._chart.close()

    def values(self, values):
        if isinstance(values, str):
            return yaml.safe_load((self.path / "ci" / values).read_text())
        return values

    def render(self, values=None):
        return Objects(self._chart.render(self.values(values), name=RELEASE, namespace=NAMESPACE))
