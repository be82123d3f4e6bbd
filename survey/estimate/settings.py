"""What an estimate assumes: the number of workers, and prices."""

from pydantic import Field

from survey.settings import Settings

PREFIX = "plan."
"""The beginning of these settings on a command line, beside those of a job."""


class Prices(Settings):
    """Workers and prices, in dollars: those of Amazon in us-east-1 (2026), machines on demand."""

    workers: int | None = Field(
        None, ge=1, description="workers at work at the same time; null = as the job would start here"
    )
    cpu_hour: float = Field(0.045, ge=0, description="dollars of a CPU for an hour")
    get_1000: float = Field(0.0004, ge=0, description="dollars of 1,000 GET requests")
    put_1000: float = Field(0.005, ge=0, description="dollars of 1,000 PUT or LIST requests")
    seconds: float = Field(5.0, gt=0, description="seconds of work that are measured, about")
