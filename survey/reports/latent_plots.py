"""Pictures of what classifiers learn from a latent space, and of the same objects in two surveys."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from survey.latent.latent import CLASSIFIERS, LATENT_FEATURES, PAIRS, STATISTICS, LatentResult
from survey.reports.style import BLUE, GREY, INK, RED, count_text, png

SHOWN = (
    (LATENT_FEATURES, "forest", "latent, random forest", BLUE, "o"),
    (LATENT_FEATURES, "linear", "latent, linear", BLUE, "s"),
    (STATISTICS, "forest", "statistics, random forest", RED, "o"),
    (STATISTICS, "linear", "statistics, linear", RED, "s"),
    ("nothing", "majority", "the most common class", GREY, "D"),
)
"""What is drawn: features, classifier, its name, colour and marker."""
METRICS = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy (mean recall of the classes)"}


def plot_classifiers(result: LatentResult) -> bytes | None:
    """Accuracy and balanced accuracy of each question; None if nothing was learned."""
    table = result.table(CLASSIFIERS)
    if table is None or not table.num_rows:
        return None
    rows = {
        (row["question"], row["features"], row["classifier"], row["metric"]): row
        for row in table.to_pylist()
        if not row["class"]
    }
    questions = list(dict.fromkeys(key[0] for key in rows))

    def draw(figure: Figure) -> None:
        axes = figure.subplots(1, len(METRICS), sharey=True)
        for axis, (metric, title) in zip(axes, METRICS.items(), strict=True):
            for number, (features, classifier, name, color, marker) in enumerate(SHOWN):
                found = [rows.get((question, features, classifier, metric)) for question in questions]
                _draw_intervals(axis, found, number, name, color, marker)
            axis.set(title=title, xlim=(0, 1), ylim=(len(questions) - 0.4, -0.6))
            axis.grid(axis="x", color="#e4e8ec")
            axis.set_xlabel("on the test part, with its 95 % interval")
        counts = [rows[question, "nothing", "majority", "accuracy"]["n"] for question in questions]
        texts = [f"{name}\n(n = {count:,})" for name, count in zip(questions, counts, strict=True)]
        axes[0].set_yticks(range(len(questions)), texts)
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)

    return png(draw, 11, 2.2 + 0.9 * len(questions))


def _draw_intervals(
    axis: Axes, rows: list[dict[str, Any] | None], number: int, name: str, color: str, marker: str
) -> None:
    """The values of one classifier, a little below those before."""
    known = [(place, row) for place, row in enumerate(rows) if row]
    if not known:
        return
    value, low, high = (np.array([row[end] for _, row in known]) for end in ("value", "low", "high"))
    place = np.array([place for place, _ in known]) + 0.13 * (number - 2)
    ends = [np.maximum(value - low, 0), np.maximum(high - value, 0)]
    axis.errorbar(value, place, xerr=ends, fmt=marker, color=color, ms=5, lw=1.2, capsize=2, label=name)


def plot_pairs(result: LatentResult) -> bytes | None:
    """The ranks of the pairs against chance, and their distances; None without a second survey."""
    table, pairs = result.table(PAIRS, ["rank", "distance"]), result.document.pairs
    if table is None or pairs is None:
        return None
    rank_P = np.sort(table["rank"].to_numpy())
    distance_P = table["distance"].to_numpy()

    def draw(figure: Figure) -> None:
        ranks, distances = figure.subplots(1, 2)
        share_P = np.arange(1, len(rank_P) + 1) / len(rank_P)
        ranks.step(np.append(1, rank_P), np.append(0, share_P), color=BLUE, lw=2, where="post", label="pairs")
        chance = np.geomspace(1, max(pairs.other_rows, 2), 100)
        ranks.plot(chance, chance / pairs.other_rows, color=GREY, ls="--", label="by chance")
        ranks.set(xscale="log", ylim=(0, 1.02), xlabel="rank of the own partner (1 = the nearest of all)")
        ranks.set(ylabel="share of pairs up to this rank", title=count_text(len(rank_P), "pairs"))
        ranks.legend(loc="lower right")
        distances.hist(distance_P, bins=min(50, 5 + len(distance_P) // 10), color=BLUE)
        distances.axvline(float(np.median(distance_P)), color=INK, ls=":")
        distances.set(xlabel="distance in the latent space", ylabel="pairs", title="dotted: the median")

    return png(draw, 10.5, 4.4)
