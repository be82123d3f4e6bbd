"""Which validation spectra the errors of labels are calibrated on."""

import numpy as np
import pyarrow as pa
import pytest

from survey.ensemble.fit_data import LEAST_OF_OTHERS, FitData
from survey.labelling.samples import Samples
from survey.store.settings import Prepare
from survey.training.run import StoreSource

COMPUTED = 300


def fit_data(real: int, visits: int = 1) -> FitData:
    """Computed spectra with all labels, and so many real ones without [C/Fe]; the first is too hot.

    Each star has so many visits.
    """
    count = COMPUTED + real
    label_NL = np.stack([np.full(count, 5000.0), np.full(count, -1.0), np.full(count, 0.5)], 1)
    label_NL[COMPUTED:, 2] = np.nan
    label_NL[COMPUTED : COMPUTED + 1, 0] = 9000.0
    source = pa.array(["main"] * COMPUTED + ["real"] * real, pa.string())
    zero_N = np.zeros(count, np.int8)
    place_N2 = np.zeros((count, 2), np.int64)
    validation = Samples(
        ("Teff", "FeH", "CFe"),
        place_N2,
        zero_N,
        zero_N,
        label_NL,
        label_NL * np.nan,
        pa.table({"source": source, "star": pa.array([f"star {row // visits}" for row in range(count)])}),
    )
    store = StoreSource(path="s", id="i", prepare=Prepare())
    return FitData(store, validation, validation, {})


def test_errors_are_calibrated_on_real_stars_where_they_are_enough_and_have_the_label() -> None:
    label_NL, notes = fit_data(LEAST_OF_OTHERS + 1).labels_for_errors("other_sources")
    used_NL = np.isfinite(label_NL)
    assert notes == ()
    for column in (0, 1):
        assert not used_NL[: COMPUTED + 1, column].any(), "no computed star, and not the hot one"
        assert used_NL[COMPUTED + 1 :, column].all()
    assert used_NL[:, 2].sum() == COMPUTED, "carbon is known of computed stars only"


@pytest.mark.parametrize(
    ("real", "errors_from"), [(LEAST_OF_OTHERS, "other_sources"), (LEAST_OF_OTHERS + 1, "all")]
)
def test_errors_are_calibrated_on_all_stars_where_real_ones_are_few_or_not_wanted(
    real: int, errors_from: str
) -> None:
    label_NL, notes = fit_data(real).labels_for_errors(errors_from)
    assert np.isfinite(label_NL[:, :2]).all()
    assert len(notes) == (0 if errors_from == "all" else 2)
    assert all(
        "known of 49 of the validation stars of other sources, 50 are needed" in note for note in notes
    )


def test_visits_do_not_count_as_real_stars() -> None:
    label_NL, _ = fit_data(2 * LEAST_OF_OTHERS - 2, visits=2).labels_for_errors("other_sources")
    assert np.isfinite(label_NL[:, :2]).all()
