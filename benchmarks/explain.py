"""What the shipped ensemble uses of computed and of real stars, and whether that is more than chance.

    python -m benchmarks.explain [of=weights/cemp] [work=benchmarks/work/anomalies] [count=200]

Three sets: computed stars of class CEMP, other computed stars, and real stars of types F, G and K. For each
label and class the table shows the most important blocks, the element whose lines change it most, and the
test of strength: the change without the most important tenth of 60 blocks, over that without as many random
ones. Some of the stars were in the training of the ensemble. Needs ../shared/data.
"""

import sys
import time
from pathlib import Path

from benchmarks.anomalies import ROOT, Stores, show
from survey.explain.explain import explain
from survey.explain.explanation import TargetRecord
from survey.explain.settings import ExplainSettings

SETS = ("CEMP, computed", "computed", "real")


def amount(value: float, target: TargetRecord) -> str:
    """A change with its unit."""
    return f"{value:.0f} K" if target.unit == "K" else f"{value:.2f}"


def main(of: str = "weights/cemp", work: str = "", count: str = "200") -> None:
    """Explain each set, and print the table."""
    folder = Path(work or ROOT / "benchmarks" / "work" / "anomalies")
    folder.mkdir(parents=True, exist_ok=True)
    stores = Stores.make(folder)
    show("set", "target", "most important blocks", "without an element", "its own element", "strength")
    show(*["---"] * 6)
    for name in SETS:
        store = stores.by_set[name].path
        values = {
            "of": of,
            "store": store,
            "explain": f"{store}-explained",
            "count": int(count),
            "threads": 1,
        }
        started = time.perf_counter()
        document = explain(ExplainSettings.from_dict("explain", values)).document
        seconds = time.perf_counter() - started
        for target, strength in zip(document.targets, document.strength, strict=True):
            own = (
                ""
                if target.own_change is None
                else f"{amount(target.own_change, target)} {target.own_element}"
            )
            show(
                f"{name} ({document.spectra})",
                target.column,
                ", ".join(target.features[:3]),
                f"{amount(target.change, target)} {target.element}",
                own,
                f"{strength.ratio:.1f} [{strength.low:.1f}, {strength.high:.1f}]",
            )
        sys.stderr.write(f"{name}: {seconds:.0f} s\n")


if __name__ == "__main__":
    main(**dict(argument.split("=", 1) for argument in sys.argv[1:]))
