"""Rows a second against the size of the batches, as ingest.svg and ingest.png."""

import os

import matplotlib

matplotlib.use("Agg")
# The same input draws the same file.
matplotlib.rcParams["svg.hashsalt"] = "ingest"
matplotlib.rcParams["svg.fonttype"] = "none"  # text stays text

from matplotlib import pyplot  # noqa: E402 - after the choice of what it draws with
from matplotlib.ticker import FuncFormatter, NullLocator  # noqa: E402

_COLORS = {2: "#1f77b4", 4: "#d95f02"}
_METADATA = {"svg": {"Date": None}, "png": {"Software": None}}


def draw(table, directory):
    """Writes both files."""
    figure, axes = pyplot.subplots(figsize=(8, 5), layout="constrained")
    pool = [row for row in table if row["runner"] == "pool"]
    for workers in sorted({row["workers"] for row in pool}):
        line = sorted((row["rows a call"], row["rows/s"]) for row in pool if row["workers"] == workers)
        axes.plot(*zip(*line), marker="o", color=_COLORS[workers], label=f"pool, {workers} workers")
    for row in table:
        if row["runner"] == "pool, Celery tasks" and row["rows a call"] > 1:
            style = {"color": _COLORS[row["workers"]], "linestyle": "none", "marker": "*", "markersize": 12}
            label = f"pool, {row['workers']} workers, messages of Celery"
            axes.plot([row["rows a call"]], [row["rows/s"]], label=label, **style)
        if row["runner"] == "Celery":
            style = {"color": _COLORS[row["workers"]], "linestyle": ":", "linewidth": 1.5}
            axes.axhline(row["rows/s"], label=f"Celery, {row['workers']} workers, one row a message", **style)
    sizes = sorted({row["rows a call"] for row in pool})
    axes.set_xscale("log")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_yscale("log")
    lowest = min(row["rows/s"] for row in table)
    highest = max(row["rows/s"] for row in table)
    ticks = [digit * 10**power for power in range(6) for digit in (1, 2, 5)]
    inside = [tick for tick in ticks if lowest / 2 <= tick <= highest * 2]
    axes.set_ylim(inside[0], inside[-1])
    axes.set_yticks(inside)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda rate, _: f"{rate:,.0f}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("rows a call at the most (batch size)")
    axes.set_ylabel("rows committed per second")
    axes.set_title("Lines of JSON through a queue into PostgreSQL (fsync on)")
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left")
    for kind, metadata in _METADATA.items():
        figure.savefig(os.path.join(directory, f"ingest.{kind}"), dpi=110, metadata=metadata)
