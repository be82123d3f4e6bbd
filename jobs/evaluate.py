"""Evaluate a run, an ensemble or predictions: metrics with 95 % intervals, predictions, plots, a list of
residuals.

    survey evaluate of=RUN
    survey evaluate of=RUN split=validation
    survey evaluate of=RUN store=OTHER_STORE labels=OTHER_TABLE labels_name=GALAH
    survey evaluate of=RUN against=[OTHER_RUN,ENSEMBLE]
    survey evaluate of=PREDICTIONS
    survey evaluate of=PREDICTIONS labels=galah.csv labels_name=GALAH isochrones=[MIST.iso]

It takes seconds for some thousand spectra. The test part is read once: a second run shows the first result,
and each reading is noted in the run. With against= all are compared on the same stars. Predictions without
labels are shown shard by shard, also while they are made.
"""

from survey.command import report_errors, start
from survey.evaluate.settings import Evaluate

if __name__ == "__main__":
    settings = start(Evaluate, "evaluate", __doc__)
    with report_errors():
        from survey.evaluate.evaluate import evaluate
        from survey.reports import evaluate as report

        curves = report.read_isochrones(settings)
        evaluation = evaluate(settings)
        pictures = report.pictures(evaluation, curves)
        print(report.summary(evaluation, pictures))
