"""What an ensemble says of every spectrum: class probabilities, labels with calibrated errors, distance from the training spectra, as Parquet.

    python jobs/predict.py recipes/cemp.yaml ensemble=ENSEMBLE store=STORE predictions=PREDICTIONS
    python jobs/predict.py recipes/cemp.yaml ensemble=ENSEMBLE input=FOLDER_OR_CATALOGUE predictions=PREDICTIONS
    ray job submit --working-dir . -- python jobs/predict.py ensemble=s3://BUCKET/ensemble store=s3://BUCKET/store predictions=s3://BUCKET/said

All members in one pass over the data: on a CPU core 1,000 spectra a second for an ensemble like the recipe's, 5,000 for a small network; 0.3 kB each.
`ensemble` may be a run. Run it again to complete, or to add what is new in the store or the input. Then: jobs/catalog.py.
"""

from survey.cluster import actors
from survey.predict.predict import Predict, predict
from survey.reports import predict as predictions
from survey.settings import errors_told, start

if __name__ == "__main__":
    settings = start(Predict, "predict", __doc__)
    with errors_told():
        report = predict(settings, actors.crew(settings.workers, settings.threads, settings.gpu == "auto"))
    print(predictions.summary(report))
