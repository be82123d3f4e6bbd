"""An ensemble: members, how much each counts, and what makes their answer true. Asked about spectra it says one thing, with its errors.

ensemble.json        members by path and id, weights, calibration: written last, so that its presence says "finished"
domain.safetensors   the training stars as every member sees them, where the ensemble knows what is far from them
A run's folder is an ensemble too: of one member, as it was trained. Shapes: N spectra, M members, C classes, L labels, D features.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from survey import files
from survey.ensemble import calibration as calibrate
from survey.ensemble import diversity
from survey.ensemble.calibration import Calibration
from survey.ensemble.combine import Combined, Told, Weights, combine
from survey.ensemble.domain import Domain
from survey.ensemble.members import Latents, Members, open_members
from survey.labels import label
from survey.settings import SettingsError
from survey.spectrum import Grid
from survey.training import checkpoint
from survey.training import run as bundle
from survey.training.batches import Spectra
from survey.training.run import Run
from survey.training.validation import BATCH

Floats = NDArray[np.float64]

ENSEMBLE, DOMAIN = "ensemble.json", "domain.safetensors"
VERSION = 1
INSIDE = "./"
"""How paths in the ensemble's own folder begin."""


@dataclass(frozen=True)
class Said:
    """What an ensemble says of spectra: calibrated answers, the interval of each label, how far each spectrum lies from the training stars
    (1: as far as 1 % of validation stars), and behind it what each member told, with its last features.
    """

    combined: Combined
    low_NL: Floats
    high_NL: Floats
    domain_N: Floats | None
    told: Told
    latents: Latents

    def __len__(self) -> int:
        return len(self.combined)

    def columns(self) -> dict[str, NDArray[Any]]:
        """The answers as columns by name, as tables keep them: float32, and `said`, the likeliest class (-1: no answer), as int8."""
        found: dict[str, NDArray[Any]] = {}
        one = self.combined
        if one.p_NC is not None:
            found |= {f"p_{name.lower()}": one.p_NC[:, number] for number, name in enumerate(one.classes)}
            found["said"] = np.where(
                np.isfinite(one.p_NC).all(1), np.nan_to_num(one.p_NC).argmax(1), -1
            ).astype(np.int8)
            found |= {
                name: array
                for name, array in (("entropy", one.entropy_N), ("doubt", one.doubt_N))
                if array is not None
            }
        if one.mu_NL is not None:
            kinds = {
                "": one.mu_NL,
                "_err": one.total_NL,
                "_err_data": one.data_NL,
                "_err_model": one.model_NL,
                "_spread": one.spread_NL,
            }
            kinds |= {"_low": self.low_NL, "_high": self.high_NL}
            found |= {
                f"{name}{kind}": array[:, number]
                for number, name in enumerate(one.labels)
                for kind, array in kinds.items()
            }
        if self.domain_N is not None:
            found["domain"] = self.domain_N
        return {
            name: array if array.dtype == np.int8 else array.astype(np.float32)
            for name, array in found.items()
        }


@dataclass(frozen=True)
class Ensemble:
    """A finished ensemble; `about` is ensemble.json, or what a run's folder says in its place."""

    path: str
    about: dict[str, Any]
    members: Members
    weights: Weights
    calibration: Calibration
    domain: Domain | None = None

    @property
    def id(self) -> str:
        """What tells it from every other ensemble: its members, weights and calibration."""
        return str(self.about["id"])

    @property
    def names(self) -> tuple[str, ...]:
        """The members' names."""
        return tuple(member["name"] for member in self.about["members"])

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels it gives, in order."""
        return self.members.labels

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes it tells apart; none where it tells none."""
        return self.members.classes

    @property
    def grid(self) -> Grid:
        """The wavelengths that its members were trained on."""
        return self.members.grid

    @property
    def units(self) -> dict[str, str]:
        """The unit of each label."""
        return {name: label(name).unit for name in self.labels}

    def fits(self, grid: dict[str, Any], where: str) -> None:
        """Spectra of this grid can be asked about, or an error says why not."""
        self.members.runs[0].fits(grid, where)

    def said(
        self,
        spectra: Spectra,
        snr_N: Floats,
        *,
        batch: int = BATCH,
        precision: str = "float32",
        passes: int | None = None,
        seed: int = 0,
    ) -> Said:
        """What it says of spectra; `snr_N` is the store's column `snr`, NaN where not known. `passes` None = as many as it was built with."""
        passes = int(self.about["passes"]) if passes is None else passes
        told, latents = self.members.ask(spectra, batch=batch, precision=precision, passes=passes, seed=seed)
        return self.concluded(told, latents, snr_N)

    def concluded(self, told: Told, latents: Latents, snr_N: Floats) -> Said:
        """One answer of what the members have told."""
        combined = self.calibration.apply(combine(told, self.weights), snr_N)
        low_NL, high_NL = self.calibration.interval(combined)
        domain_N = None if self.domain is None else self.domain.score(latents)
        return Said(combined, low_NL, high_NL, domain_N, told, latents)


