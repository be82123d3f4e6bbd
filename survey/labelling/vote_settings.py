"""From which fraction of the votes an answer of Galaxy Zoo counts.

The defaults are those of Xu et al. 2023 (arXiv:2303.08627) for Galaxy Zoo DECaLS (Walmsley et al. 2022).
This file imports nothing heavy.
"""

from typing import Annotated

from pydantic import Field

from survey.settings import Settings

Fraction = Annotated[float, Field(ge=0, lt=1)]
Two = Annotated[tuple[Fraction, Fraction], Field(strict=False)]
Three = Annotated[tuple[Fraction, Fraction, Fraction], Field(strict=False)]


class VoteCuts(Settings):
    """The fractions of votes above which a galaxy has a class, or a question an answer."""

    merger: Fraction = Field(0.6, description="merging: merger")
    round: Two = Field((0.7, 0.8), description="smooth, and how rounded: round")
    in_between: Two = Field((0.7, 0.85), description="smooth, and how rounded: in between")
    cigar: Two = Field((0.5, 0.6), description="smooth, and how rounded: cigar-shaped")
    edge_on: Two = Field((0.5, 0.7), description="featured or disk, and edge-on: yes")
    no_bar: Three = Field((0.5, 0.5, 0.8), description="featured or disk, edge-on: no, and bar: no")
    weak_bar: Three = Field((0.5, 0.5, 0.5), description="featured or disk, edge-on: no, and bar: weak")
    strong_bar: Three = Field((0.5, 0.5, 0.5), description="featured or disk, edge-on: no, and bar: strong")
    answer: Fraction = Field(
        0.6, description="fraction above which a question (round, edge-on, bar, arms, ...) has this answer"
    )
    before: Fraction = Field(
        0.5,
        description="fraction of the answer that leads to a question; below it, the question has no answer",
    )
