"""Combine runs into an ensemble: members with weights, calibrated on spectra that no member was trained on.

    survey ensemble cemp ensemble=ENSEMBLE runs=[RUN,RUN,RUN]
    survey ensemble cemp ensemble=ENSEMBLE store=STORE labels=TABLE seeds=5

The second command trains the members first. With finished runs and some thousand spectra it takes seconds.
A stopped job continues when it is run again. Next: survey evaluate of=ENSEMBLE, survey predict.
"""

from survey.command import report_errors, start
from survey.ensemble.settings import Build

if __name__ == "__main__":
    settings = start(Build, "ensemble", __doc__)
    with report_errors():
        from survey.cluster.work import fit
        from survey.ensemble.build import build
        from survey.reports import ensemble

        built = build(settings, fit)
        pictures = ensemble.pictures(built)
        print(ensemble.summary(built, pictures))
