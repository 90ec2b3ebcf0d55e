"""How the plots of this folder look, and how they are written: the same figures, the same file.

Needs matplotlib (tests/bench/requirements.txt).
"""
import matplotlib

matplotlib.use("svg")
matplotlib.rcParams.update({"svg.hashsalt": "sluice", "svg.fonttype": "none", "font.size": 9})
import matplotlib.pyplot as plt  # noqa: E402


def panels(count, width=4.6, height=3.8):
    """A figure of panels side by side."""
    figure, axes = plt.subplots(1, count, figsize=(width * count, height), squeeze=False)
    return figure, axes[0]


def logarithmic(axes, xlabel, ylabel):
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.grid(True, which="major", linewidth=0.3)
    axes.legend(fontsize=7)


def save(figure, out):
    figure.tight_layout()
    figure.savefig(out, metadata={"Date": None})
    plt.close(figure)
