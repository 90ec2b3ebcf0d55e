"""What an expression of PromQL names: metrics, matchers, labels."""
import re

_METRIC = re.compile(r"(?<![\w:])((?:sluice|process|exposer)_\w+|sluice:[\w:]+|up)(?![\w:(])\s*(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"')
_GROUPING = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")


def selectors(expression):
    """(metric, [(label, operator, value)]) of each selector."""
    for name, matchers in _METRIC.findall(expression):
        yield name, _MATCHER.findall(matchers)


def grouping_labels(expression):
    """The labels by which an expression groups or joins."""
    return {label.strip() for labels in _GROUPING.findall(expression) for label in labels.split(",")}


def values_meant(operator, value):
    """Patterns that each have to match some value, if the matcher is to find all that it names."""
    if operator == "=":
        return [re.escape(value)] if value else []
    return value.split("|") if operator == "=~" and value != ".*" else []
