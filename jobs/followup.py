"""Choose the candidates to observe, and certify the purity of their list from the results.

    survey followup of=CATALOG list=cemp followup=FOLDER site=Xinglong dates=[2027-01-10,2027-01-20] hours=20
    survey followup of=CATALOG followup=FOLDER site=Paranal dates=2027-01-10 hours=8 verdicts=verdicts.csv
    survey followup followup=FOLDER results=results.csv

Stars are ranked by the true members that an hour of observation is expected to give: by probability, exposure
and visibility from the site. A part is drawn at random in strata, with known inclusion probabilities, so that
the results say how pure the list is, without bias. Seconds for a thousand stars; nothing is downloaded. A
finished sample is left as it is; results may be given again when there are more.
"""

from survey.command import report_errors, start
from survey.followup.settings import FollowupSettings

if __name__ == "__main__":
    settings = start(FollowupSettings, "followup", __doc__)
    with report_errors():
        from survey.followup.followup import draw_sample
        from survey.followup.observed import take_results
        from survey.reports import followup as report

        sample = draw_sample(settings)
        results = take_results(settings, sample) if settings.results else None
        pictures = report.pictures(sample, results)
    print(report.summary(sample, results, pictures))
