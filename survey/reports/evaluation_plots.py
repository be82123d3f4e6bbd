"""Everything that is drawn of answers beside the truth, as PNG by name."""

from collections.abc import Sequence

from survey.labels import Criterion
from survey.metrics.score import Judged
from survey.reports import class_plots, kiel_plots, label_plots
from survey.reports.isochrones import Isochrone


def pictures(
    judged: Judged, criterion: Criterion = "carbon_0.7", isochrones: Sequence[Isochrone] = ()
) -> dict[str, bytes]:
    """All pictures that these answers allow: of classes, of each label (`label_FeH`), of each abundance in the Kiel diagram (`kiel_CFe`), and of
    labels together.

    The criterion says which [C/Fe] is carbon-enhanced where classes are told by predicted labels.
    """
    made = {
        "confusion": class_plots.confusions(judged, criterion),
        "curves": class_plots.curves(judged),
        "reliability": class_plots.calibration(judged),
    }
    made |= {f"label_{name}": label_plots.of_label(judged, name) for name in judged.labels}
    made |= {
        "coverage": label_plots.coverage(judged),
        "snr": label_plots.by_snr(judged),
        "kiel": kiel_plots.kiel(judged, isochrones),
    }
    made |= {
        f"kiel_{name}": kiel_plots.abundance(judged, name, isochrones)
        for name in kiel_plots.abundances(judged)
    }
    made["carbon"] = kiel_plots.carbon(judged, isochrones)
    return {name: data for name, data in made.items() if data is not None}
