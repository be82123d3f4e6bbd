"""How often a star that does not belong in a list is put into it, on a test population like a survey.

    python -m benchmarks.falsepositives [ensemble=weights/cemp] [snr=20] [completeness=0.5]

The population is that of the ensemble (`population.spectra`). A threshold is chosen that finds this share of
the stars that belong in the list; then those that do not belong are counted, by class. Flags keep stars out
as in a catalog. Draws of one spectrum are alike: intervals are resampled by spectrum (`base`), and where no
star is wrong, the limit is that of so many independent ones. Blanked: carbon-rich stars without the bands of
CH, CN and C2.
"""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa

from survey import files
from survey.catalog.flags import FlagRules
from survey.catalog.prior import adjust
from survey.catalog.settings import VisitSettings, list_classes
from survey.catalog.validation_stars import ValidationStars, read_validation
from survey.catalog.visits import class_probabilities, float_column
from survey.ensemble.draws import blanked
from survey.ensemble.ensemble import POPULATION
from survey.labels import CLASSES

ROOT = Path(__file__).resolve().parents[1]
SURVEY = {"MP": 0.04, "CEMP": 0.002, "NMP": 0.958}
"""Shares of the classes in a survey."""
TIMES = 1000


def limits(wrong_N: np.ndarray, base_N: np.ndarray, share: float) -> tuple[float, float]:
    """The 95 % interval of a rate, resampled by base; of no event, that of the independent stars."""
    if not wrong_N.any():
        return 0.0, 3.0 / max(len(wrong_N) * share, 1)
    _, code_N = np.unique(base_N, return_inverse=True)
    wrong_B, count_B = np.bincount(code_N, wrong_N), np.bincount(code_N)
    drawn = np.random.default_rng(0).integers(0, len(count_B), (TIMES, len(count_B)))
    rate_R = wrong_B[drawn].sum(1) / count_B[drawn].sum(1)
    low, high = np.quantile(rate_R, [0.025, 0.975])
    return float(low), float(high)


def main(ensemble: str = "", snr: str = "20", completeness: str = "0.5") -> None:
    """Print the table."""
    folder = ensemble or str(ROOT / "weights" / "cemp")
    place: Any = SimpleNamespace(path=folder)
    table = read_validation(place, VisitSettings(), FlagRules())
    assert table is not None, f"{folder}: has no test population"
    table = table.filter(pa.array(float_column(table, "snr") >= float(snr)))
    stars = ValidationStars.from_table(table)
    assert stars.base_N is not None, f"{folder}: has no test population"
    share_C = stars.independent_C
    counted_C = np.bincount(stars.class_N, stars.weight_N, minlength=len(CLASSES))
    assumed_C = counted_C / counted_C.sum()
    p_NC = adjust(stars.p_NC, assumed_C, [SURVEY[name] for name in CLASSES])
    print(f"S/N from {snr} on; draws {len(stars.row_N):,}, of spectra {len(np.unique(stars.base_N)):,}")
    print("| list | completeness | not in the list | wrong | rate | 95 % interval | independent stars |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in ("CEMP", "MP"):
        score_N = np.where(stars.allowed_N, p_NC[:, list_classes(name)].sum(1), -1.0)
        belongs_N = np.isin(stars.class_N, list_classes(name))
        threshold = float(np.quantile(score_N[belongs_N], 1 - float(completeness)))
        found = (score_N[belongs_N] >= threshold).mean()
        for other in [number for number in range(len(CLASSES)) if number not in list_classes(name)]:
            chosen_N = stars.class_N == other
            wrong_N = score_N[chosen_N] >= threshold
            low, high = limits(wrong_N, stars.base_N[chosen_N], float(share_C[other]))
            independent = chosen_N.sum() * share_C[other]
            print(
                f"| {name} | {found:.2f} | {CLASSES[other]} {chosen_N.sum():,} | {wrong_N.sum()} "
                f"| {wrong_N.mean():.1e} | {low:.1e} to {high:.1e} | {independent:,.0f} |"
            )
    drawn = files.read_table(files.join(folder, POPULATION))
    table = blanked(drawn)
    called = class_probabilities(table).argmax(1) == CLASSES.index("CEMP")
    print(f"blanked: {called.sum()} of {len(called):,} carbon-rich stars are still called CEMP")


if __name__ == "__main__":
    main(**dict(item.split("=", 1) for item in sys.argv[1:]))
