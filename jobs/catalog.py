"""Make a catalog of predictions: a row per star (HATS), ranked lists of MP and CEMP stars with their purity.

    survey catalog cemp predictions=PREDICTIONS catalog=CATALOG
    survey catalog cemp predictions=PREDICTIONS catalog=CATALOG \\
        cemp.goal=completeness cemp.level=0.95 known=[LIST.csv]
    ray job submit --working-dir . -- python jobs/catalog.py \\
        predictions=s3://BUCKET/predictions catalog=s3://BUCKET/catalog

It runs in one process: 20,000 to 43,000 spectra a second, a few GB of memory for eleven million, and for a
while as much local disk as the predictions take. A finished catalog of the same predictions, tables and
settings is left as it is; if the predictions have grown, or a given table has changed, it is made again.
"""

from survey.catalog.settings import CatalogSettings
from survey.command import report_errors, start

if __name__ == "__main__":
    settings = start(CatalogSettings, "catalog", __doc__)
    with report_errors():
        from survey.catalog.catalog import make_catalog
        from survey.reports import catalog as report

        result = make_catalog(settings)
        pictures = report.pictures(result)
    print(report.summary(result, pictures))
