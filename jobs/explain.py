"""Show which wavelengths a run or an ensemble uses, for each label and class.

    survey explain of=RUN_OR_ENSEMBLE explain=FOLDER
    survey explain of=RUN_OR_ENSEMBLE explain=FOLDER store=STORE spectra=[OBSID,VISIT]

Blocks of wavelength are taken away, one after the other, and it is measured how much each label and class
changes. The text names the lines and bands that matter, says from which element a label follows, and tests
whether the important blocks matter more than random ones. Minutes: 256 spectra and 60 blocks are 50,000
predictions. No network is trained. A finished folder of the same settings is left as it is.
"""

from survey.command import report_errors, start
from survey.explain.settings import ExplainSettings

if __name__ == "__main__":
    settings = start(ExplainSettings, "explain", __doc__)
    with report_errors():
        from survey.explain.explain import explain
        from survey.reports import explain as report

        result = explain(settings)
        pictures = report.pictures(result)
    print(report.summary(result, pictures))
