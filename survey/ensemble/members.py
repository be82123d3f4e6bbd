"""Finished runs that are asked together: a batch of spectra is moved to the device once, and the network of every run answers.

With `passes` a member that has dropout is asked so many times more with its dropout layers on, and these alone: batch norm stays in
evaluation. The random numbers follow from the seed, the member and the number of the batch, so the same batches get the same answers. A
member whose answers about a spectrum are no numbers says nothing of it: NaN in all it says, and the work goes on.
Shapes: N spectra, M members, K passes, C classes, L labels, D features.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import entr
from torch import nn

from survey.ensemble.combine import Told
from survey.models.network import Answers, Dropout, Network
from survey.progress import Progress
from survey.settings import SettingsError
from survey.spectrum import GRIDS, Grid
from survey.training import run as bundle
from survey.training.batches import Places, Reader, Spectra, chance
from survey.training.precision import arithmetic
from survey.training.run import Run
from survey.training.validation import ANSWERS, BATCH, lists, units

Floats = NDArray[np.float64]
Latents = list[NDArray[Any]]
"""The last features of each member, (N, D) in float32, each with its own D."""


@dataclass(frozen=True)
class Members:
    """Runs on one grid, with one set of classes."""

    runs: tuple[Run, ...]

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Every label that a member gives, in the order of the members."""
        return tuple(dict.fromkeys(name for run in self.runs for name in run.labels))

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The classes that members tell apart; none where no member does."""
        return next((_classes(run) for run in self.runs if run.net.task.classifies), ())

    @property
    def grid(self) -> Grid:
        """The wavelengths that all were trained on."""
        return self.runs[0].grid

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.runs[0].device

    @property
    def needs_continuum(self) -> bool:
        """Whether a member looks at continua."""
        return any("continuum" in run.net.inputs for run in self.runs)

    def ask(
        self,
        spectra: Spectra,
        *,
        batch: int = BATCH,
        precision: str = "float32",
        passes: int = 0,
        seed: int = 0,
    ) -> tuple[Told, Latents]:
        """What every member says of the spectra, and its last features (those without dropout), in one pass over them."""
        count = len(spectra)
        if not count:  # the answers about none have their widths all the same
            spectra = Spectra(*(torch.ones(1, len(self.grid)) for _ in range(2 + self.needs_continuum)))
        heard: list[list[Answers]] = [[] for _ in self.runs]
        with torch.inference_mode():
            for number, start in enumerate(range(0, len(spectra), batch)):
                some = spectra[start : start + batch].to(self.device)
                for member, run in enumerate(self.runs):
                    heard[member].append(_answers(run.net, some, precision, passes, (seed, member, number)))
        whole_M = [
            {name: torch.cat([part[name] for part in parts], 1)[:, :count].cpu() for name in parts[0]}
            for parts in heard
        ]
        latents = [answers.pop("latent")[0].numpy() for answers in whole_M]
        return self._told(whole_M, latents), latents

    def ask_store(
        self,
        store: str,
        place_N2: Places,
        title: str,
        *,
        precision: str = "float32",
        passes: int = 0,
        seed: int = 0,
    ) -> tuple[Told, Latents]:
        """The same of spectra of a store, wherever in it, in the order of their places; there is at least one."""
        found = []
        with Progress(title, len(place_N2), "spectra") as bar:
            for number, spectra in enumerate(Reader(store, self.needs_continuum)(lists(place_N2))):
                found.append(
                    self.ask(
                        spectra,
                        precision=precision,
                        passes=passes,
                        seed=int(chance(seed, number).integers(1 << 62)),
                    )
                )
                bar.add(len(spectra))
        latents = [np.concatenate(parts) for parts in zip(*(latents for _, latents in found), strict=True)]
        return together([told for told, _ in found]), latents

    def speaks(self) -> Told:
        """What each member would say something of: made-up answers about one spectrum."""
        says_M = [run.net.task.classifies for run in self.runs]
        says_ML = [[name in run.labels for name in self.labels] for run in self.runs]
        p_MNC = np.where(
            np.array(says_M)[:, None, None],
            1 / max(len(self.classes), 1),
            np.full((1, 1, len(self.classes)), np.nan),
        )
        mu_MNL = np.where(np.array(says_ML).reshape(len(self.runs), 1, -1), 0.0, np.nan)
        return Told(
            self.labels, self.classes, p_MNC, mu_MNL, np.full_like(mu_MNL, np.nan), np.zeros_like(mu_MNL)
        )

    def _told(self, answers_M: Sequence[Answers], latents: Latents) -> Told:
        """Answers in physical units, each label in its column of the union."""
        count, labels = len(latents[0]), len(self.labels)
        p_MNC = np.full((len(self.runs), count, len(self.classes)), np.nan)
        own_MN = np.full((len(self.runs), count), np.nan)
        mu_MNL, var_MNL, within_MNL = (np.full((len(self.runs), count, labels), np.nan) for _ in range(3))
        for member, (run, answers, latent_ND) in enumerate(zip(self.runs, answers_M, latents, strict=True)):
            said, columns = _summed_up(run, answers), [self.labels.index(name) for name in run.labels]
            if "p" in said:
                p_MNC[member], own_MN[member] = said["p"], said["own"]
            for array_MNL, name in ((mu_MNL, "mu"), (var_MNL, "var"), (within_MNL, "within")):
                if name in said:
                    array_MNL[member][:, columns] = said[name]
            sick_N = ~np.isfinite(latent_ND).all(1) | ~np.all(
                [torch.isfinite(value).all(2).all(0).numpy() for value in answers.values()], 0
            )
            for array in (p_MNC, mu_MNL, var_MNL, within_MNL, own_MN):
                array[member][sick_N] = np.nan
        return Told(self.labels, self.classes, p_MNC, mu_MNL, var_MNL, within_MNL, own_MN)


def together(parts: Sequence[Told]) -> Told:
    """What the same members say of some spectra after the other."""
    names = ("p_MNC", "mu_MNL", "var_MNL", "within_MNL", "own_MN")
    whole: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts], 1) for name in names
    }
    return replace(parts[0], **whole)


def prepared_otherwise(run: Run, prepare: dict[str, Any]) -> list[str]:
    """How spectra are prepared otherwise than those that a run has learned from. The grid is looked at elsewhere; gates change no spectrum."""
    own = run.about["store"]["prepare"]
    both = [key for key in own if key in prepare and key not in ("grid", "gates")]
    return [f"{key} is {prepare[key]}, not {own[key]}" for key in both if prepare[key] != own[key]]


def droppers(net: Network) -> list[nn.Module]:
    """The layers of a network that drop something in training."""
    inside = (nn.RNNBase, nn.MultiheadAttention)  # these have no layer for it: their own switch is it
    shares = (
        (module, module.dropout if isinstance(module, inside) else getattr(module, "p", 0))
        for module in net.modules()
    )
    kinds = (
        Dropout,
        nn.Dropout,
        nn.Dropout1d,
        nn.Dropout2d,
        nn.Dropout3d,
        nn.AlphaDropout,
        nn.FeatureAlphaDropout,
        *inside,
    )
    return [module for module, share in shares if isinstance(module, kinds) and share > 0]


def check_passes(nets: Iterable[Network], passes: int, where: str) -> None:
    """So many passes with dropout make sense, or an error says why not."""
    if passes == 1:
        raise SettingsError(f"{where}: passes=1: one pass has no scatter; give 0 for none, or at least 2")
    if passes and not any(map(droppers, nets)):
        raise SettingsError(
            f"{where}: passes={passes}: no member has a layer with dropout, so all passes would be alike; give passes=0"
        )


@contextmanager
def dropping(net: Network, seeds: tuple[int, ...], device: torch.device) -> Iterator[None]:
    """The dropout layers are on, all else stays in evaluation; the random numbers follow from the seeds, those of others go on undisturbed."""
    layers = droppers(net)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(chance(*seeds).integers(1 << 62)))
        for layer in layers:
            layer.training = True
        try:
            yield
        finally:
            for layer in layers:
                layer.training = False


def _answers(net: Network, some: Spectra, precision: str, passes: int, seeds: tuple[int, ...]) -> Answers:
    """Answers (K, N, ...) about a batch: of each pass, or of the only one; `latent` (1, N, D) is the one without dropout."""
    plain = _asked(net, some, precision)
    if not passes or not droppers(net):
        return {name: value[None] for name, value in plain.items()}
    with dropping(net, seeds, some.flux.device):
        each = [_asked(net, some, precision) for _ in range(passes)]
    return {name: torch.stack([answers[name] for answers in each]) for name in plain if name != "latent"} | {
        "latent": plain["latent"][None]
    }


def _asked(net: Network, some: Spectra, precision: str) -> Answers:
    with arithmetic(precision, some.flux.device):
        answers = net(some.flux, some.ivar, some.continuum)
    return {name: answers[name].float() for name in ANSWERS if name in answers}


def _summed_up(run: Run, answers: Answers) -> dict[str, Floats]:
    """Answers (K, N, ...) in physical units: means over the passes, the members' own variances, and the variance among the passes."""
    passes = next(iter(answers.values())).shape[0]
    said = units({name: value.flatten(0, 1) for name, value in answers.items()}, run.scaling)
    each = {name: array.reshape(passes, -1, array.shape[1]) for name, array in said.items()}
    found: dict[str, Floats] = {name: array.mean(0) for name, array in each.items() if name != "sigma"}
    if "p" in each:
        found["own"] = entr(each["p"]).sum(2).mean(0)
    if "mu" in each:
        found["within"] = each["mu"].var(0, ddof=1) if passes > 1 else np.zeros_like(found["mu"])
    if "sigma" in each:
        found["var"] = (each["sigma"] ** 2).mean(0)
    return found


