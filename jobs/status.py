"""Look at the folder of a job: what is done and missing, who works in it, the rate, and how to continue.

    survey status STORE
    survey status s3://BUCKET/predictions watch=60       again every minute, until the work ends
    survey status RUN json=true                          for other programs

PATH is what any job makes, a folder or a prefix in a bucket: while it runs, after it was stopped, or when it
is finished; from any machine that sees it. Nothing is written. The 5,600 shards of a full survey take a
second or two.
"""

from survey.command import report_errors, start
from survey.status.settings import Status

if __name__ == "__main__":
    settings = start(Status, "status", __doc__)
    with report_errors():
        from survey.reports.status import show

        show(settings)
