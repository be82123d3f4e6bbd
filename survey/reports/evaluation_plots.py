"""All plots of labelled answers, as PNG by name."""

from collections.abc import Sequence

from survey.labels import Criterion
from survey.metrics.score import LabelledAnswers
from survey.reports import class_plots, kiel_plots, label_plots
from survey.reports.isochrones import Isochrone


def pictures(
    labelled: LabelledAnswers, criterion: Criterion = "carbon_0.7", isochrones: Sequence[Isochrone] = ()
) -> dict[str, bytes]:
    """All plots that these answers allow.

    They are of classes, of each label (`label_FeH`), of each abundance in the Kiel diagram (`kiel_CFe`),
    and of all labels together. The criterion is that of carbon-enhanced stars, for classes by predicted
    labels.
    """
    drawn = {
        "confusion": class_plots.confusion_matrices(labelled, criterion),
        "curves": class_plots.threshold_curves(labelled),
        "reliability": class_plots.calibration(labelled),
    }
    drawn |= {f"label_{name}": label_plots.label_residuals(labelled, name) for name in labelled.labels}
    drawn |= {
        "coverage": label_plots.coverage(labelled),
        "snr": label_plots.residuals_by_snr(labelled),
        "kiel": kiel_plots.kiel(labelled, isochrones),
    }
    for name in kiel_plots.abundance_labels(labelled):
        drawn[f"kiel_{name}"] = kiel_plots.abundance(labelled, name, isochrones)
    drawn["carbon"] = kiel_plots.carbon(labelled, isochrones)
    return {name: png for name, png in drawn.items() if png is not None}
