"""Every kind of defect is refused for one of its reasons."""

import numpy as np
import pytest

from survey.mock import damage, mock
from survey.mock.settings import LAYOUTS, Mock
from survey.settings import Settings
from survey.sources import lamost, reading, sdss
from survey.spectrum import REASONS, Refused

SOURCES: dict[str, Settings] = {"lamost": lamost.Options(), "sdss": sdss.Options()}
UNSEEN_BY_READERS = ("nan_flux", "zero_flux", "zero_ivar")
"""Defects that a reader does not see, only the stage that checks the pixels."""


def test_every_defect_states_reasons_of_the_closed_list() -> None:
    for name, defect in damage.DEFECTS.items():
        assert defect.reasons
        assert set(defect.reasons.split("|")) <= set(REASONS), name


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_defect_in_every_layout_is_refused_for_a_stated_reason(layout: str) -> None:
    settings = Mock.from_dict("mock", {"out": "nowhere", "n": 100, "broken": 0.0, "layouts": {layout: 1.0}})
    table, _ = mock.compute(settings, 0)
    spectra = mock.exposures(settings, table, 0)
    for row, (name, defect) in enumerate(damage.DEFECTS.items()):
        table["defect"] = np.full(len(table["gz"]), name)
        table["gz"][row] = defect.packed or row % 2 == 0
        values = mock.card_values(table, row)
        data = mock.defective_bytes(settings, values, mock.pixels_of_parts(values, spectra, row))
        if defect.stage == "folder":
            assert data is None
            continue
        assert data is not None
        if name in UNSEEN_BY_READERS:
            (found,) = reading.spectra(data, values["path"], SOURCES)
            assert not ((found.flux != 0) & np.isfinite(found.flux) & (found.ivar > 0)).any()
            continue
        with pytest.raises(Refused) as refusal:
            reading.spectra(data, values["path"], SOURCES)
        assert refusal.value.reason in defect.reasons.split("|"), (name, refusal.value.detail)


def test_the_gzip_bomb_is_a_small_file() -> None:
    assert len(damage.bomb()) <= 100_000


def test_a_bucket_has_no_folders() -> None:
    assert "folder" in damage.names(local=True)
    assert "folder" not in damage.names(local=False)
