"""Changes training spectra as instruments and reductions do, so that a network ignores such changes.

For training only. Every random number comes from one generator and is drawn for the whole batch, so the
result for a spectrum depends on the generator and on its row in the batch, not on the number of workers. A
bad pixel stays bad (ivar 0, flux 1).

**How to add a method**: write a function in `survey.training.distortions`, a field of its name with its
settings in `Augment`, and its default strengths in the preset `none` (both in
`survey.training.augment_settings`).
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from survey.training import distortions
from survey.training.augment_settings import METHOD_NAMES, Augment
from survey.training.batches import Spectra
from survey.training.distortions import Draws
from survey.training.image_augment import augment_images

METHODS: dict[str, Callable[..., Spectra]] = {name: getattr(distortions, name) for name in METHOD_NAMES}
"""The functions of the methods, in the order of their use."""


def augment(
    settings: Augment, spectra: Spectra, generator: torch.Generator, rank: int = 0, world_size: int = 1
) -> Spectra:
    """New spectra; the old ones stay as they are.

    `spectra` are the rows of this worker (`rank` of `world_size`). All workers have the same number of rows,
    and generators of the same state, which stay in the same state.
    """
    _check(spectra, rank, world_size)
    values = settings.result_settings()
    used = [name for name in METHODS if values[name]["probability"] > 0]
    rows, device = len(spectra), spectra.flux.device
    flux_BP, ivar_BP = _with_bad_pixels_reset(spectra.flux, spectra.ivar)
    continuum_BP = None if spectra.continuum is None else spectra.continuum.clone()
    changed = Spectra(flux_BP, ivar_BP, continuum_BP, spectra.image)
    drawn = torch.rand((rows * world_size, 1 + len(used)), generator=generator, device=generator.device).cpu()
    for column, name in enumerate(used, 1):
        strengths = dict(values[name])
        probability = strengths.pop("probability")
        chosen = (drawn[:, 0] < values["probability"]) & (drawn[:, column] < probability)
        first, last = (int(chosen[:row].sum()) for row in (rank * rows, (rank + 1) * rows))
        draws = Draws(generator, int(chosen.sum()), slice(first, last), flux_BP)
        index = chosen[rank * rows : (rank + 1) * rows].nonzero()[:, 0].to(device)
        # Also without a chosen row here: all generators have to draw the same numbers.
        _replace_rows(changed, index, METHODS[name](_rows(changed, index), draws, **strengths))
    if spectra.image is None or not settings.image.is_used:
        return changed
    image_BCHW = augment_images(settings.image, spectra.image, generator, rank, world_size)
    return replace(changed, image=image_BCHW)


def _check(spectra: Spectra, rank: int, world_size: int) -> None:
    if not 0 <= rank < world_size:
        raise ValueError(
            f"augment: rank {rank} of {world_size} workers; give a rank from 0 to {world_size - 1}"
        )
    shape = spectra.flux.shape
    for name, values in (("ivar", spectra.ivar), ("continuum", spectra.continuum)):
        if values is not None and values.shape != shape:
            raise ValueError(
                f"augment: flux has the shape {tuple(shape)}, {name} {tuple(values.shape)}; "
                "give arrays of one batch and one grid"
            )


def _with_bad_pixels_reset(flux_BP: Tensor, ivar_BP: Tensor) -> tuple[Tensor, Tensor]:
    """Flux and ivar; every bad pixel has ivar 0 and flux 1."""
    good_BP = ivar_BP > 0
    return torch.where(good_BP, flux_BP, 1.0), torch.where(good_BP, ivar_BP, 0.0)


def _rows(spectra: Spectra, index: Tensor) -> Spectra:
    """The rows of that index."""
    continuum = spectra.continuum
    return Spectra(
        spectra.flux.index_select(0, index),
        spectra.ivar.index_select(0, index),
        None if continuum is None else continuum.index_select(0, index),
    )


def _replace_rows(spectra: Spectra, index: Tensor, new: Spectra) -> None:
    """Put new rows in the place of the old ones."""
    flux_BP, ivar_BP = _with_bad_pixels_reset(new.flux, new.ivar)
    spectra.flux.index_copy_(0, index, flux_BP)
    spectra.ivar.index_copy_(0, index, ivar_BP)
    if spectra.continuum is not None and new.continuum is not None:
        spectra.continuum.index_copy_(0, index, new.continuum)
