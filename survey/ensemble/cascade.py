"""A cascade: the fastest member of an ensemble sees all spectra, the others what it cannot rule out.

A spectrum is ruled out if it is far from every list of candidates (`survey.ensemble.bounds`). It keeps the
answers of the fastest member alone, which has a calibration of its own for this. All other spectra get the
answers of the ensemble; those of the fastest member are not computed again.

A cascade lies in a folder inside its ensemble (`survey.ensemble.fit_cascade` makes it):

settings.json        the ensemble that it is of
domain.safetensors   the training spectra in the latent space of the fastest member
other_kinds.safetensors  the classifier of stars of other kinds, of this member alone
validation.parquet   the answers of the cascade about the validation spectra, with the truth
population.parquet   the same about a test population, if the ensemble has one
cascade.json         the fastest member with its calibration, and the bounds; written last

Shapes: N spectra, R of them go on, M members, D features.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from survey import files
from survey.answers import Floats
from survey.ensemble.bounds import Bounds
from survey.ensemble.combine import MemberAnswers, place
from survey.ensemble.domain import Domain, Latent
from survey.ensemble.ensemble import (
    DOMAIN,
    OTHER_KINDS,
    Ensemble,
    EnsembleAnswers,
    EnsembleDocument,
    read_arrays,
)
from survey.ensemble.members import Members
from survey.ensemble.other_kinds import OtherKinds
from survey.folder import Document, Folder, Kind
from survey.labels import CLASSES
from survey.models.summary import megaflop
from survey.settings import JobError, SettingsError
from survey.training.batches import Spectra
from survey.training.validation import BATCH

Rows = NDArray[np.int64]


class CascadeDocument(Document):
    """The document of a cascade. `ensemble` is an id, `fastest` the fastest member as an ensemble of its own.

    `went_on` is the share of the tested spectra of each class that all members see.
    """

    ensemble: str
    fastest: EnsembleDocument
    bounds: Bounds
    went_on: dict[str, float]


CASCADE = Kind("cascade", CascadeDocument, version=1, job="predict", setting="ensemble")


def folder_of(ensemble: Ensemble) -> Folder[CascadeDocument]:
    """The folder of the cascade of an ensemble, inside that of the ensemble."""
    return Folder(files.join(ensemble.path, CASCADE.name), CASCADE)


@dataclass(frozen=True)
class Cascade:
    """An ensemble with its fastest member, which is also an ensemble of its own, and the bounds."""

    ensemble: Ensemble
    fastest: Ensemble
    document: CascadeDocument

    @cached_property
    def number(self) -> int:
        """The number of the fastest member among the members."""
        identities = [member.id for member in self.ensemble.document.members]
        return identities.index(self.document.fastest.members[0].id)

    @cached_property
    def others(self) -> Members:
        """The other members."""
        runs = self.ensemble.members.runs
        return Members((*runs[: self.number], *runs[self.number + 1 :]))

    def predict(
        self,
        spectra: Spectra,
        snr_N: Floats,
        *,
        batch: int = BATCH,
        precision: str = "float32",
        seed: int = 0,
    ) -> EnsembleAnswers:
        """The answers about spectra, as an ensemble gives them; the fastest member alone gives those about
        `ruled_out_N`.
        """
        how: Any = {"batch": batch, "precision": precision, "seed": seed}
        how["passes"] = self.ensemble.document.passes
        fast = self.fastest.conclude(*self.fastest.members.predict(spectra, **how), snr_N)
        ruled_out_N = self.document.bounds.rules_out(fast.answers)
        row_R = np.flatnonzero(~ruled_out_N)
        more, more_latents = self.others.predict(spectra[torch.from_numpy(row_R)], **how)
        member_answers = self._placed(fast.member_answers, more, row_R)
        latents = [_placed_rows(latent_RD, row_R, len(spectra)) for latent_RD in more_latents]
        latents.insert(self.number, fast.latents[0])
        full = self.ensemble.conclude(
            member_answers.at(np.arange(member_answers.members), row_R),
            [latent_ND[row_R] for latent_ND in latents],
            np.asarray(snr_N)[row_R],
        )
        return EnsembleAnswers(
            fast.answers.with_rows(row_R, full.answers),
            fast.uncalibrated.with_rows(row_R, full.uncalibrated),
            member_answers,
            latents,
            ruled_out_N,
        )

    def _placed(self, fast: MemberAnswers, more: MemberAnswers, row_R: Rows) -> MemberAnswers:
        """The answers of all members about all spectra; NaN where the others have not seen a spectrum."""
        number_M = np.arange(1 + more.members)
        parts = [
            (number_M[[self.number]], np.arange(len(fast)), fast),
            (np.delete(number_M, self.number), row_R, more),
        ]
        return place(parts, self.ensemble.labels, self.ensemble.classes, len(fast))


def _placed_rows(latent_RD: Latent, row_R: Rows, rows: int) -> Latent:
    """The last features of a member about all spectra; NaN where it has not seen a spectrum."""
    latent_ND = np.full((rows, latent_RD.shape[1]), np.nan, np.float32)
    latent_ND[row_R] = latent_RD
    return latent_ND


def fastest_member(ensemble: Ensemble) -> int:
    """The number of the member with the fewest operations, of those that answer as much as the ensemble.

    An error if the ensemble can be no cascade.
    """
    where, runs = f"cascade: {ensemble.path}", ensemble.members.runs
    if len(runs) < 2:
        raise SettingsError(
            f"{where}: has one member, so there is nothing to save; give an ensemble of several, "
            "or leave out cascade="
        )
    if ensemble.classes != CLASSES:
        raise SettingsError(
            f"{where}: predicts {', '.join(ensemble.classes) or 'no classes'}; a cascade rules out what is "
            f"far from the lists of metal-poor stars, so it needs {', '.join(CLASSES)}; leave out cascade="
        )
    if ensemble.document.anomaly is not None:
        raise SettingsError(
            f"{where}: one of its members is an autoencoder, which has to see every spectrum; "
            "leave out cascade="
        )
    document = ensemble.document
    if not document.validation.spectra or not document.calibrated:
        raise SettingsError(
            f"{where}: has no validation spectra, or is not calibrated, so nothing tells what may be ruled "
            "out; make it again with calibrate=true, or leave out cascade="
        )
    complete = [
        number
        for number, run in enumerate(runs)
        if run.net.task.classifies and tuple(run.labels) == ensemble.labels
    ]
    if not complete:
        raise SettingsError(
            f"{where}: no member predicts all of {', '.join((*ensemble.classes, *ensemble.labels))}, as the "
            "one that sees all spectra must; leave out cascade="
        )
    return min(complete, key=lambda number: megaflop(runs[number].net) or np.inf)


def open_cascade(ensemble: Ensemble) -> Cascade:
    """The finished cascade of an ensemble."""
    folder = folder_of(ensemble)
    document = folder.document()
    if document.ensemble != ensemble.id:
        raise JobError(
            f"cascade: {folder.path}: is of the ensemble {document.ensemble}, not of {ensemble.id}; "
            "run survey predict with cascade=true again"
        )
    fastest = document.fastest
    domain = Domain.from_tensors(read_arrays(folder, DOMAIN, document)) if fastest.domain else None
    others = None
    if fastest.other_kinds.others:
        others = OtherKinds.from_tensors(read_arrays(folder, OTHER_KINDS, document))
    names = [member.id for member in ensemble.document.members]
    run = ensemble.members.runs[names.index(fastest.members[0].id)]
    only = Ensemble(folder.path, fastest, Members((run,)), domain, ensemble.line_key, others)
    return Cascade(ensemble, only, document)
