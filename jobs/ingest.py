"""Survey files to a store: spectra in the rest frame, on one grid, normalised; refused files with their reasons.

    python jobs/ingest.py recipes/cemp.yaml input=FOLDER_OR_CATALOGUE store=STORE
    ray job submit --working-dir . -- python jobs/ingest.py recipes/cemp.yaml input=s3://BUCKET/lrs store=s3://BUCKET/store

About 1,500 to 2,500 files per second and core, 15 kB per spectrum. Run it again to complete, or to add what is new in the input.
"""

from survey.cluster import stream
from survey.reports import ingest as summary
from survey.reports.preview import preview
from survey.settings import errors_told, start
from survey.store.ingest import Ingest, ingest

if __name__ == "__main__":
    settings = start(Ingest, "ingest", __doc__)
    with errors_told():
        report = ingest(settings, stream.runner(settings.workers))
        pictures = preview(settings)
    print(summary.ingest(report, pictures))
