"""Store + labels to a run: one network trained, its best weights, its history and its curves.

    python jobs/train.py recipes/cemp.yaml store=STORE labels=TABLE run=RUN
    ray job submit --working-dir . -- python jobs/train.py recipes/cemp.yaml store=s3://BUCKET/store labels=TABLE run=s3://BUCKET/run workers=4

Minutes on a laptop for the default network and some thousand spectra. Run it again to go on where it stopped. Then: jobs/evaluate.py of=RUN.
"""

from survey.cluster.train import fit
from survey.reports import train
from survey.settings import errors_told, start
from survey.training.train import Train

if __name__ == "__main__":
    settings = start(Train, "train", __doc__)
    with errors_told():
        made = fit(settings)
        pictures = train.pictures(settings)
    print(train.summary(settings, made, pictures))
