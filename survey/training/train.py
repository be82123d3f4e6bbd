"""Store + labels -> run: everything is checked and written down before the first step; then each worker learns from what is written.

The settings, the samples with their parts, and the scaling are fixed in the run's folder by `begin`. So a run that was killed goes on with the
same ones, whoever takes it up, and a run that is finished is left alone.
"""

import json
from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from survey import __version__, files, metrics, plugins
from survey.labelling import join as labelling
from survey.labelling import samples, split
from survey.labelling.join import Labels
from survey.labelling.samples import Samples
from survey.labelling.split import PARTS, Split
from survey.labels import CLASSES, label
from survey.models.baseline import Fitted
from survey.models.network import Task
from survey.models.view import View
from survey.settings import SettingsError, laid, table
from survey.store.store import STORE, Store, open_store
from survey.training import run as bundle
from survey.training import scaling, training_history
from survey.training.curriculum import Growth
from survey.training.loop import Course
from survey.training.losses import Criterion, Loss
from survey.training.synthesis import Vary
from survey.training.tracking import Tracking

PLAN, JOINED = "plan.json", "labels.txt"


class Train(Course):
    """Settings of a training."""

    INERT: ClassVar[frozenset[str]] = frozenset(
        {"run", "workers", "threads", "gpu", "data", "resident_gb", "tracking", "failures"}
    )

    store: str = Field(description="folder or s3:// prefix of the store with the spectra")
    labels: str = Field(description="table of labels: CSV, Parquet or FITS")
    run: str = Field(description="folder or s3:// prefix of the run to make, or to go on with")
    join: Labels = Field(Labels(), description="how labels and spectra find each other")
    model: str = Field("echelle", description="network: a file of survey/models/")
    options: dict[str, Any] = Field(
        {}, description="settings of its architecture; python jobs/train.py model=NAME --help lists them"
    )
    task: Literal["cls", "reg", "cls_reg"] = Field("cls_reg", description="classes, labels, or both")
    targets: tuple[str, ...] = Field(
        ("Teff", "logg", "FeH", "CH", "CFe"),
        strict=False,
        description="labels to learn: rows of survey/labels.py",
    )
    split: Split = Field(Split(), description="who is trained on, who chooses, who tests")
    view: View = Field(View(), description="what of a spectrum the network sees")
    scale: Literal["standard", "minmax", "robust", "none"] = Field(
        "standard", description="how labels are scaled; fitted on the training part"
    )
    loss: Loss = Field(Loss(), description="what is made small")
    vary: Vary = Field(
        Vary(),
        description="training stars with other labels, their spectra changed as those of such stars would be",
    )
    growth: Growth = Field(Growth(), description="more and more of the training part as the training goes on")
    learn_from: Literal["train", "train+validation"] = Field(
        "train",
        description="train+validation: of both, as when all is chosen; nothing is validated then, and keep=last is needed",
    )
    balance: Literal["none", "balanced", "sqrt_balanced"] = Field(
        "none", description="draw rare classes more often: evenly, or half-way"
    )
    start: Literal["rescaled", "plain"] = Field(
        "rescaled", description="layers scaled by some training spectra, or as torch sets them"
    )
    before: str | None = Field(
        None, description="a finished run to go on from (fine-tuning): its network, weights and scaling"
    )
    freeze: tuple[str, ...] = Field(
        (), strict=False, description="what stays as it is: body, heads, or beginnings of parameter names"
    )
    data: Literal["auto", "resident", "streaming"] = Field(
        "auto", description="load the spectra once, or read them anew each epoch; auto by size"
    )
    resident_gb: float | None = Field(
        None, gt=0, description="most memory for loaded spectra; null = half of what is free"
    )
    window: int = Field(8192, ge=1, description="spectra that are shuffled together")
    workers: int = Field(
        1, ge=1, description="processes that share each batch; more than one run under Ray Train"
    )
    threads: int | None = Field(None, ge=1, description="threads of a worker; null = its share of the CPUs")
    gpu: Literal["auto", "never"] = Field(
        "auto", description="use GPUs where there are some, one for each worker"
    )
    failures: int = Field(3, ge=0, description="how often lost workers are replaced")
    tracking: Tracking = Field(Tracking(), description="where the numbers of a run go, beside its folder")

    @classmethod
    def more_help(cls, arguments: list[str]) -> str:
        """The settings of the networks: of those named as model=NAME, else of the default."""
        named = [argument.removeprefix("model=") for argument in arguments if argument.startswith("model=")]
        there, told = plugins.names("models"), []
        for name in named or [cls.model_fields["model"].default]:
            rows = table(plugins.options("models", name), "options.")
            told.append(f"options of model={name} (there are {', '.join(there)})\n\n{rows}\n")
        return "\n" + "\n".join(told)

    def asked(self) -> Task:
        """The task as a network knows it."""
        names = () if self.task == "cls" else tuple(label(name).name for name in self.targets)
        return Task(self.task, names, len(CLASSES), self.task != "cls" and self.loss.reg == "gaussian_nll")


