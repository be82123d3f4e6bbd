"""How right a run is: metrics with 95 % intervals as a table and as Parquet, predictions, plots, a report of residuals.

    python jobs/evaluate.py of=RUN
    python jobs/evaluate.py of=RUN split=validation
    python jobs/evaluate.py of=RUN store=OTHER_STORE labels=OTHER_TABLE called=GALAH
    python jobs/evaluate.py of=RUN against=[OTHER_RUN,ENSEMBLE]
    python jobs/evaluate.py of=PREDICTIONS
    python jobs/evaluate.py of=PREDICTIONS labels=galah.csv called=GALAH isochrones=[MIST.iso] ages=[1,10]

Seconds for some thousand spectra. The test part is read once: run it again and it shows what is there; each reading is noted in the run.
Several are compared by the same spectra, star by star. Predictions without labels are shown shard by shard, also while they come in.
"""

from survey.evaluate.evaluate import Evaluate
from survey.evaluate.review import review
from survey.reports import evaluate
from survey.settings import errors_told, start

if __name__ == "__main__":
    settings = start(Evaluate, "evaluate", __doc__)
    with errors_told():
        curves = evaluate.drawing(settings)
        found = review(settings)
        pictures = evaluate.pictures(found, curves)
    print(evaluate.summary(found, pictures))
