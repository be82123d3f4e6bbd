"""Make a mock survey: files in the survey's own formats, some of them defective, with a table of the truth.

    python jobs/mock.py out=mock n=2000                     2,000 LAMOST low-resolution files, 2 s
    python jobs/mock.py out=s3://bucket/mock n=100000       about a minute on two CPUs, 6 GB

Comes out: <out>/<night>/<plan>/*.fits.gz, labels.parquet (the truth), catalog.csv.gz (what the survey would publish), mock.json (counts).
"""

from survey.cluster import stream
from survey.mock import Mock, make
from survey.reports import ingest
from survey.settings import errors_told, start

if __name__ == "__main__":
    settings = start(Mock, "mock", __doc__)
    with errors_told():
        made = make(settings, stream.runner(settings.workers))
    print(ingest.mock(settings.out, made))
