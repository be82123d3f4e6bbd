"""Predict every spectrum: class probabilities, labels with calibrated errors, distance from training spectra.

    survey predict cemp input=FOLDER predictions=PREDICTIONS
    survey predict cemp ensemble=ENSEMBLE store=STORE predictions=PREDICTIONS
    ray job submit --working-dir . -- python jobs/predict.py ensemble=s3://BUCKET/ensemble \\
        store=s3://BUCKET/store predictions=s3://BUCKET/predictions

All members in one pass over the data. A fast CPU core does 2,300 spectra of a store per second for the three
networks of the recipe, 20,000 for `prism`; 1,200 and 2,200 from gzipped files. A spectrum takes 0.3 kB. With
`cascade=true` only the fastest member of the ensemble sees all spectra, the others what it cannot rule out.
Without `ensemble` the one that comes with the program answers: for real LAMOST files, not for mock ones.
`ensemble` may be a run, `input` may be a catalogue. Run it again to complete the predictions, or to add what
is new in the store or the input. Then: survey catalog.
"""

from survey.command import report_errors, start
from survey.predict.settings import Predict

if __name__ == "__main__":
    settings = start(Predict, "predict", __doc__)
    with report_errors():
        from survey.cluster.work import shard_workers
        from survey.predict.predict import predict
        from survey.reports.predict import summary

        workers = shard_workers(settings.workers, settings.threads, settings.gpu == "auto")
        result = predict(settings, workers)
    print(summary(result))
