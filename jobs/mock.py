"""Make a mock survey: files in the survey's own formats, some defective, with a table of the true labels.

    survey mock out=mock n=2000                     2,000 LAMOST low-resolution files, 2 s
    survey mock out=s3://bucket/mock n=100000       about a minute on two CPUs, 6 GB
    survey mock mstars out=mock n=400               M dwarfs of SDSS: a spectrum and an image each
    survey mock galaxies out=mock n=500             galaxies as two imaging surveys see them

Result: <out>/<night>/<plan>/*.fits.gz, labels.parquet (the true labels), catalog.csv.gz (as the survey would
publish it), mock.json (counts). M dwarfs also have images/*.jpg and objects.csv. Galaxies have decals/*.fits,
bass/*.fits, tables of both (decals.csv, bass.csv, objects.csv) and votes.parquet, the votes of volunteers.
Images need GalSim: pip install -e '.[images]' in the checkout. Run a job again to continue where it stopped.
"""

from survey.command import report_errors, start
from survey.mock.settings import Mock

if __name__ == "__main__":
    settings = start(Mock, "mock", __doc__)
    with report_errors():
        from survey.cluster.work import make_map
        from survey.mock.mock import make
        from survey.reports.mock import summary

        result = make(settings, make_map(settings.workers))
        print(summary(settings.out, result))
