"""Finished runs that answer together: each batch of spectra goes to the device once, and every run's
network answers.

With `passes`, a member that has dropout answers that many times more with its dropout layers on; batch norm
stays in evaluation mode. The random numbers follow from the seed, the member and the number of the batch,
so that the same batches get the same answers. Where a member's output is not finite, its answer about that
spectrum is NaN, and the work goes on. Where an object lacks the spectrum or the image that a member answers
from, the member's answer and its last features are NaN. Shapes: N spectra, M members, K passes, C classes, L
labels, D features.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.special import entr
from torch import nn

from survey.answers import Floats
from survey.ensemble.combine import Flags, MemberAnswers, concatenate
from survey.ensemble.criterion import check_criteria, criterion_of_run
from survey.ensemble.domain import Latent
from survey.labels import CLASSES
from survey.machine import ThreadChooser, arithmetic, seed_torch
from survey.models.network import FeatureDropout, Network, Outputs
from survey.progress import Progress
from survey.settings import SettingsError
from survey.spectrum import GRIDS, Grid
from survey.store.store import Store
from survey.training.batches import ExtraInputs, Places, Reader, Spectra, random_generator
from survey.training.run import Run, open_run, run_document
from survey.training.validation import BATCH, OUTPUT_NAMES, in_units, portions

Latents = list[Latent]
"""The last features of each member, (N, D) in float32, each with its own D."""

DROPOUT_LAYERS = (
    FeatureDropout,
    nn.Dropout,
    nn.Dropout1d,
    nn.Dropout2d,
    nn.Dropout3d,
    nn.AlphaDropout,
    nn.FeatureAlphaDropout,
)
LAYERS_WITH_DROPOUT = (nn.RNNBase, nn.MultiheadAttention)
"""Layers with a dropout of their own, which their own training mode turns on."""


@dataclass(frozen=True)
class Members:
    """Runs on one grid, with one set of classes."""

    runs: tuple[Run, ...]

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Every label that a member predicts, in the order of the members."""
        return tuple(dict.fromkeys(name for run in self.runs for name in run.labels))

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """The classes that members predict; none where no member predicts classes."""
        return next((tuple(run.document.classes) for run in self.runs if run.net.task.classifies), ())

    @property
    def grid(self) -> Grid:
        """The wavelengths that all members were trained on."""
        return self.runs[0].grid

    def check_store(self, store: Store) -> None:
        """Checks that a store has the grid and the preparation of the training spectra of all members."""
        self.runs[0].check_grid(store.grid, f"ensemble: {store.path}")
        for run in self.runs:
            if differing := run.document.store.prepare.differences(store.prepare):
                raise SettingsError(
                    f"ensemble: {store.path}: its spectra are not prepared like those that {run.path} was "
                    f"trained on: {'; '.join(differing)}; give runs that were trained on such spectra, "
                    "or another store="
                )

    @property
    def device(self) -> torch.device:
        """The device of the networks."""
        return self.runs[0].device

    @property
    def extra_inputs(self) -> ExtraInputs:
        """What members need besides flux and ivar."""
        return tuple(sorted({name for run in self.runs for name in run.net.extra_inputs}))

    def have_input(self, spectra: Spectra) -> Flags:
        """Which member (M) has an input of which object (N) that it can answer from, within its view."""
        found: dict[tuple[object, ...], Flags] = {}
        for run in self.runs:
            if (key := _looks_at(run.net)) not in found:
                view = run.net.view
                seen_P = view.seen_P.cpu().numpy() if view and view.settings.windows else None
                found[key] = spectra.have(run.net.answers_from, seen_P)
        return np.stack([found[_looks_at(run.net)] for run in self.runs])

    def predict(
        self,
        spectra: Spectra,
        *,
        batch: int = BATCH,
        precision: str = "float32",
        passes: int = 0,
        seed: int = 0,
        threads: ThreadChooser | None = None,
    ) -> tuple[MemberAnswers, Latents]:
        """Every member's answers about spectra, and its last features (those
        without dropout), in one pass.
        """
        count = len(spectra)
        if not count:  # the arrays have their widths also without any spectrum
            spectra = self._one_spectrum()
        outputs: list[list[Outputs]] = [[] for _ in self.runs]
        with torch.inference_mode():
            for number, start in enumerate(range(0, len(spectra), batch)):
                chunk = spectra[start : start + batch].to(self.device)
                with threads.timed(len(chunk)) if threads else nullcontext():
                    for member, run in enumerate(self.runs):
                        seeds = (seed, member, number)
                        outputs[member].append(_passes_outputs(run.net, chunk, precision, passes, seeds))
        joined = [
            {name: torch.cat([part[name] for part in parts], 1)[:, :count].cpu() for name in parts[0]}
            for parts in outputs
        ]
        latents = [output.pop("latent")[0].numpy() for output in joined]
        for latent_ND, has_input_N in zip(latents, self.have_input(spectra[:count]), strict=True):
            latent_ND[~has_input_N] = np.nan
        return self._answers(joined, latents), latents

    def _one_spectrum(self) -> Spectra:
        """A made-up spectrum, with a made-up image if members look at images."""
        extra, line_1P = self.extra_inputs, torch.ones(1, len(self.grid))
        shape = self.runs[0].document.image
        image = torch.ones((1, *shape), dtype=torch.uint8) if "image" in extra and shape else None
        return Spectra(line_1P, line_1P, line_1P if "continuum" in extra else None, image)

    def predict_store(
        self,
        store: str,
        shard_row_N2: Places,
        title: str,
        *,
        precision: str = "float32",
        passes: int = 0,
        seed: int = 0,
        threads: ThreadChooser | None = None,
    ) -> tuple[MemberAnswers, Latents]:
        """The same about spectra of a store, in the order of their rows; there is at least one."""
        parts = []
        with Progress(title, len(shard_row_N2), "spectra") as bar:
            for number, spectra in enumerate(Reader(store, self.extra_inputs)(portions(shard_row_N2))):
                part_seed = int(random_generator(seed, number).integers(1 << 62))
                parts.append(
                    self.predict(spectra, precision=precision, passes=passes, seed=part_seed, threads=threads)
                )
                bar.add(len(spectra))
        latents = [np.concatenate(each) for each in zip(*(latents for _, latents in parts), strict=True)]
        return concatenate([answers for answers, _ in parts]), latents

    def placeholder_answers(self) -> MemberAnswers:
        """Made-up answers about one spectrum: they show which member predicts classes, and which labels."""
        predicts_class_M = np.array([run.net.task.classifies for run in self.runs])
        predicts_ML = np.array([[name in run.labels for name in self.labels] for run in self.runs])
        unknown_1C = np.full((1, 1, len(self.classes)), np.nan)
        p_MNC = np.where(predicts_class_M[:, None, None], 1 / max(len(self.classes), 1), unknown_1C)
        value_MNL = np.where(predicts_ML.reshape(len(self.runs), 1, -1), 0.0, np.nan)
        unknown_MNL, zero_MNL = np.full_like(value_MNL, np.nan), np.zeros_like(value_MNL)
        return MemberAnswers(self.labels, self.classes, p_MNC, value_MNL, unknown_MNL, zero_MNL)

    def _answers(self, outputs: Sequence[Outputs], latents: Latents) -> MemberAnswers:
        """Outputs in physical units, each label in its column among the labels of all members."""
        count, labels = len(latents[0]), len(self.labels)
        p_MNC = np.full((len(self.runs), count, len(self.classes)), np.nan)
        pass_entropy_MN, anomaly_MN = (np.full((len(self.runs), count), np.nan) for _ in range(2))
        value_MNL, data_MNL, passes_MNL = (np.full((len(self.runs), count, labels), np.nan) for _ in range(3))
        for member, (run, output, latent_ND) in enumerate(zip(self.runs, outputs, latents, strict=True)):
            found, columns = _in_units(run, output), [self.labels.index(name) for name in run.labels]
            if "p" in found:
                p_MNC[member], pass_entropy_MN[member] = found["p"], found["pass_entropy"]
            for array_MNL, name in ((value_MNL, "mu"), (data_MNL, "var_data"), (passes_MNL, "var_passes")):
                if name in found:
                    array_MNL[member][:, columns] = found[name]
            judged = [value for name, value in output.items() if name not in ("own_loss", "terms")]
            finite = [torch.isfinite(value).all(2).all(0).numpy() for value in judged]
            failed_N = ~np.isfinite(latent_ND).all(1) | ~np.all(finite, 0)
            if "anomaly" in output:
                anomaly_MN[member] = output["anomaly"].double().mean(0)[:, 0].numpy()
            for array in (p_MNC, value_MNL, data_MNL, passes_MNL, pass_entropy_MN, anomaly_MN):
                array[member][failed_N] = np.nan
        return MemberAnswers(
            self.labels,
            self.classes,
            p_MNC,
            value_MNL,
            data_MNL,
            passes_MNL,
            pass_entropy_MN,
            anomaly_MN if any("anomaly" in output for output in outputs) else None,
        )


