"""Fetch files of an archive politely: spectra, catalogues, cut-outs, as a folder that ingest reads.

    export LAMOST_TOKEN=...          # from the page of your account; never on the command line
    survey download archive=lamost catalogues=[dr10_v2.0_LRS_stellar.csv.gz] out=catalogues
    survey download archive=lamost input=CATALOGUE cuts='{snrg: [20, null], teff: [4000, 7000]}' out=files
    survey download archive=sdss ids=[266-51602-1] out=sdss
    survey download archive=legacy input=GALAXIES options='{layer: ls-dr10, size: 128}' out=cutouts

As fast as rate= and connections= allow: 14,000 files per hour at the default of 4 requests per second, 100 kB
each for LAMOST. Files that do not arrive are listed with reasons. Run it again to continue where it stopped.
"""

from survey.archives.settings import Download
from survey.command import report_errors, start

if __name__ == "__main__":
    settings = start(Download, "download", __doc__, "survey.archives.forecast.describe")
    with report_errors():
        from survey.archives.download import download
        from survey.reports.download import summary

        result = download(settings)
    print(summary(result))