def open_ensemble(path: str, device: torch.device | None = None) -> Ensemble:
    """A finished ensemble, or a finished run as an ensemble of one, ready to be asked."""
    if files.exists(files.join(path, ENSEMBLE)):
        return _opened(path, device)
    if files.exists(files.join(path, bundle.RUN)):
        return alone(bundle.open_run(path, device))
    raise FileNotFoundError(
        f"{path}: no {ENSEMBLE} and no {bundle.RUN} in it, so no finished ensemble or run; "
        f"run jobs/ensemble.py with ensemble={path}, or jobs/train.py with run={path}, to the end"
    )


def alone(run: Run) -> Ensemble:
    """A run as an ensemble of one member, as it was trained."""
    members = Members((run,))
    weights = Weights(np.ones(1) * bool(members.classes), np.ones((1, len(members.labels))))
    about = {
        "version": VERSION,
        "id": run.about["id"],
        "code": run.about["code"],
        "passes": 0,
        "calibrated": False,
        "store": run.about["store"],
    }
    return Ensemble(
        run.path, about | described(members, weights), members, weights, calibrate.none(members.labels)
    )


def described(members: Members, weights: Weights) -> dict[str, Any]:
    """What an ensemble is made of, for its description."""
    paths = [run.path for run in members.runs]
    rows = [
        {
            "name": name,
            "path": run.path,
            "id": run.about["id"],
            "model": run.about["model"],
            "task": run.about["task"],
        }
        for name, run in zip(named(paths), members.runs, strict=True)
    ]
    told = {
        "labels": list(members.labels),
        "classes": list(members.classes),
        "units": {name: label(name).unit for name in members.labels},
    }
    return {"members": rows, "weights": weights.told(), "grid": members.runs[0].about["grid"], **told}


def named(paths: Sequence[str]) -> list[str]:
    """Short names of runs: the ends of their paths, as long as is needed to tell them apart, and from the ensemble among them."""
    whole = [path.rstrip("/") for path in paths]
    if twice := sorted({path for path in whole if whole.count(path) > 1}):
        raise SettingsError(f"ensemble: runs: {', '.join(twice)} is given twice; give each run once")
    parts = [path.split("/") for path in whole]
    ends = (["/".join(part[-size:]) for part in parts] for size in range(1, max(map(len, parts)) + 1))
    return next(
        (names for names in ends if len(set(names)) == len(names) and diversity.ENSEMBLE not in names), whole
    )


def about_ensemble(path: str) -> dict[str, Any]:
    """The description of a finished ensemble."""
    about: dict[str, Any] = files.read_json(files.join(path, ENSEMBLE))
    if about.get("version") != VERSION:
        raise ValueError(
            f"{path}: the ensemble is of version {about.get('version')}, this code reads {VERSION}; make it anew"
        )
    return about


def _opened(path: str, device: torch.device | None) -> Ensemble:
    about = about_ensemble(path)
    members, weights = open_members(member_paths(path, about), device), Weights.of(about["weights"])
    domain = None
    if about["domain"]:
        if not files.exists(where := files.join(path, DOMAIN)):
            raise FileNotFoundError(
                f"{where}: is missing, though the ensemble is finished; put a copy back, or make the ensemble anew"
            )
        tensors, _ = checkpoint.read_tensors(where)
        domain = Domain.of({name: tensor.numpy() for name, tensor in tensors.items()})
    return Ensemble(path, about, members, weights, Calibration.of(about["calibration"]), domain)


def member_paths(path: str, about: dict[str, Any]) -> list[str]:
    """Where the members of an ensemble lie now; they have to be there, and to be those that it was made of."""
    found = []
    for member in about["members"]:
        where = (
            files.join(path, member["path"].removeprefix(INSIDE))
            if member["path"].startswith(INSIDE)
            else member["path"]
        )
        if not files.exists(files.join(where, bundle.RUN)):
            raise FileNotFoundError(
                f"{path}: its member {member['name']} is not at {where}; put the run back there, or make the ensemble anew"
            )
        if (now := bundle.about_run(where)["id"]) != member["id"]:
            raise ValueError(
                f"{path}: its member {member['name']} at {where} has changed since ({member['id']} then, {now} now); "
                "put that run back, or make the ensemble anew in another folder"
            )
        found.append(where)
    return found


def told_path(ensemble: str, path: str) -> str:
    """How an ensemble tells where a member lies: what lies in its own folder from there, so that both can be moved together."""
    own = f"{ensemble.rstrip('/')}/"
    return INSIDE + path.removeprefix(own) if path.startswith(own) else path
