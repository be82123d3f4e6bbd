"""Everything that is drawn of answers beside the truth, as PNG by name."""

from survey.inference.evaluation import Judged
from survey.labels import Criterion
from survey.reports import class_plots, label_plots


def pictures(judged: Judged, criterion: Criterion = "carbon_0.7") -> dict[str, bytes]:
    """All pictures that these answers allow: of classes, of each label (`label_FeH`), and of labels together.

    The criterion says which [C/Fe] is carbon-enhanced where classes are told by predicted labels.
    """
    made = {
        "confusion": class_plots.confusions(judged, criterion),
        "curves": class_plots.curves(judged),
        "reliability": class_plots.calibration(judged),
    }
    made |= {f"label_{name}": label_plots.of_label(judged, name) for name in judged.labels}
    made |= {"coverage": label_plots.coverage(judged), "snr": label_plots.by_snr(judged), "kiel": label_plots.kiel(judged)}
    made["carbon"] = label_plots.carbon(judged)
    return {name: data for name, data in made.items() if data is not None}
