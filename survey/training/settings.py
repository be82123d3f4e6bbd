"""The settings of a training: which data, which model, how it is trained, and where it runs.

This file imports nothing heavy, so that a job reports a wrong setting at once. What needs data is checked in
`survey.training.train.plan`, before the first step.
"""

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from survey import plugins
from survey.help import rows_text, setting_rows
from survey.labelling.settings import Join, Split
from survey.labels import label
from survey.metrics.settings import epoch_metric_names
from survey.models.settings import Task, TaskKind, View
from survey.settings import Settings, SettingsError, Threads, similar
from survey.training.augment_settings import Augment
from survey.training.learning_settings import Curriculum, Loss, Optimiser, Schedule
from survey.training.residual_settings import Regions, Residuals
from survey.training.source_settings import Align, Source, check_sources
from survey.training.synthesis_settings import Ranges, Synthesis, checked_ranges
from survey.training.tracking_settings import Tracking

Precision = Literal["auto", "float32", "bf16"]
"""The precision of a network's arithmetic. Weights and losses are float32 always."""

SMALLER_IS_BETTER = (
    *("loss", "log_loss", "mae", "rmse", "ece", "brier"),
    *("reconstruction", "chi2", "kl", "contrastive", "invariance", "variance", "covariance"),
)
"""Beginnings of the names of metrics that are better when they are smaller."""

UNUSED = (
    "epochs",
    "batch",
    "accumulate",
    "optimiser",
    "schedule",
    "clip",
    "ema",
    "precision",
    "patience",
    "nan",
    "augment",
    "residuals",
    "regions",
    "align",
    "synthesis",
    "curriculum",
    "initialise",
)
"""Settings that a baseline does not use. A recipe may still have them, for its networks."""