def _classes(run: Run) -> tuple[str, ...]:
    return tuple(run.about["classes"])


def open_members(paths: Sequence[str], device: torch.device | None = None) -> Members:
    """Finished runs, ready to be asked together; another grid or other classes than the first one's are refused."""
    if not paths:
        raise SettingsError("ensemble: runs: none is given; give the folder of at least one finished run")
    about = [bundle.about_run(path) for path in paths]  # all of them before a network is built
    for path, one in zip(paths, about, strict=True):
        if one["grid"] != about[0]["grid"]:
            raise SettingsError(
                f"ensemble: {path}: its grid is {_grid(one['grid'])}, that of {paths[0]} is {_grid(about[0]['grid'])}; give runs of one grid"
            )
    told = [(path, one) for path, one in zip(paths, about, strict=True) if one["task"]["kind"] != "reg"]
    for path, one in told:
        if one["classes"] != told[0][1]["classes"]:
            names = [", ".join(other["classes"]) for other in (one, told[0][1])]
            raise SettingsError(
                f"ensemble: {path}: its classes are {names[0]}, those of {told[0][0]} are {names[1]}; give runs of one set of classes"
            )
    return Members(tuple(bundle.open_run(path, device) for path in paths))


def _grid(about: dict[str, object]) -> str:
    """The name of a grid, or what it is."""
    own = tuple(about[name] for name in ("start", "stop", "step", "scale"))
    known = [name for name, grid in GRIDS.items() if (grid.start, grid.stop, grid.step, grid.scale) == own]
    return (
        known[0]
        if known
        else f"{about['points']} {about['scale']} points from {own[0]:g} to {own[1]:g} in steps of {own[2]:g}"
    )
