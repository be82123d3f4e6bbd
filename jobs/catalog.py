"""Predictions to a catalog: a row per star (HATS), ranked MP and CEMP candidates (Parquet, VOTable, FITS, CSV), how pure and complete they are.

    python jobs/catalog.py recipes/cemp.yaml predictions=PREDICTIONS catalog=CATALOG
    python jobs/catalog.py recipes/cemp.yaml predictions=PREDICTIONS catalog=CATALOG cemp.goal=completeness cemp.level=0.95 known=[LIST.csv]
    ray job submit --working-dir . -- python jobs/catalog.py predictions=s3://BUCKET/said catalog=s3://BUCKET/catalog

One process: some 50,000 spectra a second, a few GB of memory for eleven million, and as much local disk as the predictions take meanwhile.
A catalog that is there, of these predictions and settings, is left alone; when the predictions have grown it is made anew.
"""

from survey.catalog.catalog import Catalog, catalog
from survey.reports import catalog as candidates
from survey.settings import errors_told, start

if __name__ == "__main__":
    settings = start(Catalog, "catalog", __doc__)
    with errors_told():
        outcome = catalog(settings)
        pictures = candidates.pictures(outcome)
    print(candidates.summary(outcome, pictures))
