"""The report of residuals: its numbers, the spectra with the largest ones, dwarfs and giants."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats
from sklearn import metrics as sk

from survey.metrics.score import metrics_table
from survey.reports.residuals import by_gravity, report
from tests.labelled import changed, labelled_answers


@pytest.fixture
def labelled() -> Any:
    rng = np.random.default_rng(0)
    truth = np.stack([rng.normal(5000, 500, 80), rng.normal(-1, 0.5, 80)], 1)
    value = truth + rng.standard_t(3, (80, 2)) * [60, 0.1]
    truth[:5, 1] = np.nan
    value[17, 0] += 3000
    extra = {"snr": rng.lognormal(3, 1, 80), "logg": np.where(np.arange(80) < 30, 4.5, 2.0)}
    return labelled_answers(
        np.full(80, -1), truth, ("Teff", "FeH"), value_NL=value, extra=extra, labels_name="GALAH"
    )


def names(rows: int = 80) -> pa.Table:
    return pa.table(
        {
            "visit": [f"v{number}" for number in range(rows)],
            "obsid": [*range(rows - 1), None],
            "path": ["/far/off/x.fits"] * rows,
        }
    )


def number(text: str, word: str) -> float:
    """The last number of the first line that begins with a word."""
    return float(next(line for line in text.splitlines() if line.strip().startswith(word)).split()[-1])


def test_the_numbers_are_those_of_other_libraries(labelled: Any) -> None:
    text = report(labelled, names())
    truth, value = labelled.label_NL[:, 0], labelled.value_NL[:, 0]
    residual = value - truth
    far_share = 100 * (np.abs(stats.zscore(residual)) > 3).mean()
    assert number(text, "MAE") == pytest.approx(sk.mean_absolute_error(truth, value), abs=0.01)
    assert number(text, "RMSE") == pytest.approx(np.sqrt(sk.mean_squared_error(truth, value)), abs=0.01)
    assert number(text, "mean (bias)") == pytest.approx(residual.mean(), abs=0.01)
    assert number(text, "standard deviation") == pytest.approx(residual.std(), abs=0.01)
    assert number(text, "R²") == pytest.approx(sk.r2_score(truth, value), abs=1e-4)
    assert number(text, "Pearson") == pytest.approx(stats.pearsonr(truth, value).statistic, abs=1e-4)
    assert number(text, "skewness") == pytest.approx(stats.skew(residual), abs=1e-3)
    assert number(text, "excess kurtosis") == pytest.approx(stats.kurtosis(residual), abs=1e-3)
    assert number(text, "% beyond 3") == pytest.approx(far_share, abs=0.01)
    assert "FeH (dex): iron relative to hydrogen, [Fe/H], 75 spectra" in text


def test_the_spectra_with_the_largest_residuals_are_named(labelled: Any) -> None:
    text = report(labelled, names())
    title = "spectra with the largest residuals of"
    worst = text.partition(f"20 {title} Teff")[2].split("\n\n")[0].splitlines()[2:]
    residual = np.abs(labelled.value_NL[:, 0] - labelled.label_NL[:, 0])
    assert [line.split()[0] for line in worst] == [f"v{row}" for row in np.argsort(-residual)[:20]]
    assert worst[0].split()[0] == "v17"
    assert "x.fits" in worst[0]
    assert "/far" not in text
    of_iron = text.partition(f"{title} FeH")[2]
    assert not any(f"v{row} " in of_iron for row in range(5))
    assert "residuals (predicted - GALAH) of 80 spectra" in text


@pytest.mark.parametrize("rows", [1, 2, 4])
def test_a_few_spectra_have_a_report(labelled: Any, rows: int) -> None:
    text = report(labelled.at(np.arange(80) >= 80 - rows), names().slice(80 - rows))
    assert f"the {rows} spectra with the largest residuals of FeH" in text
    assert "nan" not in text


def test_perfect_answers_and_answers_without_labels_have_a_report() -> None:
    truth = np.linspace(-2, 0, 10)[:, None]
    perfect = labelled_answers(np.full(10, -1), truth, ("FeH",), value_NL=truth)
    assert number(report(perfect, names(10)), "R²") == 1
    classes_only = labelled_answers(np.zeros(3), np.zeros((3, 0)), p_NC=np.eye(3))
    assert report(classes_only, names(3)).startswith("residuals")


def test_dwarfs_and_giants_have_lines_of_their_own(labelled: Any) -> None:
    lines = by_gravity(metrics_table(labelled)).splitlines()
    assert [line.split()[:2] for line in lines[1:4]] == [["Teff", "all"], ["dwarfs", "30"], ["giants", "50"]]
    giants = labelled.extra["logg"] < 4
    residual = labelled.value_NL[giants, 1] - labelled.label_NL[giants, 1]
    assert f"{np.nanmean(np.abs(residual)):.3f} [" in lines[6]
    assert by_gravity(metrics_table(changed(labelled, extra={}))) == ""
