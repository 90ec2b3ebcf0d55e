"""A Dockerfile as a list of stages, each a list of instructions."""
import dataclasses
import json
import re
import shlex


@dataclasses.dataclass
class Instruction:
    name: str
    text: str  # behind the name, on one line

    def words(self):
        return shlex.split(self.text)

    def exec_form(self):
        """The list that is run as it is; None if a shell would be."""
        found = re.search(r"\[.*\]$", self.text)
        return json.loads(found.group()) if found else None


@dataclasses.dataclass
class Stage:
    name: str
    base: str  # as it is written
    instructions: list

    def all(self, name):
        return [instruction for instruction in self.instructions if instruction.name == name]

    def last(self, name):
        return self.all(name)[-1]


@dataclasses.dataclass
class Dockerfile:
    arguments: dict  # those before the first stage, with their defaults
    stages: dict  # by name


def instructions(text):
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    for line in re.sub(r"\\\n\s*", "", "\n".join(lines)).splitlines():
        if line.strip():
            name, rest = line.split(None, 1)
            yield Instruction(name, rest.strip())


def parse(text):
    file = Dockerfile({}, {})
    stage = None
    for instruction in instructions(text):
        if instruction.name == "FROM":
            base, _, name = instruction.text.split()
            stage = file.stages[name] = Stage(name, base, [])
        elif stage is None:
            assert instruction.name == "ARG"
            name, default = instruction.text.split("=", 1)
            file.arguments[name] = default
        else:
            stage.instructions.append(instruction)
    return file
