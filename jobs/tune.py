"""A store and labels to a study: trainings with all kinds of settings, the best two of them for each element, ready for jobs/train.py.

    python jobs/tune.py recipes/abundances.yaml store=STORE labels=TABLE study=STUDY elements=[C_FE,MG_FE,CA_FE] trials=50
    python jobs/tune.py study=STUDY show=true                                            from another shell: how far it is
    ray job submit --working-dir . -- python jobs/tune.py recipes/abundances.yaml store=s3://BUCKET/store study=/shared/study ...

As many trainings at a time as there are CPUs, each as long as one of jobs/train.py; those that do badly are stopped early. Run it again to go on
where it stopped, with a larger trials= to go on from there, on another machine with a copy of the study. optuna-dashboard STUDY/study.log opens it.
Then: jobs/train.py recipes/abundances.yaml with=tune/abundances-C_FE.yaml run=RUN.
"""

from survey.cluster import search
from survey.reports import tune as study
from survey.search.settings import Tune
from survey.search.tune import tune
from survey.settings import errors_told, start

if __name__ == "__main__":
    settings = start(Tune, "tune", __doc__)
    with errors_told():
        outcome = tune(settings, search.place(settings))
        pictures = study.pictures(outcome)
    print(study.summary(outcome, pictures))
