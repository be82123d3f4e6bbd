"""An ensemble: its members, their weights, and the calibration. It gives one answer per spectrum, with
errors.

ensemble.json        members by path and id, weights, calibration; written last
domain.safetensors   the training spectra in the latent space of each member, for the distance from them
line_key.safetensors the formula of [Fe/H] from indices of lines
other_kinds.safetensors  the classifier of stars of other kinds

The folder of a run is an ensemble too: one member, not calibrated.
Shapes: N spectra, M members, C classes, L labels, D features.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator

from survey import files
from survey.answers import Answers, Floats
from survey.ensemble.calibration import Calibration, no_calibration
from survey.ensemble.combine import MemberAnswers, Weights, combine
from survey.ensemble.domain import Domain
from survey.ensemble.learned_ranges import label_ranges
from survey.ensemble.line_key import LineKey, LineKeyRecord
from survey.ensemble.member_names import full_path, short_names
from survey.ensemble.members import Latents, Members, open_members
from survey.ensemble.other_kinds import OtherKinds, OtherKindsRecord
from survey.ensemble.recalibration import Recalibration
from survey.folder import Document, Folder, Kind, kind_of
from survey.labelling import samples
from survey.labels import label
from survey.models.settings import Task
from survey.settings import SettingsError
from survey.spectrum import Grid
from survey.store.store import STORE
from survey.stored_paths import LostFolderError, find_folder, places
from survey.training import checkpoint
from survey.training.batches import Spectra
from survey.training.made_from import MadeFrom
from survey.training.run import RUN, Run, StoreSource, open_run, run_document
from survey.training.validation import BATCH

DOMAIN, LINE_KEY, OTHER_KINDS = "domain.safetensors", "line_key.safetensors", "other_kinds.safetensors"
VALIDATION, POPULATION = "validation.parquet", "population.parquet"
T = TypeVar("T", Weights, Calibration)
D = TypeVar("D", bound=Document)


def _reader(kind: type[T]) -> PlainValidator:
    return PlainValidator(lambda value: value if isinstance(value, kind) else kind.from_dict(value))


class MemberDocument(BaseModel):
    """A member of an ensemble: its name, its path, and what it predicts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    path: str
    id: str
    model: str
    task: Task


class ValidationSize(BaseModel):
    """The number of validation spectra and stars that an ensemble was fitted to."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    spectra: int = 0
    stars: int = 0


class EnsembleDocument(Document):
    """The document of an ensemble. `ranges` are the lowest and highest label among its training spectra,
    `anomaly` is the anomaly that 1 % of the validation spectra exceed; None = no member is an autoencoder.
    """

    members: tuple[MemberDocument, ...]
    weights: Annotated[Weights, _reader(Weights), PlainSerializer(Weights.to_dict)]
    grid: Grid
    labels: tuple[str, ...]
    classes: tuple[str, ...]
    units: dict[str, str]
    passes: int = 0
    calibrated: bool = False
    calibration: Annotated[Calibration, _reader(Calibration), PlainSerializer(Calibration.to_dict)]
    domain: bool = False
    anomaly: float | None = None
    line_key: LineKeyRecord = LineKeyRecord()
    other_kinds: OtherKindsRecord = OtherKindsRecord()
    recalibration: Recalibration = Recalibration()
    store: StoreSource
    ranges: dict[str, tuple[float, float]] = Field({})
    validation: ValidationSize = ValidationSize()
    made_from: MadeFrom = MadeFrom()
    settings: dict[str, Any] = Field({})
    fingerprint: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the members."""
        return tuple(member.name for member in self.members)

    def paths(self, folder: str) -> list[str]:
        """The paths of the members of the ensemble in this folder."""
        return [full_path(folder.rstrip("/"), member.path) for member in self.members]


ENSEMBLE = Kind("ensemble", EnsembleDocument, version=3, job="ensemble")


@dataclass(frozen=True)
class EnsembleAnswers:
    """The answers of an ensemble, calibrated and not, with the answers and the
    last features of its members. In a cascade, `ruled_out_N` are the spectra that one member alone answered.
    """

    answers: Answers
    uncalibrated: Answers
    member_answers: MemberAnswers
    latents: Latents
    ruled_out_N: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.answers)

    def at(self, row_N: NDArray[np.int64]) -> "EnsembleAnswers":
        """The answers about some of the spectra, by row numbers."""
        return EnsembleAnswers(
            self.answers.at(row_N),
            self.uncalibrated.at(row_N),
            self.member_answers.at(np.arange(self.member_answers.members), row_N),
            [latent_ND[row_N] for latent_ND in self.latents],
            None if self.ruled_out_N is None else self.ruled_out_N[row_N],
        )


