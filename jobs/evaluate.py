"""How right a run is: metrics with 95 % intervals as a table and as Parquet, predictions, plots.

    python jobs/evaluate.py of=RUN
    python jobs/evaluate.py of=RUN split=validation
    python jobs/evaluate.py of=RUN store=OTHER_STORE labels=OTHER_TABLE

Seconds for some thousand spectra. The test part is read once: run it again and it shows what is there; each reading is noted in the run.
"""

from survey.inference.evaluate import Evaluate, evaluate
from survey.reports import outcome
from survey.settings import errors_told, start

if __name__ == "__main__":
    settings = start(Evaluate, "evaluate", __doc__)
    with errors_told():
        found = evaluate(settings)
        pictures = outcome.pictures(found)
    print(outcome.summary(found, pictures))
