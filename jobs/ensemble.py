"""Runs to an ensemble: members with their weights, calibrated by spectra that none has learned from.

    python jobs/ensemble.py recipes/cemp.yaml ensemble=ENSEMBLE runs=[RUN, RUN, RUN]
    python jobs/ensemble.py recipes/cemp.yaml ensemble=ENSEMBLE store=STORE labels=TABLE seeds=5           trains its members first

Seconds for finished runs and some thousand spectra. Run it again to go on where it stopped. Then: jobs/evaluate.py of=ENSEMBLE, jobs/predict.py.
"""

from survey.cluster.train import fit
from survey.ensemble.build import build
from survey.ensemble.settings import Build
from survey.reports import ensemble
from survey.settings import errors_told, start

if __name__ == "__main__":
    settings = start(Build, "ensemble", __doc__)
    with errors_told():
        built = build(settings, fit)
        pictures = ensemble.pictures(built)
    print(ensemble.summary(built, pictures))
