"""What is expected of lists where the survey says little of itself."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from survey.catalog import thresholds_of
from survey.catalog.prior import Mix
from survey.predict import output
from tests.catalog import mixed_stars, skies
from tests.catalog.test_catalog import described, made, survey


def mixed(how: str, low: float, high: float) -> Mix:
    """A mix whose CEMP share lies somewhere between these."""
    cemp_R = np.linspace(low, high, 400)
    drawn_RC = np.stack([np.full(400, 0.1), cemp_R, 0.9 - cemp_R], 1)
    return Mix(how, np.full(3, 1 / 3), drawn_RC.mean(0), drawn_RC, 1000)


def test_a_vague_share_counts_with_its_lower_end() -> None:
    cautious, notes = thresholds_of._cautious(mixed("estimated", 0.001, 0.14))
    assert cautious.share_C[1] < 0.006
    assert np.isclose(cautious.share_C.sum(), 1)
    assert "share of CEMP between 0.4" in notes[0]
    assert cautious.drawn_RC[:, 1].max() == 0.14, "what is not known stays in the intervals"


def test_no_class_is_taken_to_be_impossible() -> None:
    assert thresholds_of._cautious(mixed("estimated", 0.0, 0.1))[0].share_C[1] >= thresholds_of.RARE


def test_a_share_that_is_known_or_given_stays() -> None:
    for one in (mixed("estimated", 0.01, 0.03), mixed("given", 0.001, 0.14)):
        assert thresholds_of._cautious(one) == (one, ())


def test_few_spectra_take_the_mix_of_validation(tmp_path: Path) -> None:
    survey(tmp_path)
    table = skies.predictions.open_predictions(str(tmp_path / "said")).table(0).slice(0, 40)
    skies.folder(tmp_path / "few" / "said", table)
    described(tmp_path / "few", ["MP", "CEMP", "NMP"])
    validation = mixed_stars.validation((100, 100, 100))
    names = pa.array([f"v{number}" for number in range(300)])
    pq.write_table(validation.append_column("star", names), tmp_path / "few" / "said" / output.VALIDATION)
    found = made(tmp_path / "few")
    assert found.about["thresholds"]["CEMP"]["mix"]["how"] == "validation"
    assert any("too few spectra" in note for note in found.about["thresholds"]["CEMP"]["notes"])
