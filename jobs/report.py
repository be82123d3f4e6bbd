"""One HTML page to look at what a job made, or to vet a list of candidates star by star.

    survey report of=RUN                               or of any other finished folder but that of mock
    survey report of=CATALOG page=catalog.html
    survey report of=CATALOG list=cemp page=vetting.html
    survey report merge=[ann.csv,bob.csv] table=verdicts.csv

The page needs nothing else: it opens from the disk with the network off, and may be mailed. It takes seconds;
a vetting page takes about 3 ms per spectrum and 4 MB per thousand candidates. Verdicts are given by mouse or
keyboard, kept in the browser, and saved as a file; merge= joins the files of several people, with agreement.
"""

from survey.command import report_errors, start
from survey.pages.settings import ReportSettings

if __name__ == "__main__":
    settings = start(ReportSettings, "report", __doc__)
    with report_errors():
        if settings.merge:
            from survey.pages.verdicts import merge_summary, merge_verdicts

            print(merge_summary(merge_verdicts(settings)))
        else:
            from survey.pages.report import make_page, summary

            print(summary(make_page(settings)))
