"""The visits that a vetting page shows of a star."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa

from survey.catalog.document import PredictionsRecord
from survey.pages.vetted_spectra import _visits
from tests.catalog import skies


def test_files_of_one_name_in_several_folders_are_visits_of_their_own(tmp_path: Path) -> None:
    """The row with the highest signal to noise is in the list; the last one is the same file once more."""
    paths = [f"{folder}/star001.fits" for folder in ("night1", "night2", "night3", "night2")]
    changes: dict[str, Any] = {
        "path": paths,
        "visit": ["star001"] * 4,
        "snr": np.array([50.0, 20.0, 30.0, 10.0], np.float32),
        "lmjd": [1, 2, 3, 2],
    }
    rows = skies.rows(np.full(4, 10.0), np.zeros(4), ["J1"] * 4)
    for name, values in changes.items():
        field = rows.schema.field(name)
        rows = rows.set_column(rows.schema.get_field_index(name), field, pa.array(values, field.type))
    predictions = skies.write(tmp_path / "predictions", rows, 3)
    source = predictions.document.source
    record = PredictionsRecord(id=predictions.id, rows=4, source=source, path=predictions.path)
    stars: Any = SimpleNamespace(
        folder=str(tmp_path),
        document=SimpleNamespace(predictions=record),
        table=pa.table({"n_visits": [3], "visit": ["star001"], "row": [-1]}),
    )
    visits = _visits(stars, [(0, 0)])
    assert visits == [[((0, 1), "LMJD 2, S/N 20"), ((0, 2), "LMJD 3, S/N 30")]]