class Train(Settings):
    """Settings of a training."""

    NOT_IN_RESULT: ClassVar[frozenset[str]] = frozenset(
        {"run", "workers", "threads", "gpu", "data", "resident_gb", "tracking", "failures"}
    )

    NEEDED_SECTIONS: ClassVar[tuple[str, ...]] = ("train",)
    OUTPUT: ClassVar[str] = "run"
    COMMON: ClassVar[tuple[str, ...]] = (
        "model",
        "task",
        "targets",
        "epochs",
        "batch",
        "optimiser.lr",
        "monitor",
        "patience",
        "seed",
        "split.parts",
        "start_from",
        "join.columns",
        "workers",
        "threads",
        "gpu",
    )

    store: str = Field(description="folder or s3:// prefix of the store with the spectra")
    labels: str = Field(description="table of labels: CSV, Parquet, FITS or VOTable; none, with task=none")
    run: str = Field(description="folder or s3:// prefix of the run to make or to continue")
    sources: dict[str, Source] = Field(
        {},
        description="further stores with labels that are learned together with the first, by name, such as "
        "sources.real.store=STORE sources.real.labels=TABLE",
    )
    align: Align = Field(Align(), description="make the features of the sources alike")
    join: Join = Field(Join(), description="how labels are joined to spectra")
    model: str = Field("echelle", description="model: the name of a file in survey/models/")
    options: dict[str, Any] = Field(
        {}, description="settings of the model; survey train model=NAME --help all lists them"
    )
    task: TaskKind = Field(
        "cls_reg",
        description="cls = classes, reg = labels, cls_reg = both; none = only what a model learns by itself, "
        "such as vae",
    )
    targets: tuple[str, ...] = Field(
        ("Teff", "logg", "FeH", "CH", "CFe"),
        strict=False,
        description="labels to learn: rows of survey/labels.py",
    )
    split: Split = Field(Split(), description="which stars train, validate and test")
    view: View = Field(View(), description="which part of a spectrum the model sees")
    scale: Literal["standard", "minmax", "robust", "none"] = Field(
        "standard", description="how labels are scaled; fitted on the training part"
    )
    label_ranges: Ranges = Field(
        {},
        description="labels beyond these ranges are learned as their ends, such as {Teff: [3000, 10000]}: a "
        "few far beyond would widen the scale of all",
    )
    loss: Loss = Field(Loss(), description="the loss that is minimised")
    synthesis: Synthesis = Field(
        Synthesis(),
        description="training stars with changed labels, and spectra changed to match them",
    )
    curriculum: Curriculum = Field(
        Curriculum(), description="use a growing share of the training part, epoch by epoch"
    )
    learn_from: Literal["train", "train+validation"] = Field(
        "train",
        description="train+validation = train on both parts, once all choices are made; "
        "nothing is validated then, and keep=last is needed",
    )
    balance: Literal["none", "balanced", "sqrt_balanced"] = Field(
        "none", description="draw rare classes more often: balanced = equally often; sqrt_balanced = half-way"
    )
    initialise: Literal["rescaled", "plain"] = Field(
        "rescaled",
        description="rescaled = fit means and components to training spectra, scale layers by some of "
        "them; plain = nothing is fitted: layers are as torch sets them",
    )
    start_from: str | None = Field(
        None, description="finished run to fine-tune: its model, weights and scaling are taken"
    )
    freeze: tuple[str, ...] = Field(
        (), strict=False, description="what is not trained: body, heads, or beginnings of parameter names"
    )
    epochs: int = Field(60, ge=1, description="maximum number of passes through the training set")
    batch: int = Field(64, ge=1, description="spectra of one step, over all workers")
    accumulate: int = Field(
        1, ge=1, description="number of pieces of a step, for batches that do not fit into memory"
    )
    optimiser: Optimiser = Field(Optimiser(), description="how gradients change the weights")
    schedule: Schedule = Field(Schedule(), description="how the learning rate changes")
    clip: float = Field(
        1.0, ge=0, description="maximum norm of the gradient; a longer one is shortened to it; 0 = no limit"
    )
    ema: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="decay per step of a running mean of the weights, which is then kept; 0 = no mean",
    )
    precision: Precision = Field(
        "auto", description="precision of the network's arithmetic; auto = bf16 on GPUs that have it"
    )
    keep: Literal["best", "last"] = Field("best", description="epoch whose weights the run keeps")
    monitor: str = Field(
        "loss",
        description="validation metric that decides which epoch is best, such as loss, f1_CEMP or mae_FeH",
    )
    patience: int = Field(
        0, ge=0, description="stop after this many epochs without a better one; 0 = never stop early"
    )
    nan: Literal["stop", "skip"] = Field(
        "stop",
        description="a step without finite gradients ends the training, or is skipped and counted",
    )
    seed: int = Field(2024, ge=0, description="seed of all random numbers")
    augment: Augment = Field(Augment(), description="how spectra are changed in training")
    residuals: Residuals = Field(
        Residuals(), description="residuals of spectra of other sources, added to those of the main one"
    )
    regions: Regions = Field(Regions(), description="ranges of wavelength that become bad at random")
    data: Literal["auto", "resident", "streaming"] = Field(
        "auto",
        description="resident = load the spectra once; streaming = read them in each epoch; auto = by size",
    )
    resident_gb: float | None = Field(
        None, gt=0, description="maximum memory for loaded spectra, in GB; null = half of the free memory"
    )
    window: int = Field(
        8192,
        ge=1,
        description="number of spectra that are shuffled together; of several sources, some of each",
    )
    workers: int = Field(
        1, ge=1, description="processes that share each batch; more than one run under Ray Train"
    )
    threads: Threads = Field(
        "auto",
        description="threads of a worker; auto = the fastest number, measured in the first steps "
        "(give a number for results that repeat to the last bit)",
    )
    gpu: Literal["auto", "never"] = Field(
        "auto", description="auto = use GPUs where there are some, one for each worker"
    )
    failures: int = Field(3, ge=0, description="how often lost workers are replaced")
    tracking: Tracking = Field(Tracking(), description="where the numbers are written, besides the run")

    @field_validator("model")
    @classmethod
    def _model_exists(cls, value: str) -> str:
        if value not in plugins.names("models"):
            raise ValueError(f"there is no such model; {similar(value, plugins.names('models'))}")
        return value

    @field_validator("targets")
    @classmethod
    def _labels_exist(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(label(name).name for name in value)

    @field_validator("label_ranges")
    @classmethod
    def _label_ranges(cls, value: Ranges) -> Ranges:
        return checked_ranges(value)

    @model_validator(mode="after")
    def _check(self) -> Self:
        """Checks what needs no data."""
        if self.start_from is None or "model" in self.model_fields_set:
            plugins.options("models", self.model).from_dict("", self.options, "options.")
        if self.batch % self.workers:
            raise SettingsError(
                f"batch: {self.batch} spectra cannot be divided evenly among workers={self.workers}; "
                "give a multiple of it"
            )
        if "validation" not in self.split.filled_parts():
            raise SettingsError(
                "split: there is no validation part to choose the best epoch by; "
                "give it a share, such as parts=[0.7, 0.1, 0.2]"
            )
        if self.freeze and not self.start_from:
            raise SettingsError(
                f"freeze: {', '.join(self.freeze)} of a model that is not trained yet; "
                "give start_from=RUN, or leave freeze out"
            )
        self.align.check(self.has_several_sources, self.epochs)
        self._check_keep()
        check_sources(self.sources, self.classes)
        if not self.start_from:
            terms = plugins.constants("models", "TERMS").get(self.model, ())
            check_monitor(self.monitor, self.network_task(), self.classes, terms)
        return self

    def _check_keep(self) -> None:
        """Checks that nothing needs a validation which does not take place."""
        if self.keep == "last" and self.patience:
            raise SettingsError(
                f"keep=last: patience={self.patience} stops by the best epoch, which is not kept; "
                "give patience=0, or keep=best"
            )
        if self.learn_from == "train":
            return
        if self.keep == "best":
            raise SettingsError(
                "learn_from=train+validation: no validation part is left to choose the best epoch by; "
                "give keep=last, and epochs=NUMBER of the training that chose"
            )
        if self.schedule.name == "plateau":
            raise SettingsError(
                "learn_from=train+validation: no validation part is left for "
                "schedule.name=plateau; give another schedule"
            )

    @property
    def has_several_sources(self) -> bool:
        """Whether spectra of other stores are learned too."""
        return any(source.store for source in self.sources.values())

    def network_task(self) -> Task:
        """The task of the network."""
        regresses = self.task in ("reg", "cls_reg")
        names = self.targets if regresses else ()
        has_sigma = regresses and self.loss.reg == "gaussian_nll"
        return Task(self.task, names, len(self.classes), has_sigma)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, by number."""
        return self.join.class_names

    @classmethod
    def extra_help(cls, given: dict[str, Any]) -> str:
        """The options of the model that is given, else of the default model."""
        name = str(given.get("model", cls.model_fields["model"].default))
        rows = setting_rows(plugins.options("models", name), "options.", given.get("options"))
        there = ", ".join(plugins.names("models"))
        return f"\noptions of model={name} (the models are {there})\n\n{rows_text(rows)}\n"


def check_monitor(
    monitor: str, task: Task, classes: Sequence[str], terms: Sequence[str] = (), where: str = ""
) -> None:
    """An error if no metric of the task, and no loss of the network's own, has this name."""
    names = [*epoch_metric_names(task.labels, classes if task.classifies else ()), *terms]
    if monitor not in names:
        raise SettingsError(f"{where}monitor={monitor}: there is no such metric; {similar(monitor, names)}")


def is_better(monitor: str, value: float, best: float | None) -> bool:
    """Whether a metric is better than the best so far. A bias is better when it is nearer to 0."""
    if not math.isfinite(value):
        return False
    if best is None:
        return True
    if monitor.startswith("bias"):
        return abs(value) < abs(best)
    return value < best if monitor.startswith(SMALLER_IS_BETTER) else value > best
