"""The validation stars of an ensemble, combined from their visits and flagged like the stars of the catalog.

A threshold is chosen on them, and purity and completeness are counted on them. Shapes: N stars, C classes.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from survey import files
from survey.catalog.flags import FlagRules
from survey.catalog.prior import ClassMix
from survey.catalog.settings import ListName, VisitSettings, list_classes
from survey.catalog.visits import PROBABILITIES, Flags, Floats, class_probabilities, combine_visits
from survey.labelling.star_id import encode
from survey.labels import CLASSES, MISSING
from survey.predict.output import VALIDATION, Predictions


@dataclass(frozen=True)
class ValidationStars:
    """Validation stars with a known class and an answer; `allowed_N`: no flag keeps the star out of lists."""

    row_N: NDArray[np.int64]
    p_NC: Floats
    class_N: NDArray[np.int64]
    allowed_N: Flags

    @classmethod
    def from_table(cls, validation: pa.Table) -> Self:
        """From a table with `p_*` and `true_class`.

        Stars with a `flag_bad` are never listed, but count among the stars that a complete list has.
        """
        missing = [name for name in (*PROBABILITIES, "true_class") if name not in validation.column_names]
        if missing:
            raise ValueError(
                f"catalog: validation has no column {missing[0]}; give an ensemble that predicts the classes "
                f"{', '.join(CLASSES)}"
            )
        p_NC = class_probabilities(validation)
        class_N = validation["true_class"].fill_null(MISSING).to_numpy().astype(np.int64)
        allowed_N = np.ones(len(class_N), bool)
        if "flag_bad" in validation.column_names:
            allowed_N = validation["flag_bad"].fill_null(0).to_numpy() == 0
        row_N = np.flatnonzero(np.isfinite(p_NC).all(1) & (class_N != MISSING))
        return cls(row_N, p_NC[row_N], class_N[row_N], allowed_N[row_N])

    @property
    def n_C(self) -> NDArray[np.int64]:  # noqa: N802
        """The number of stars of each class."""
        return np.bincount(self.class_N, minlength=len(CLASSES))

    def score(self, name: ListName, mix: ClassMix, always_N: Flags | None = None) -> Floats:
        """The scores with the class shares of the survey; -1 for stars that are never listed.

        Stars that are listed at any threshold (`always_N`) have the score 1.
        """
        score_N = mix.adjust(self.p_NC)[:, list_classes(name)].sum(1)
        if always_N is not None:
            score_N = np.where(always_N, 1.0, score_N)
        return np.where(self.allowed_N, score_N, -1.0)


def read_validation(predictions: Predictions, visits: VisitSettings, rules: FlagRules) -> pa.Table | None:
    """The predictions of the ensemble for its validation stars, one row each; None if it has none.

    `flag_bad` is not 0 if the star's flags would keep it out of the lists.
    """
    path = files.join(predictions.path, VALIDATION)
    if not files.exists(path):
        return None
    table = files.read_table(path)
    code_N, _ = encode(table["star"].combine_chunks().cast(pa.string()))
    unnamed_N = code_N < 0
    code_N[unnamed_N] = code_N.max(initial=-1) + 1 + np.arange(unnamed_N.sum())
    stars = combine_visits(table, code_N, visits)
    return stars.append_column("flag_bad", pa.array(rules.excluding(stars, *rules.flags(stars))))