def begin(settings: Train) -> bool:
    """Check everything, fix samples, parts and scaling in the run's folder; whether there is something left to do."""
    _check(settings)
    if _agree(settings):
        return not files.exists(files.join(settings.run, bundle.RUN))
    store = open_store(settings.store)
    found, joined = _samples(settings, store)
    plan = _plan(settings, store, found)
    _rehearse(settings, plan, found.part("train"))
    samples.write(settings.run, found)
    files.write(files.join(settings.run, JOINED), joined.encode())
    files.write_json(files.join(settings.run, PLAN), plan)
    files.write_json(files.join(settings.run, bundle.SETTINGS), _written(settings))
    return True


def _rehearse(settings: Train, plan: dict[str, Any], train: Samples) -> None:
    """What would go wrong later goes wrong now, before anything is written: network, frozen parts, losses, the metric to watch."""
    task, net = bundle.task_of(plan), bundle.network(plan)
    if settings.before and isinstance(net, Fitted):
        raise SettingsError(
            f"train: before: a {plan['model']} is fitted from the start and cannot go on from another run; leave before out"
        )
    bundle.freeze(net, settings.freeze)
    plan["options"] = net.options.model_dump(mode="json")
    counts = [plan["parts"]["train"][name] for name in CLASSES]
    if task.classifies and not settings.before and min(counts) < 1:
        told = ", ".join(f"{name} {count}" for name, count in zip(CLASSES, counts, strict=True))
        raise SettingsError(
            f"train: split: the training part has a class without a star ({told}); give split.stratify=true, or more labels"
        )
    Criterion(settings.loss, task, counts)
    if not isinstance(net, Fitted):
        settings.vary.check(task, train)
    blank = np.zeros((1, len(task.labels))) if task.regresses else None
    some = (np.zeros(1, int), np.eye(1, task.classes)) if task.classifies else (None, None)
    there = metrics.quick(
        class_N=some[0], p_NC=some[1], label_NL=blank, mu_NL=blank, labels=task.labels, loss=0.0
    )
    if settings.monitor not in there:
        raise SettingsError(
            f"train: monitor={settings.monitor}: there is no such metric; there are {', '.join(there)}"
        )


def _written(settings: Train) -> dict[str, Any]:
    lasting = json.loads(json.dumps(settings.lasting(), default=str))
    return {
        "version": bundle.VERSION,
        "code": __version__,
        "fingerprint": settings.fingerprint(),
        "settings": lasting,
    }


def _check(settings: Train) -> None:
    """What can be said without looking at data."""
    if settings.batch % settings.workers:
        raise SettingsError(
            f"train: batch: {settings.batch} spectra cannot be shared evenly by workers={settings.workers}; give a multiple of it"
        )
    plugins.load("models", settings.model)
    settings.asked()
    _check_keep(settings)
    if "validation" not in settings.split.needed():
        raise SettingsError(
            "train: split: leaves no validation part, by which the best epoch is chosen; give it a share, such as parts=[0.7, 0.1, 0.2]"
        )
    if settings.freeze and not settings.before:
        raise SettingsError(
            f"train: freeze: {', '.join(settings.freeze)} of a network that has learned nothing; give before=RUN, or freeze nothing"
        )


def _check_keep(settings: Train) -> None:
    """Nothing asks for a validation that there is not."""
    if settings.keep == "last" and settings.patience:
        raise SettingsError(
            f"train: keep=last: patience={settings.patience} stops by the best epoch, which is not kept; give patience=0, or keep=best"
        )
    if settings.learn_from == "train":
        return
    if settings.keep == "best":
        raise SettingsError(
            "train: learn_from=train+validation: nobody is left who says which epoch is best; give keep=last, and as many epochs as did"
        )
    if settings.schedule.name == "plateau":
        raise SettingsError(
            "train: learn_from=train+validation: schedule.name=plateau goes by validation, of which nothing is left; give another"
        )


