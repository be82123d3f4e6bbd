"""Settings of a prediction.

This file imports nothing heavy, so that the job reports a wrong setting at once.
"""

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from survey.recipes import merge
from survey.settings import Settings, Threads, check_section
from survey.store.settings import Ingest, source_options_help

Precision = Literal["float32", "bf16", "fp16"]
"""The precision of the networks' arithmetic."""


class Predict(Settings):
    """Settings of a prediction."""

    EXTRA_SECTIONS: ClassVar[tuple[str, ...]] = ("ingest",)
    NOT_IN_RESULT: ClassVar[frozenset[str]] = frozenset(
        {
            "ensemble",
            "store",
            "input",
            "ingest",
            "predictions",
            "prepared",
            "calibrate",
            "cascade",
            "workers",
            "threads",
            "gpu",
            "arrays",
            "refuse_above",
            "verify",
        }
    )

    OUTPUT: ClassVar[str] = "predictions"
    COMMON: ClassVar[tuple[str, ...]] = (
        "ensemble",
        "store",
        "input",
        "workers",
        "threads",
        "gpu",
        "cascade",
        "batch",
        "precision",
        "embeddings",
        "members",
        "refuse_above",
    )

    ensemble: str = Field(
        "",
        description="the folder of the ensemble, or of a run; empty = the ensemble for LAMOST that comes "
        "with the program (weights/README.md says what it was tested for)",
    )
    store: str | None = Field(None, description="the store whose spectra are predicted")
    input: str | None = Field(
        None,
        description="instead of a store, survey files: a folder, an s3:// prefix, a catalogue or a table, "
        "as survey ingest takes it",
    )
    ingest: dict[str, Any] = Field(
        {},
        description="with input: how the files are read, as settings of survey ingest; "
        "read from the recipe's section ingest too",
    )
    predictions: str = Field(description="folder or s3:// prefix of the predictions to make or to extend")
    prepared: Literal["same", "any"] = Field(
        "same",
        description="same = refuse spectra that were prepared differently from the training spectra; "
        "any = take them",
    )
    calibrate: bool = Field(
        True,
        description="calibrate a run that is given as ensemble=, on its own validation part; "
        "false = it predicts alone, for example where its store is lost",
    )
    cascade: bool = Field(
        False,
        description="all spectra by the fastest member, and by all members only those that it cannot rule "
        "out as far from the lists of metal-poor stars; column ruled_out (docs/folders.md)",
    )
    precision: Literal["float32", "bf16", "fp16", "auto"] = Field(
        "auto",
        description="precision of the networks; auto = 16 bits on a GPU if the answers agree "
        "with those of float32 within the tolerance, else float32",
    )
    batch: int | None = Field(
        None,
        ge=1,
        le=65_536,
        description="spectra in a batch; null = the fastest size, measured on the first shard",
    )
    compile: Literal["auto", "always", "never"] = Field(
        "auto",
        description="compile the networks; auto = on a GPU, for many spectra, if they are faster then",
    )
    workers: int | None = Field(
        None,
        ge=1,
        description="number of processes that predict; null = one per GPU, else one per CPU "
        "(few shards: without Ray); 1 = without Ray",
    )
    threads: Threads = Field(
        "auto", description="threads of a worker; auto = at most its share of the CPUs, the fastest number"
    )
    gpu: Literal["auto", "never"] = Field(
        "auto", description="auto = use the GPUs of the machine, one for each worker"
    )
    seed: int = Field(0, ge=0, description="seed of the dropout passes")
    embeddings: bool = Field(
        False,
        description="also write the last features of the networks, as the column latent; not with cascade=",
    )
    members: bool = Field(
        False, description="also write the answers of each member, as columns m0_..., m1_..."
    )
    arrays: bool = Field(False, description="also write probabilities and labels as .npy files into arrays/")
    verify: bool = Field(
        True,
        description="compare the checksums of finished shards before the work, about 1 s per GB; "
        "false = only their sizes",
    )
    refuse_above: float | None = Field(
        None,
        ge=0,
        le=1,
        description="the job fails, after all is written, if a larger share of the files was refused; "
        "null = as ingest.refuse_above",
    )

    @classmethod
    def extra_help(cls, given: dict[str, Any]) -> str:
        """The options of the sources that are given for survey files, else of the default ones."""
        return source_options_help(given.get("ingest") or {}, "ingest.")

    @model_validator(mode="before")
    @classmethod
    def _check_place(cls, values: Any) -> Any:
        """A setting of the ingest is given as `ingest.NAME`."""
        check_section(cls, values, "ingest", Ingest)
        return values

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.store is None) == (self.input is None):
            found = "neither is given" if self.store is None else "both are given"
            raise ValueError(
                f"store, input: {found}; give store= with the folder of a store, or input= with survey files"
            )
        if self.cascade and self.embeddings:
            raise ValueError(
                "cascade, embeddings: both are given, but most spectra have the features of one member only; "
                "leave out cascade= for the column latent of all spectra, or embeddings="
            )
        self.ingest_settings({})
        return self

    def ingest_settings(self, prepare: dict[str, Any], where: str = "") -> Ingest:
        """How survey files are read; `prepare` holds the values that `ingest.prepare` does not give."""
        values = {name: value for name, value in self.ingest.items() if name not in ("input", "store")}
        given = values.get("prepare", {})
        values["prepare"] = merge(prepare, given) if isinstance(given, dict) else given
        values |= {"input": self.input or "", "store": self.predictions}
        return Ingest.from_dict(where, values, "ingest.")

    @property
    def largest_refused_share(self) -> float:
        """The share of refused files above which the job fails."""
        if self.refuse_above is not None:
            return self.refuse_above
        return self.ingest_settings({}).refuse_above
