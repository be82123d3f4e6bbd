"""Search for better settings. The result is a study: many trainings, and recipes of the best two.

    survey tune abundances store=STORE labels=TABLE study=STUDY elements=[C_FE,MG_FE]
    survey tune study=STUDY show=true                   from another shell: its progress
    ray job submit --working-dir . -- python jobs/tune.py recipes/abundances.yaml store=s3://BUCKET/store ...

There are as many trainings at a time as CPUs, and each takes as long as survey train; poor ones are
stopped early. The same command continues a search that was stopped; a larger trials= continues one that is
finished; a copy of the study continues on another machine. optuna-dashboard STUDY/study.log shows it in a
browser. Then train with the recipe of an element; its name begins with that in the recipe (here abundances):

    survey train abundances with=STUDY/recipes/abundances-C_FE.yaml store=STORE labels=TABLE run=RUN
"""

from survey.command import report_errors, start
from survey.search.settings import Tune

if __name__ == "__main__":
    settings = start(Tune, "tune", __doc__)
    with report_errors():
        from survey.cluster.work import run_trainings
        from survey.reports import tune as report
        from survey.search.tune import tune

        outcome = tune(settings, run_trainings(settings))
        pictures = report.pictures(outcome)
    print(report.summary(outcome, pictures))
