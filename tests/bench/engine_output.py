"""What engine_bench prints, read."""
import dataclasses
import re

HEAD = re.compile(r"^(?P<device>.*), (?P<dtype>\S+), (?P<weights>[\d.]+) M weights \([\d.]+ MiB\), "
                  r"state (?P<state>[\d.]+) MiB a slot \((?P<type>\w+), ring (?P<ring>\d+)\)", re.MULTILINE)
COPY = re.compile(r"^copy (?P<gigabytes>[\d.]+) GB/s", re.MULTILINE)
FIGURE = re.compile(r"^(?P<what>prefill|decode) +(?P<shape>\S+)(?: +after (?P<context>\d+) tokens)? +(?P<ms>[\d.]+) ms"
                    r".* (?P<rate>\d+) tok/s +(?P<share>[\d.]+) %", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Figure:
    what: str  # prefill or decode
    shape: str  # "8x2048" or "B=16"
    context: int | None  # tokens before a decode, where they were asked for
    milliseconds: float  # of a step, or of the whole prefill
    rate: float  # tokens a second
    share: float  # of the roofline, 1 for all of it

    @property
    def batch(self):
        return int(self.shape.removeprefix("B="))


@dataclasses.dataclass(frozen=True)
class EngineOutput:
    device: str
    dtype: str
    weights: str  # millions
    state_mib: str  # of a sequence
    state_type: str
    ring: int
    copy: float  # bytes a second that a large copy reads and writes
    figures: list

    @property
    def formats(self):
        """What weights and states are stored as, in words."""
        return f"{self.dtype}, state {self.state}"

    @property
    def state(self):
        return self.state_type + (f", ring {self.ring}" if self.ring else "")

    def decodes(self):
        return [figure for figure in self.figures if figure.what == "decode"]


def parse(text):
    head = HEAD.search(text)
    copy = COPY.search(text)
    if head is None or copy is None:
        raise ValueError("this is not what engine_bench prints")
    figures = [Figure(found["what"], found["shape"], int(found["context"]) if found["context"] else None,
                      float(found["ms"]), float(found["rate"]), float(found["share"]) / 100)
               for found in FIGURE.finditer(text)]
    return EngineOutput(head["device"], head["dtype"], head["weights"], head["state"], head["type"],
                        int(head["ring"]), 1e9 * float(copy["gigabytes"]), figures)


def read(path):
    with open(path, encoding="utf-8") as file:
        return parse(file.read())
