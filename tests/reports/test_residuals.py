"""The report of residuals: its numbers, the spectra that are farthest off, dwarfs and giants."""

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats
from sklearn import metrics as sk

from survey.metrics.score import Judged, evaluated
from survey.reports.residuals import by_gravity, report


@pytest.fixture
def judged() -> Judged:
    dice = np.random.default_rng(0)
    truth = np.stack([dice.normal(5000, 500, 80), dice.normal(-1, 0.5, 80)], 1)
    said = truth + dice.standard_t(3, (80, 2)) * [60, 0.1]
    truth[:5, 1] = np.nan
    said[17, 0] += 3000
    about = {"snr": dice.lognormal(3, 1, 80), "logg": np.where(np.arange(80) < 30, 4.5, 2.0)}
    return Judged(np.full(80, -1), truth, ("Teff", "FeH"), mu_NL=said, about=about, called="GALAH")


def answers(rows: int = 80) -> pa.Table:
    return pa.table(
        {
            "visit": [f"v{number}" for number in range(rows)],
            "obsid": [*range(rows - 1), None],
            "path": ["/far/off/x.fits"] * rows,
        }
    )


def number(text: str, word: str) -> float:
    """The number behind the first line that begins so."""
    return float(next(line for line in text.splitlines() if line.strip().startswith(word)).split()[-1])


def test_the_numbers_are_those_of_other_libraries(judged: Judged) -> None:
    text = report(judged, answers())
    truth, said = judged.label_NL[:, 0], judged.mu_NL[:, 0]  # type: ignore[index]
    off = said - truth
    assert number(text, "MAE") == pytest.approx(sk.mean_absolute_error(truth, said), abs=0.01)
    assert number(text, "RMSE") == pytest.approx(np.sqrt(sk.mean_squared_error(truth, said)), abs=0.01)
    assert number(text, "mean (bias)") == pytest.approx(off.mean(), abs=0.01)
    assert number(text, "standard deviation") == pytest.approx(off.std(), abs=0.01)
    assert number(text, "R²") == pytest.approx(sk.r2_score(truth, said), abs=1e-4)
    assert number(text, "Pearson") == pytest.approx(stats.pearsonr(truth, said).statistic, abs=1e-4)
    assert number(text, "skewness") == pytest.approx(stats.skew(off), abs=1e-3)
    assert number(text, "excess kurtosis") == pytest.approx(stats.kurtosis(off), abs=1e-3)
    assert number(text, "% beyond 3") == pytest.approx(100 * (np.abs(stats.zscore(off)) > 3).mean(), abs=0.01)
    assert "FeH (dex): iron relative to hydrogen, [Fe/H], 75 spectra" in text


def test_the_worst_spectra_are_named_the_farthest_first(judged: Judged) -> None:
    text = report(judged, answers())
    worst = text.partition("20 spectra farthest off in Teff")[2].split("\n\n")[0].splitlines()[2:]
    off = np.abs(judged.mu_NL[:, 0] - judged.label_NL[:, 0])  # type: ignore[index]
    assert [line.split()[0] for line in worst] == [f"v{place}" for place in np.argsort(-off)[:20]]
    assert worst[0].split()[0] == "v17"
    assert "x.fits" in worst[0]
    assert "/far" not in text
    unknown = text.partition("farthest off in FeH")[2]
    assert not any(f"v{place} " in unknown for place in range(5))
    assert "residuals (predicted - GALAH) of 80 spectra" in text


@pytest.mark.parametrize("rows", [1, 2, 4])
def test_few_spectra_are_no_trouble(judged: Judged, rows: int) -> None:
    some = judged.of(np.arange(80) >= 80 - rows)
    text = report(some, answers().slice(80 - rows))
    assert f"the {rows} spectra farthest off in FeH" in text
    assert "nan" not in text


def test_perfect_and_classes_alone_are_no_trouble() -> None:
    truth = np.linspace(-2, 0, 10)[:, None]
    assert number(report(Judged(np.full(10, -1), truth, ("FeH",), mu_NL=truth), answers(10)), "R²") == 1
    assert report(Judged(np.zeros(3), np.zeros((3, 0)), p_NC=np.eye(3)), answers(3)).startswith("residuals")


def test_dwarfs_and_giants_are_told_beside_all_stars(judged: Judged) -> None:
    lines = by_gravity(evaluated(judged)).splitlines()
    assert [line.split()[:2] for line in lines[1:4]] == [["Teff", "all"], ["dwarfs", "30"], ["giants", "50"]]
    giants = judged.about["logg"] < 4
    mae = np.abs(judged.mu_NL[giants, 1] - judged.label_NL[giants, 1])  # type: ignore[index]
    assert f"{np.nanmean(mae):.3f} [" in lines[6]
    assert (
        by_gravity(evaluated(Judged(judged.class_N, judged.label_NL, judged.labels, mu_NL=judged.mu_NL)))
        == ""
    )
