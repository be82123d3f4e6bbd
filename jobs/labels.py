"""Make a label table for a training from catalogues of labels, matched to the stars of a survey.

    survey labels cemp folder=ARCHIVES to=CATALOGUE_OR_STORE labels=FOLDER
    survey labels cemp folder=ARCHIVES to=STORE labels=FOLDER missing=skip scale.apply=true
    survey train cemp store=STORE labels=FOLDER/labels.parquet run=RUN

Result: labels.parquet (what `train labels=` and `ingest input=` read), matches.parquet (each row of each
catalogue with its star, or why it is not used), contradictions, scales, pictures, report.txt. A million rows
of a survey and 200,000 of labels take 10 to 20 s. docs/training-sets.md says what each catalogue must hold.
A finished folder of the same files and settings is left as it is.
"""

from survey.command import report_errors, start
from survey.label_tables.settings import LabelTables

if __name__ == "__main__":
    settings = start(LabelTables, "labels", __doc__)
    with report_errors():
        from survey.label_tables.label_tables import make_labels
        from survey.reports import labels as report

        result = make_labels(settings)
        pictures = report.pictures(result)
    print(report.summary(result, pictures))
