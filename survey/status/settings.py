"""The settings of a look at a folder."""

from typing import ClassVar

from pydantic import Field

from survey.settings import Settings


class Status(Settings):
    """Settings of a look at a folder."""

    ARGUMENT: ClassVar[str] = "path"

    path: str = Field(
        description="folder or s3:// prefix that a job makes or has made: a download, a store, a run, "
        "a study, an ensemble, an evaluation, predictions, a catalog, a latent space, an explanation, "
        "a follow-up, labels or a mock survey"
    )
    watch: float | None = Field(
        None, ge=1, strict=False, description="look again every so many seconds, until the work ends"
    )
    json_lines: bool = Field(False, alias="json", description="print one line of JSON instead of text")
    exact: bool = Field(
        False,
        description="read all markers in a bucket, one request for each shard; else 64 of them stand for "
        "all where reasons are counted",
    )
