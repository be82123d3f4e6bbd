"""A store and labels to a study: many trainings with different settings, and recipes of the best two.

    python jobs/tune.py recipes/abundances.yaml store=STORE labels=TABLE study=STUDY elements=[C_FE,MG_FE]
    python jobs/tune.py study=STUDY show=true                   from another shell: its progress
    ray job submit --working-dir . -- python jobs/tune.py recipes/abundances.yaml store=s3://BUCKET/store ...

There are as many trainings at a time as CPUs, and each takes as long as one of jobs/train.py; poor ones are
stopped early. The same command continues a search that was stopped; a larger trials= continues one that is
finished; a copy of the study continues on another machine. optuna-dashboard STUDY/study.log shows it in a
browser. Then: jobs/train.py recipes/abundances.yaml with=tune/abundances-C_FE.yaml run=RUN.
"""

from survey.search.settings import Tune
from survey.settings import report_errors, start

if __name__ == "__main__":
    settings = start(Tune, "tune", __doc__)
    with report_errors():
        from survey.cluster.search import run_trainings
        from survey.reports import tune as report
        from survey.search.tune import tune

        outcome = tune(settings, run_trainings(settings))
        pictures = report.pictures(outcome)
    print(report.summary(outcome, pictures))
