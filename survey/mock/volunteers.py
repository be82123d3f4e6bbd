"""What volunteers would say about mock galaxies: votes in the questions of Galaxy Zoo DECaLS.

Of about 40 volunteers, all answer the first question and the one about mergers; the others are asked of those
whose earlier answers lead there (Walmsley et al. 2022). The columns have the names of the published tables: a
fraction for each answer and the number of votes for each question. A question that nobody was asked has no
fractions. What is likely to be seen depends on the class, on how strong a feature is, and on the seeing.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np

Galaxy = dict[str, Any]
Draw = np.random.Generator

QUESTIONS = {
    "smooth-or-featured": ("smooth", "featured-or-disk", "artifact"),
    "disk-edge-on": ("yes", "no"),
    "has-spiral-arms": ("yes", "no"),
    "bar": ("strong", "weak", "no"),
    "bulge-size": ("dominant", "large", "moderate", "small", "none"),
    "how-rounded": ("round", "in-between", "cigar-shaped"),
    "edge-on-bulge": ("boxy", "none", "rounded"),
    "spiral-winding": ("tight", "medium", "loose"),
    "spiral-arm-count": ("1", "2", "3", "4", "more-than-4", "cant-tell"),
    "merging": ("none", "minor-disturbance", "major-disturbance", "merger"),
}
ASKED_AFTER = {
    "disk-edge-on": ("smooth-or-featured", "featured-or-disk"),
    "has-spiral-arms": ("disk-edge-on", "no"),
    "bar": ("disk-edge-on", "no"),
    "bulge-size": ("disk-edge-on", "no"),
    "how-rounded": ("smooth-or-featured", "smooth"),
    "edge-on-bulge": ("disk-edge-on", "yes"),
    "spiral-winding": ("has-spiral-arms", "yes"),
    "spiral-arm-count": ("has-spiral-arms", "yes"),
}
"""The question and the answer before a question; the others are asked of everybody."""
VOLUNTEERS = 40.0


def columns() -> Iterator[str]:
    """The names of the columns of votes."""
    for question, answers in QUESTIONS.items():
        yield f"{question}_total-votes"
        for answer in answers:
            yield f"{question}_{answer}_fraction"


def votes(galaxy: Galaxy, draw: Draw) -> dict[str, float]:
    """The votes about one galaxy, by column."""
    chances = likely_answers(galaxy)
    row: dict[str, float] = {}
    counts: dict[tuple[str, str], int] = {}
    everybody = int(np.clip(draw.poisson(VOLUNTEERS), 5, 80))
    for question, answers in QUESTIONS.items():
        asked = counts[ASKED_AFTER[question]] if question in ASKED_AFTER else everybody
        chance = np.maximum(np.array(chances[question], float), 0.01)
        opinion = draw.dirichlet(25.0 * chance / chance.sum())  # people differ in what they call a galaxy
        given = draw.multinomial(asked, opinion)
        row[f"{question}_total-votes"] = float(asked)
        for answer, count in zip(answers, given.tolist(), strict=True):
            counts[question, answer] = count
            row[f"{question}_{answer}_fraction"] = count / asked if asked else float("nan")
    return row


def likely_answers(galaxy: Galaxy) -> dict[str, list[float]]:
    """The chance of each answer to each question, in any unit."""
    kind = galaxy["class"]
    clear = 1 / (1 + np.exp(-(galaxy["radius"] - 2.0) / 0.7))  # small galaxies show little
    flat = kind in ("edge_on", "cigar")
    featured = {"edge_on": 0.85, "barred": 0.9, "spiral": 0.9, "merger": 0.5, "cigar": 0.2}.get(kind, 0.06)
    featured *= 0.45 + 0.55 * clear
    arms = min(1.6 * galaxy["arms"], 1.0) * clear
    bar = min(6.0 * galaxy["bar"], 1.0) * (0.4 + 0.6 * clear)
    circle, cigar = 1 - _falls(galaxy["axis_ratio"], 0.80, 0.06), _falls(galaxy["axis_ratio"], 0.40, 0.05)
    bulge = galaxy["bulge"]
    sizes = [abs(bulge - middle) for middle in (0.75, 0.5, 0.28, 0.12, 0.0)]
    pitch = galaxy["pitch"]
    number = int(galaxy["arm_count"])
    merging = galaxy["companion"] if kind == "merger" else 0.0
    return {
        "smooth-or-featured": [1 - featured, featured, 0.02],
        "disk-edge-on": [0.95 if flat else 0.03, 0.05 if flat else 0.97],
        "has-spiral-arms": [arms, 1 - arms],
        "bar": [bar * min(5 * galaxy["bar"], 1), bar * max(1 - 5 * galaxy["bar"], 0.1), 1 - 0.95 * bar],
        "bulge-size": [float(np.exp(-((distance / 0.12) ** 2))) for distance in sizes],
        "how-rounded": [circle, max(1 - circle - cigar, 0.0), cigar],
        "edge-on-bulge": [0.08, _falls(bulge, 0.12, 0.03), 1 - _falls(bulge, 0.12, 0.03)],
        "spiral-winding": [
            _falls(pitch, 17.0, 2.5),
            _falls(pitch, 25.0, 2.5) - _falls(pitch, 17.0, 2.5),
            1 - _falls(pitch, 25.0, 2.5),
        ],
        "spiral-arm-count": [0.75 if number == count else 0.05 for count in (1, 2, 3, 4, 5)] + [0.2],
        "merging": [0.08, 0.1, 0.2, 0.3 + 0.9 * merging] if merging else [0.9, 0.06, 0.02, 0.02],
    }


def _falls(value: float, middle: float, width: float) -> float:
    """1 for values far below the middle, 0 for those far above."""
    return float(1 / (1 + np.exp(np.clip((value - middle) / width, -50, 50))))