def _agree(settings: Train) -> bool:
    """Whether the run has been begun, with these settings; with others it is an error that names what differs."""
    path = files.join(settings.run, bundle.SETTINGS)
    if not files.exists(path):
        if strangers := [
            name for name in files.names(settings.run) if name not in (samples.SAMPLES, JOINED, PLAN)
        ]:
            raise SettingsError(
                f"train: run: {settings.run}: holds {', '.join(strangers[:3])} but is no run; give an empty or a new folder"
            )
        return False
    before, now = files.read_json(path), _written(settings)
    before["settings"] = with_defaults(before["settings"])
    own = files.read_json(files.join(settings.run, PLAN))["store"]["id"]
    if files.exists(files.join(settings.store, STORE)) and open_store(settings.store).about["id"] == own:
        now["settings"]["store"] = before["settings"]["store"]  # the same store, wherever it lies now
    if before["version"] != bundle.VERSION:
        raise SettingsError(
            f"train: run: {settings.run}: is of version {before['version']}, this code writes {bundle.VERSION}; give another run="
        )
    differing = [
        f"{key}={before['settings'].get(key)} there, {value} now"
        for key, value in now["settings"].items()
        if before["settings"].get(key) != value
    ]
    if differing:
        raise SettingsError(
            f"train: run: {settings.run}: was begun with other settings: {'; '.join(differing)}; give these again, or another run="
        )
    return True


def with_defaults(written: dict[str, Any]) -> dict[str, Any]:
    """Settings of a run that was begun before some of them existed: these have their defaults."""
    usual = json.loads(json.dumps(Train(store="", labels="", run="").lasting(), default=str))
    return laid(usual, written)


def _samples(settings: Train, store: Store) -> tuple[Samples, str]:
    """The labelled spectra and their parts, and what became of the table's rows and the store's spectra."""
    joining = settings.join.model_copy(update={"table": settings.labels})
    task = settings.asked()
    wanted = (
        labelling.present(joining, task.labels) if settings.before else task.labels
    )  # fine-tuning may look at some labels
    labelled = labelling.join(joining, store, wanted, settings.split.column)
    if not settings.before:  # and some classes only
        labelling.check(labelled, settings.task)
    found = samples.of(labelled, task.labels)
    part_N = training_history.inherited(settings.before, found.about, split.parts(settings.split, labelled))
    split.check(settings.split, part_N, labelled.star)
    if settings.learn_from == "train+validation":
        part_N = np.where(part_N == PARTS.index("validation"), np.int8(0), part_N)
    return replace(found, part_N=part_N), labelled.counts.text() + "\n"


def _plan(settings: Train, store: Store, found: Samples) -> dict[str, Any]:
    """What is fixed before the first step and stays with the run."""
    task, train = settings.asked(), found.part("train")
    before = bundle.about_run(settings.before) if settings.before else None
    scaled = (
        before["scaling"] if before else scaling.fit(settings.scale, train.label_NL, task.labels).as_dict()
    )
    plan = {
        "model": settings.model,
        "options": settings.options,
        "task": {
            "kind": task.kind,
            "labels": list(task.labels),
            "classes": task.classes,
            "sigma": task.sigma,
        },
        "classes": list(CLASSES),
        "units": {name: label(name).unit for name in task.labels},
        "view": json.loads(json.dumps(settings.view.lasting())),
        "scaling": scaled,
        "grid": store.about["grid"],
        "store": {"path": store.path, "id": store.about["id"], "prepare": store.about["settings"]["prepare"]},
        "parts": {name: _counted(found.part(name)) for name in PARTS},
        "split": plan_split(settings),
        "before": None,
    }
    if before is None:
        return plan
    given: dict[str, Any] = {
        name: getattr(settings, name)
        for name in ("model", "options", "scale", "view")
        if name in settings.model_fields_set
    }
    met = len(training_history.unseen(str(settings.before), found.about)) < len(found)
    return plan | training_history.taken_over(plan, before, given, str(settings.before), met)


def _counted(part: Samples) -> dict[str, Any]:
    stars = len(set(part.about["star"].to_pylist()))
    return {
        "spectra": len(part),
        "stars": stars,
        **{name: int((part.class_N == number).sum()) for number, name in enumerate(CLASSES)},
    }


def plan_split(settings: Train) -> dict[str, Any]:
    """The rule of the split, as a run keeps it."""
    kept: dict[str, Any] = json.loads(json.dumps(settings.split.lasting()))
    return kept
