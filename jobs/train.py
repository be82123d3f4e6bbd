"""Train a model on a store and labels. The result is a run: the best weights, their history and curves.

    survey train cemp store=STORE labels=TABLE run=RUN
    ray job submit --working-dir . -- python jobs/train.py recipes/cemp.yaml \\
        store=s3://BUCKET/store labels=TABLE run=s3://BUCKET/run workers=4

Minutes on a laptop, for the default network and some thousand spectra. Run it again to continue where it
stopped. Next: survey evaluate of=RUN.
"""

from survey.command import report_errors, start
from survey.training.settings import Train

if __name__ == "__main__":
    settings = start(Train, "train", __doc__, "survey.training.train.describe")
    with report_errors():
        from survey.cluster.work import fit
        from survey.reports import train

        was_trained = fit(settings)
        pictures = train.pictures(settings)
        print(train.summary(settings, was_trained, pictures))
