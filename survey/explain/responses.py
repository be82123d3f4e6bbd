"""What an ensemble says of spectra as one array of numbers, and how it changes when parts of them change.

The targets are all labels, in their units, and the probabilities of all classes. Shapes: B spectra, P pixels,
T targets, K blocks.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from survey.ensemble.combine import combine
from survey.ensemble.ensemble import Ensemble
from survey.explain.settings import Method
from survey.machine import ThreadChooser
from survey.models.baseline import Baseline
from survey.progress import Progress
from survey.training.batches import Spectra

Floats = NDArray[np.float64]

BATCH = 512
"""Spectra that are asked at once."""


@dataclass(frozen=True)
class Explainable:
    """A label, or the probability of a class (`is_class`; it has no unit)."""

    name: str
    unit: str
    is_class: bool = False

    @property
    def column(self) -> str:
        """Its name in tables."""
        return f"p_{self.name}" if self.is_class else self.name


def targets(ensemble: Ensemble) -> tuple[Explainable, ...]:
    """The targets of an ensemble, labels first."""
    labels = [Explainable(name, ensemble.units.get(name, "")) for name in ensemble.labels]
    return (*labels, *(Explainable(name, "", is_class=True) for name in ensemble.classes))


def respond(ensemble: Ensemble, spectra: Spectra, threads: ThreadChooser | None = None) -> Floats:
    """The values of all targets (B, T), without calibration."""
    answers, _ = ensemble.members.predict(spectra, batch=BATCH, threads=threads)
    combined = combine(answers, ensemble.document.weights)
    parts = [part for part in (combined.value_NL, combined.p_NC) if part is not None]
    return np.concatenate([part.reshape(len(spectra), -1) for part in parts], 1)


@dataclass(frozen=True)
class Change:
    """How the pixels of a block are taken away."""

    method: Method
    seed: int

    def apply(self, spectra: Spectra, pixels_P: NDArray[np.bool_]) -> Spectra:
        """Spectra whose chosen pixels are continuum, continuum with noise, or those of another spectrum."""
        chosen_P = torch.from_numpy(pixels_P)
        flux_BP, ivar_BP = spectra.flux.clone(), spectra.ivar
        generator = torch.Generator().manual_seed(self.seed)
        if self.method == "permutation":
            order_B = torch.roll(torch.randperm(len(flux_BP), generator=generator), 1)
            back_B = torch.empty_like(order_B)
            back_B[torch.roll(order_B, -1)] = order_B  # no spectrum keeps its own block
            ivar_BP = ivar_BP.clone()
            flux_BP[:, chosen_P] = spectra.flux[back_B][:, chosen_P]
            ivar_BP[:, chosen_P] = spectra.ivar[back_B][:, chosen_P]
            return replace(spectra, flux=flux_BP, ivar=ivar_BP)
        flux_BP[:, chosen_P] = 1.0
        if self.method == "noise":
            noise_BP = torch.randn(flux_BP.shape, generator=generator) / ivar_BP.clamp_min(1e-12).sqrt()
            flux_BP[:, chosen_P] += torch.where(ivar_BP > 0, noise_BP, 0.0)[:, chosen_P]
        return replace(spectra, flux=flux_BP)


def responses_without(
    ensemble: Ensemble,
    spectra: Spectra,
    blocks: Sequence[NDArray[np.bool_]],
    change: Change,
    threads: ThreadChooser | None = None,
) -> Floats:
    """How much each target changes (B, T, K) when a block of pixels is taken away."""
    if not blocks:
        return np.empty((len(spectra), len(targets(ensemble)), 0))
    before_BT = respond(ensemble, spectra, threads)
    changes = []
    with Progress(f"explain: {change.method}", len(blocks) * len(spectra), "spectra") as bar:
        for number, pixels_P in enumerate(blocks):
            here = replace(change, seed=change.seed + number)
            changes.append(respond(ensemble, here.apply(spectra, pixels_P), threads) - before_BT)
            bar.add(len(spectra))
    return np.stack(changes, 2)


def no_gradients(ensemble: Ensemble) -> dict[str, str]:
    """Why gradients of all targets, or of classes, do not exist: trees have none, and votes have none.

    Empty if all targets have gradients.
    """
    runs = zip(ensemble.names, ensemble.members.runs, strict=True)
    if trees := [name for name, run in runs if isinstance(run.net, Baseline)]:
        return {"gradients": f"{', '.join(trees)} has no gradients"}
    if ensemble.classes and ensemble.document.weights.combine == "vote":
        what = "gradients of classes" if ensemble.labels else "gradients"
        return {what: "the members vote, and a vote does not change with a small change of the spectrum"}
    return {}


def integrated_gradients(
    ensemble: Ensemble,
    spectra: Spectra,
    steps: int,
    sums: Callable[[Floats], Floats] = np.asarray,
    batch: int = 32,
) -> Floats:
    """The share of each pixel in how a target differs from that of a spectrum without lines (B, T, P).

    The gradients are summed along the way from the continuum to the spectrum, at the middles of equal steps
    (Sundararajan et al. 2017). Members are averaged with their weights. `sums` makes blocks (B, T, K) of the
    pixels of each batch, so that memory does not grow with the pixels of all spectra.
    """
    parts = []
    count = len(targets(ensemble))
    with (
        Progress("explain: gradients", len(spectra) * count, "spectra x targets") as bar,
        torch.backends.cudnn.flags(enabled=False),  # recurrent layers have no other gradients in eval mode
    ):
        for start in range(0, len(spectra), batch):
            some = spectra[start : start + batch].to(ensemble.members.device)
            line_BP = torch.ones_like(some.flux)
            way_BP = torch.where(some.ivar > 0, some.flux, 1.0) - line_BP
            sum_BTP = torch.zeros(len(some), count, some.flux.shape[1], device=some.flux.device)
            for step in range(steps):
                flux_BP = (line_BP + (step + 0.5) / steps * way_BP).requires_grad_()
                values_BT = _differentiable(ensemble, replace(some, flux=flux_BP))
                for target in range(count):
                    (gradient_BP,) = torch.autograd.grad(
                        values_BT[:, target].sum(), flux_BP, retain_graph=target + 1 < count
                    )
                    sum_BTP[:, target] += gradient_BP
            parts.append(sums((sum_BTP * way_BP[:, None] / steps).double().cpu().numpy()))
            bar.add(len(some) * count)
    return np.concatenate(parts)


def _differentiable(ensemble: Ensemble, spectra: Spectra) -> Tensor:
    """The values of all targets (B, T), as torch can differentiate them."""
    members, weights = ensemble.members, ensemble.document.weights
    labels, classes = len(members.labels), len(members.classes)
    total_BT = spectra.flux.new_zeros(len(spectra), labels + classes)
    for number, run in enumerate(members.runs):
        outputs = run.net(*spectra.arrays())
        if "mu" in outputs:
            scaling = run.scaling
            columns = [members.labels.index(name) for name in run.labels]
            scale_L, center_L, weight_L = (
                torch.as_tensor(array, dtype=total_BT.dtype, device=total_BT.device)
                for array in (scaling.scale_L, scaling.center_L, weights.label_ML[number][columns])
            )
            value_BL = (outputs["mu"] * scale_L + center_L) * weight_L
            total_BT = total_BT.index_add(1, torch.tensor(columns, device=total_BT.device), value_BL)
        if "logits" in outputs:
            p_BC = outputs["logits"].softmax(1) * float(weights.class_M[number])
            places = torch.arange(labels, labels + classes, device=total_BT.device)
            total_BT = total_BT.index_add(1, places, p_BC)
    return total_BT


def attention_of(ensemble: Ensemble, parts: Iterable[Spectra]) -> dict[str, Floats]:
    """For each member with attention, how much all steps of its sequence look at each step (B, S)."""
    found: dict[str, list[Any]] = {}
    with torch.inference_mode():
        for spectra in parts:
            some = spectra.to(ensemble.members.device)
            for name, run in zip(ensemble.names, ensemble.members.runs, strict=True):
                outputs = run.net(*some.arrays())
                if "attention" in outputs:
                    found.setdefault(name, []).append(outputs["attention"].double().mean(1).cpu().numpy())
    return {name: np.concatenate(values) for name, values in found.items()}
