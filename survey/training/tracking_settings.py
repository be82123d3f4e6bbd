"""Settings of the tracking of a training."""

import importlib.util
from typing import Literal

from pydantic import Field, field_validator

from survey.messages import without_secrets
from survey.settings import Settings


class Tracking(Settings):
    """Where the numbers of a run are written, besides its folder."""

    use: Literal["auto", "always", "never"] = Field(
        "auto", description="write to MLflow; auto = if it is installed (pip install mlflow)"
    )
    uri: str | None = Field(
        None,
        description="MLflow server or database, such as http://host:5000; null = mlflow.db beside the run",
    )
    experiment: str = Field("survey", description="MLflow experiment of the run")
    recipe: str = Field(
        "", description="name of the recipe, a tag of the MLflow run; the command line gives it"
    )
    parent: str | None = Field(None, description="MLflow run that is the parent of this one, as in a search")

    @field_validator("uri")
    @classmethod
    def _no_password(cls, value: str | None) -> str | None:
        if value and without_secrets(value) != value:
            raise ValueError(
                "holds a password or a token; give it in MLFLOW_TRACKING_USERNAME and "
                "MLFLOW_TRACKING_PASSWORD, or in MLFLOW_TRACKING_TOKEN, instead"
            )
        return value

    @field_validator("use")
    @classmethod
    def _installed(cls, value: str) -> str:
        if value == "always" and not _has_mlflow():
            raise ValueError("MLflow is not installed; run pip install mlflow, or give tracking.use=auto")
        return value

    @property
    def is_on(self) -> bool:
        """Whether the run is tracked."""
        return self.use != "never" and _has_mlflow()


def _has_mlflow() -> bool:
    return importlib.util.find_spec("mlflow") is not None