@dataclass(frozen=True)
class Ensemble:
    """A finished ensemble, or a run as an ensemble of one member."""

    path: str
    document: EnsembleDocument
    members: Members
    domain: Domain | None = None
    line_key: LineKey | None = None
    other_kinds: OtherKinds | None = None

    @property
    def id(self) -> str:
        """The id: other members, weights or calibration give another id."""
        return self.document.id

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the members."""
        return self.document.names

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels that it predicts, in order."""
        return self.members.labels

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that it predicts; none where it predicts no classes."""
        return self.members.classes

    @property
    def grid(self) -> Grid:
        """The wavelengths that its members were trained on."""
        return self.members.grid

    @property
    def units(self) -> dict[str, str]:
        """The unit of each label."""
        return self.document.units

    @property
    def store_path(self) -> str:
        """The store that it was fitted on; if that is nowhere, the one of its first member."""
        store = self.document.store
        try:
            return find_folder(store.path, self.path, STORE, store.id)
        except LostFolderError:
            return self.members.runs[0].store_path

    def check_grid(self, grid: Grid, where: str) -> None:
        """Checks that spectra have the grid of the members."""
        self.members.runs[0].check_grid(grid, where)

    def predict(
        self,
        spectra: Spectra,
        snr_N: Floats,
        *,
        batch: int = BATCH,
        precision: str = "float32",
        passes: int | None = None,
        seed: int = 0,
    ) -> EnsembleAnswers:
        """The answers about spectra; `snr_N` is the store's column `snr`, NaN where unknown.

        Without `passes`, the number of dropout passes is that of the ensemble's settings.
        """
        passes = self.document.passes if passes is None else passes
        member_answers, latents = self.members.predict(
            spectra, batch=batch, precision=precision, passes=passes, seed=seed
        )
        return self.conclude(member_answers, latents, snr_N)

    def conclude(self, member_answers: MemberAnswers, latents: Latents, snr_N: Floats) -> EnsembleAnswers:
        """The answers that follow from the members' answers: combined, calibrated, with the distances."""
        combined = combine(member_answers, self.document.weights)
        answers = self.document.calibration.apply(combined, snr_N)
        unit, anomaly_N = self.document.anomaly, combined.anomaly_N
        if anomaly_N is not None:
            answers = replace(
                answers, anomaly_N=anomaly_N / unit if unit else np.full_like(anomaly_N, np.nan)
            )
        if self.domain is not None:
            answers = replace(answers, domain_N=self.domain.score(latents))
        if self.other_kinds is not None:
            answers = self.other_kinds.apply(answers, latents)
        answers = self.document.recalibration.apply(answers)
        return EnsembleAnswers(answers, combined, member_answers, latents)


def open_ensemble(path: str, device: torch.device | None = None) -> Ensemble:
    """A finished ensemble, or a finished run as an ensemble of one member."""
    if Folder(path, ENSEMBLE).is_finished():
        return _open(path, device)
    if Folder(path, RUN).is_finished():
        return single_member(open_run(path, device))
    if not files.exists(path):
        raise FileNotFoundError(f"{path}: no such folder; give the folder of a finished ensemble or run")
    if (kind := kind_of(path)) not in ("", ENSEMBLE.name, RUN.name):
        raise SettingsError(
            f"{path}: is a folder of the kind {kind}, no ensemble and no run; give the folder of one of these"
        )
    raise FileNotFoundError(
        f"{path}: no {ENSEMBLE.file} and no {RUN.file} in it, so it is no finished ensemble and no "
        f"finished run; run survey ensemble with ensemble={path}, or survey train with run={path}, to the end"
    )


def _open(path: str, device: torch.device | None) -> Ensemble:
    folder = Folder(path, ENSEMBLE)
    document = folder.document()
    members = open_members(member_paths(path, document), device)
    domain = Domain.from_tensors(read_arrays(folder, DOMAIN, document)) if document.domain else None
    has_key = bool(document.line_key.spectra)
    key = LineKey.from_tensors(read_arrays(folder, LINE_KEY, document)) if has_key else None
    others = None
    if document.other_kinds.others:
        others = OtherKinds.from_tensors(read_arrays(folder, OTHER_KINDS, document))
    return Ensemble(path, document, members, domain, key, others)


def read_arrays(folder: Folder[D], name: str, document: D) -> dict[str, Floats]:
    """The arrays of a safetensors file of a folder."""
    tensors, _ = checkpoint.parse_tensors(folder.read(name, document), folder.file(name))
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def single_member(run: Run) -> Ensemble:
    """A run as an ensemble of one member, not calibrated."""
    members = Members((run,))
    weights = Weights(np.ones(1) * bool(members.classes), np.ones((1, len(members.labels))))
    has_samples = files.exists(files.join(run.path, samples.SAMPLES))
    document = EnsembleDocument(
        version=ENSEMBLE.version,
        id=run.document.id,
        code=run.document.code,
        store=run.document.store,
        ranges=label_ranges(samples.read(run.path).part("train"), [run]) if has_samples else {},
        calibration=no_calibration(members.labels),
        **member_fields(members, weights),
    )
    return Ensemble(run.path, document, members)


def member_fields(members: Members, weights: Weights) -> dict[str, Any]:
    """The fields of a document that follow from the members and their weights."""
    names = short_names([run.path for run in members.runs])
    rows = [
        MemberDocument(
            name=name, path=run.path, id=run.document.id, model=run.document.model, task=run.document.task
        )
        for name, run in zip(names, members.runs, strict=True)
    ]
    return {
        "members": tuple(rows),
        "weights": weights,
        "grid": members.grid,
        "labels": members.labels,
        "classes": members.classes,
        "units": {name: label(name).unit for name in members.labels},
    }


def member_paths(path: str, document: EnsembleDocument) -> list[str]:
    """The paths of the members, which must still be the runs that the ensemble was made of."""
    paths = document.paths(path)
    for number, member in enumerate(document.members):
        try:
            paths[number] = run = find_folder(paths[number], path, RUN, member.id)
        except LostFolderError as error:
            raise FileNotFoundError(
                f"{path}: its member {member.name} is not at {' or '.join(places(paths[number], path))}; "
                "put the run back there, or make the ensemble again"
            ) from error
        if (now := run_document(run).id) != member.id:
            raise ValueError(
                f"{path}: its member {member.name} at {run} has changed ({member.id} before, {now} now); "
                "put the old run back, or make the ensemble again in another folder"
            )
    return paths
