"""What became of every request of the soak, beside what it gives alone."""
import collections
from typing import NamedTuple

REASONS = ("FINISH_REASON_STOP", "FINISH_REASON_LENGTH")
EXAMPLES = 5  # of each kind of failure, for the report


class Attempt(NamedTuple):
    """One call that is over. Times are of the steady clock, in nanoseconds; `first` is 0 if no token came."""
    index: int
    id: str
    kind: str
    end: str  # answered, cancelled, refused, turned away, failed
    sent: int
    first: int
    over: int
    error: str = ""


def was_turned_away(line):
    """Not taken. gRPC itself says CANCELLED to a call that comes while it shuts down."""
    return (line["end"] == "error" and line["error"] in ("UNAVAILABLE", "CANCELLED") and not line["token_ids"]
            and not line["text"] and not line["finished"])


def answer_of(line):
    """What has to be the same alone and under load."""
    return {"text": line["text"], "token_ids": line["token_ids"], "finished": line["finished"]}


def begins(reference, line):
    """Whether what came is how the answer begins."""
    ids = line["token_ids"]
    return (reference["text"].startswith(line["text"]) and reference["token_ids"][:len(ids)] == ids
            and line["finished"] in (None, reference["finished"]))


class Tally:
    """Takes a line of soak_load for each attempt. `references`: plan to answer_of of the request alone."""

    def __init__(self, references):
        self.references = references
        self.attempts = []
        self.ends = collections.Counter()
        self.compared = collections.Counter()  # streams that were finished, by kind
        self.begun = 0  # cancelled streams that had given something
        self.plans_compared = set()
        self.wrong = []  # texts other than alone
        self.unexpected = []  # ends other than they should be

    @property
    def over(self):
        """Requests that are over; those that were turned away are not."""
        return sum(self.ends.values()) - self.ends["turned away"]

    def add(self, line):
        end = self._judge(line)
        self.ends[end] += 1
        self.attempts.append(Attempt(line["index"], line["id"], line["kind"], end, line["sent_ns"],
                                     line["first_ns"], line["end_ns"], line["error"]))

    def _judge(self, line):
        if line["end"] == "answered" and line["kind"] != "invalid":
            self._compare(line)
        elif line["end"] == "cancelled" and line["kind"] == "cancel":
            self._compare_beginning(line)
        elif line["end"] == "refused" and line["kind"] == "invalid":
            if line["field"] not in line["message"]:
                self._note(self.unexpected, line, f"refused without naming {line['field']}")
        elif was_turned_away(line):
            return "turned away"
        else:
            self._note(self.unexpected, line, f"{line['end']} {line['error']} after {len(line['token_ids'])} tokens")
            return "failed"
        return line["end"]

    def _compare(self, line):
        self.compared[line["kind"]] += 1
        self.plans_compared.add(line["plan"])
        if answer_of(line) != self.references[line["plan"]]:
            self._note(self.wrong, line, f"{answer_of(line)} instead of {self.references[line['plan']]}")

    def _compare_beginning(self, line):
        self.begun += bool(line["token_ids"])
        if not begins(self.references[line["plan"]], line):
            self._note(self.wrong, line, f"{answer_of(line)} does not begin {self.references[line['plan']]}")

    @staticmethod
    def _note(failures, line, problem):
        failures.append(f"{line['id']} (plan {line['plan']}, {line['kind']}): {problem} {line['message']}")


def read_references(lines):
    """The answers of requests that were sent alone, by plan. All must have ended by themselves."""
    references = {}
    for line in lines:
        if line["end"] != "answered" or line["finished"]["reason"] not in REASONS:
            raise RuntimeError(f"plan {line['plan']} failed alone: {line['end']} {line['error']} {line['message']}")
        references[line["plan"]] = answer_of(line)
    return references