def _looks_at(net: Network) -> tuple[object, ...]:
    """The inputs that a network answers from, and the windows of a spectrum that it sees; none = all."""
    return net.answers_from, net.view.settings.windows if net.view else ()


def dropout_layers(net: Network) -> list[nn.Module]:
    """The layers of a network that drop values in training."""
    layers = []
    for module in net.modules():
        own = isinstance(module, LAYERS_WITH_DROPOUT)
        share = getattr(module, "dropout" if own else "p", 0)
        if (own or isinstance(module, DROPOUT_LAYERS)) and share > 0:
            layers.append(module)
    return layers


def check_passes(nets: Iterable[Network], passes: int, where: str) -> None:
    """Checks that this number of dropout passes makes sense."""
    if passes == 1:
        raise SettingsError(
            f"{where}: passes=1: one pass has no scatter; give 0 for no passes, or at least 2"
        )
    if passes and not any(map(dropout_layers, nets)):
        raise SettingsError(
            f"{where}: passes={passes}: no member has a layer with dropout, so all passes would be equal; "
            "give passes=0"
        )


@contextmanager
def dropout_on(net: Network, seeds: tuple[int, ...], device: torch.device) -> Iterator[None]:
    """Turns the dropout layers on; all other layers stay in evaluation mode.

    The random numbers follow from the seeds; the global generator is restored.
    """
    layers = dropout_layers(net)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        seed_torch(int(random_generator(*seeds).integers(1 << 62)), device)
        for layer in layers:
            layer.training = True
        try:
            yield
        finally:
            for layer in layers:
                layer.training = False


