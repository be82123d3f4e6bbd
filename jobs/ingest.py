"""Make a store of survey files: spectra in the rest frame, on one grid, normalised.

    survey ingest cemp input=FOLDER_OR_CATALOGUE store=STORE
    ray job submit --working-dir . -- python jobs/ingest.py recipes/cemp.yaml \\
        input=s3://BUCKET/lrs store=s3://BUCKET/store

About 1,500 to 2,500 files per second and core, 15 kB per spectrum. Refused files are listed with reasons.
Run it again to continue where it stopped, or to add what is new in the input.
"""

from survey.command import report_errors, start
from survey.store.settings import Ingest

if __name__ == "__main__":
    settings = start(Ingest, "ingest", __doc__, "survey.store.ingest.describe")
    with report_errors():
        from survey.cluster.work import make_map
        from survey.reports.ingest import summary
        from survey.reports.preview import preview
        from survey.store.ingest import ingest

        result = ingest(settings, make_map(settings.workers))
        pictures = preview(settings)
        print(summary(result, pictures))
