"""The stars that lists are tested on, flagged like the stars of the catalog: the test population of an
ensemble, or its validation stars, combined from their visits. They are of the kinds that are asked.

A threshold is chosen on them, and purity and completeness are counted on them. Draws of the population that
have one base are alike, so they count as fewer independent stars. Shapes: N stars, C classes.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from survey import files
from survey.catalog.criteria import add_criteria
from survey.catalog.flags import FlagRules
from survey.catalog.prior import ClassMix, ordinary_probabilities
from survey.catalog.settings import ListName, VisitSettings, list_classes
from survey.catalog.visit_groups import VisitScatter
from survey.catalog.visits import (
    PROBABILITIES,
    Flags,
    Floats,
    combine_visits,
    is_ruled_out,
)
from survey.ensemble.draws import BASE, deciding
from survey.labelling.star_id import encode
from survey.labels import CLASSES, MISSING, Criterion
from survey.metrics.intervals import independent_share
from survey.predict.output import POPULATION, VALIDATION, Predictions

SMALLEST = 1e-7
"""A smaller probability counts as this when its logarithm is taken."""


@dataclass(frozen=True)
class ValidationStars:
    """Tested stars with a known class and an answer; `allowed_N`: no flag keeps the star out of lists.

    Stars of one `base_N` are draws of one spectrum; None if each is a star of its own.
    """

    row_N: NDArray[np.int64]
    p_NC: Floats
    class_N: NDArray[np.int64]
    allowed_N: Flags
    base_N: NDArray[np.int64] | None = None

    @classmethod
    def from_table(cls, validation: pa.Table) -> Self:
        """From a table with `p_*` and `true_class`.

        Stars with a `flag_bad`, and those that a cascade rules out, are never listed, but count among the
        stars that a complete list has.
        """
        missing = [name for name in (*PROBABILITIES, "true_class") if name not in validation.column_names]
        if missing:
            raise ValueError(
                f"catalog: validation has no column {missing[0]}; give an ensemble that predicts the classes "
                f"{', '.join(CLASSES)}"
            )
        p_NC = ordinary_probabilities(validation)
        class_N = validation["true_class"].fill_null(MISSING).to_numpy().astype(np.int64)
        allowed_N = np.ones(len(class_N), bool)
        if "flag_bad" in validation.column_names:
            allowed_N = validation["flag_bad"].fill_null(0).to_numpy() == 0
        allowed_N &= ~is_ruled_out(validation)
        row_N = np.flatnonzero(np.isfinite(p_NC).all(1) & (class_N != MISSING))
        base_N = validation[BASE].to_numpy()[row_N] if BASE in validation.column_names else None
        return cls(row_N, p_NC[row_N], class_N[row_N], allowed_N[row_N], base_N)

    @property
    def n_C(self) -> NDArray[np.int64]:  # noqa: N802
        """The number of stars of each class."""
        return np.bincount(self.class_N, minlength=len(CLASSES))

    @property
    def independent_C(self) -> Floats:  # noqa: N802
        """The number of independent stars among those of each class, as a share.

        It follows from how alike the log odds of the class are among the draws of one base (intraclass
        correlation).
        """
        if self.base_N is None:
            return np.ones(len(CLASSES))
        log_NC = np.log(np.clip(self.p_NC, SMALLEST, 1))
        share_C = np.ones(len(CLASSES))
        for number in range(len(CLASSES)):
            chosen_N = self.class_N == number
            odds_NC = log_NC[chosen_N] - np.log1p(-np.clip(self.p_NC[chosen_N], 0, 1 - SMALLEST))
            if chosen_N.any():
                base_N = self.base_N[chosen_N]
                share_C[number] = min(independent_share(odds_N, base_N) for odds_N in odds_NC.T)
        return share_C

    @property
    def weight_N(self) -> Floats:  # noqa: N802
        """How much each draw counts if each base counts once."""
        if self.base_N is None:
            return np.ones(len(self.row_N))
        _, code_N, count = np.unique(self.base_N, return_inverse=True, return_counts=True)
        return np.asarray(1 / count[code_N])

    def score(self, name: ListName, mix: ClassMix, always_N: Flags | None = None) -> Floats:
        """The scores with the class shares of the survey; -1 for stars that are never listed.

        Stars that are listed at any threshold (`always_N`) have the score 1.
        """
        score_N = mix.adjust(self.p_NC)[:, list_classes(name)].sum(1)
        if always_N is not None:
            score_N = np.where(always_N, 1.0, score_N)
        return np.where(self.allowed_N, score_N, -1.0)


def read_draws(predictions: Predictions) -> pa.Table | None:
    """The draws of the test population; None if there is no population."""
    path = files.join(predictions.path, POPULATION)
    return files.read_table(path) if files.exists(path) else None


def read_validation(
    predictions: Predictions,
    visits: VisitSettings,
    rules: FlagRules,
    criterion: Criterion = "carbon_0.7",
    scatter: VisitScatter | None = None,
    draws: pa.Table | None = None,
) -> pa.Table | None:
    """The predictions of the ensemble for its test population, or for its validation stars, one row each.

    None if it has neither. `draws` are those of the test population, if they are read already. Stars of
    kinds that are not asked are left out: class shares of the survey are those of asked kinds too.
    `flag_bad` is 1 if flags would keep the star out of the lists.
    """
    draws = read_draws(predictions) if draws is None else draws
    if draws is not None:
        table = deciding(draws)
        code_N = np.arange(table.num_rows)
    elif files.exists(path := files.join(predictions.path, VALIDATION)):
        table = files.read_table(path)
        code_N, _ = encode(table["star"].combine_chunks().cast(pa.string()))
        unnamed_N = code_N < 0
        code_N[unnamed_N] = code_N.max(initial=-1) + 1 + np.arange(unnamed_N.sum())
    else:
        return None
    stars = add_criteria(combine_visits(table, code_N, visits, scatter), criterion)
    stars = stars.filter(pa.array(~rules.is_other_kind(stars)))
    return stars.append_column("flag_bad", pa.array(rules.keep_out(stars).astype(np.int32)))