def _passes_outputs(
    net: Network, spectra: Spectra, precision: str, passes: int, seeds: tuple[int, ...]
) -> Outputs:
    """Outputs (K, N, ...) of a batch, one per pass; `latent` (1, N, D) is the one without dropout."""
    plain = _outputs(net, spectra, precision)
    if not passes or not dropout_layers(net):
        return {name: value[None] for name, value in plain.items()}
    with dropout_on(net, seeds, spectra.flux.device):
        each = [_outputs(net, spectra, precision) for _ in range(passes)]
    stacked = {name: torch.stack([output[name] for output in each]) for name in plain if name != "latent"}
    return stacked | {"latent": plain["latent"][None]}


def _outputs(net: Network, spectra: Spectra, precision: str) -> Outputs:
    with arithmetic(precision, spectra.flux.device):
        outputs = net(*spectra.arrays())
    return {name: outputs[name].float() for name in OUTPUT_NAMES if name in outputs}


def _in_units(run: Run, outputs: Outputs) -> dict[str, Floats]:
    """Outputs (K, N, ...) in physical units: means over the passes, the member's variance, and that among
    the passes.
    """
    passes = next(iter(outputs.values())).shape[0]
    flat = {name: value.flatten(0, 1) for name, value in outputs.items()}
    values = in_units(flat, run.scaling)
    each = {name: array.reshape(passes, -1, array.shape[1]) for name, array in values.items()}
    found: dict[str, Floats] = {name: array.mean(0) for name, array in each.items() if name != "sigma"}
    if "p" in each:
        found["pass_entropy"] = entr(each["p"]).sum(2).mean(0)
    if "mu" in each:
        found["var_passes"] = each["mu"].var(0, ddof=1) if passes > 1 else np.zeros_like(found["mu"])
    if "sigma" in each:
        found["var_data"] = (each["sigma"] ** 2).mean(0)
    return found


def open_members(paths: Sequence[str], device: torch.device | None = None) -> Members:
    """Finished runs as members; another grid, other classes or another definition of CEMP than
    those of the first run are errors.
    """
    if not paths:
        raise SettingsError("ensemble: runs: none is given; give the folder of at least one finished run")
    documents = {path: run_document(path) for path in paths}  # check all before any network is built
    first = documents[paths[0]]
    for path, document in documents.items():
        if document.grid != first.grid:
            raise SettingsError(
                f"ensemble: {path}: its grid is {_grid_name(document.grid)}, the grid of {paths[0]} is "
                f"{_grid_name(first.grid)}; give runs on one grid"
            )
    with_classes = [path for path, document in documents.items() if document.task.classifies]
    for path in with_classes:
        classes, first_classes = (documents[one].classes for one in (path, with_classes[0]))
        if classes != first_classes:
            raise SettingsError(
                f"ensemble: {path}: its classes are {', '.join(classes)}, those of {with_classes[0]} are "
                f"{', '.join(first_classes)}; give runs with one set of classes"
            )
    of_cemp = [path for path in with_classes if tuple(documents[path].classes) == CLASSES]
    check_criteria({path: criterion_of_run(documents[path].settings) for path in of_cemp})
    return Members(tuple(open_run(path, device) for path in paths))


def _grid_name(grid: Grid) -> str:
    """The name of a grid, or its numbers."""
    names = [name for name, known in GRIDS.items() if known == grid]
    if names:
        return names[0]
    return f"{len(grid)} {grid.scale} points from {grid.start:g} to {grid.stop:g} in steps of {grid.step:g}"
