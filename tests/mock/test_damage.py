import numpy as np
import pytest

from survey.mock import damage, layouts, mock, truth_table
from survey.sources import lamost, reading, sdss
from survey.spectrum import REASONS, Refused

SOURCES = {"lamost": lamost.Options(), "sdss": sdss.Options()}
LATER = ("nan_flux", "zero_flux", "zero_ivar")
"""What a reader cannot know, only the stage that looks at the pixels."""


def test_every_defect_states_reasons_of_the_closed_list() -> None:
    for name, defect in damage.DEFECTS.items():
        assert defect.reasons
        assert set(defect.reasons.split("|")) <= set(REASONS), name


@pytest.mark.parametrize("layout", layouts.NAMES)
def test_every_defect_in_every_layout_is_refused_for_a_stated_reason(layout: str) -> None:
    settings = mock.Mock.checked(
        "mock", {"out": "nowhere", "n": 100, "broken": 0.0, "layouts": {layout: 1.0}}
    )
    table = mock.facts(settings, 0)
    spectra = mock._exposures(settings, table, 0)
    for band in "ugriz":
        table[f"snr_{band}"] = table["snr"]
    for row, (name, defect) in enumerate(damage.DEFECTS.items()):
        known = {key: column[row].item() for key, column in table.items()} | {
            "defect": name,
            "gz": defect.packed or row % 2 == 0,
        }
        known |= layouts.night(known["lmjd"]) | truth_table.card_values(known)
        known["step"] = damage.STEPS.get(name, "0.0001") if layout == "lrs_image_subcont" else "0.0001"
        data = mock._defective(settings, known, mock._parts(known, spectra, row))
        if defect.stage == "folder":
            assert data is None
            continue
        assert data is not None
        if name in LATER:
            (found,) = reading.spectra(data, known["path"], SOURCES)
            assert not ((found.flux != 0) & np.isfinite(found.flux) & (found.ivar > 0)).any()
            continue
        with pytest.raises(Refused) as refusal:
            reading.spectra(data, known["path"], SOURCES)
        assert refusal.value.reason in defect.reasons.split("|"), (name, refusal.value.detail)


def test_the_gzip_bomb_is_small_on_disk() -> None:
    assert len(damage.bomb()) <= 100_000


def test_a_bucket_has_no_folders() -> None:
    assert "folder" in damage.names(local=True)
    assert "folder" not in damage.names(local=False)
