"""The base of all networks: a batch of spectra goes in, predictions come out. One device, no files, no Ray.

**How to add a network**: write a file in this folder. Its name is the network's name. This is a complete one:

    import torch
    from pydantic import Field
    from torch import Tensor, nn

    from survey.models.network import FeatureDropout, Heads, Network, Outputs
    from survey.models.settings import Task
    from survey.settings import Settings

    class Options(Settings):
        hidden: int = Field(128, ge=1, description="width of the dense layer")

    class Net(Network):
        def __init__(self, pixels: int, task: Task, options: Options) -> None:
            super().__init__(pixels, task, options)
            self.first = nn.Linear(pixels, options.hidden)
            self.dropout = FeatureDropout(0.1)
            self.heads = Heads(options.hidden, options.hidden, task)

        def compute(self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None) -> Outputs:
            features_BD = self.dropout(torch.relu(self.first(flux_BP - 1)))
            outputs = self.heads(features_BD, features_BD)
            return outputs | {"latent": features_BD}

- `Options` are the settings of the architecture; each has a default and a description. Its types come from
  `pydantic`, `typing`, `survey.settings` and `survey.models.options` only, so that a misspelt option is
  reported without loading torch.
- `Net` gets the number of pixels, the task and its options. `compute` gets flux and ivar (bad pixels have
  ivar 0 and flux 1) and the continuum, which may be None unless `Net` has `extra_inputs = ("continuum",)`.
- `compute` returns a dict of tensors with one row for each spectrum: `logits` if the task has classes, `mu`
  if it has labels, `log_var` if it has errors too. `Heads` makes exactly these. `latent` is added by the
  network: any features (B, D) that say what a spectrum looks like. The domain of an ensemble is measured with
  them.
- `Heads(size of the features for classes, size of those for labels, task)` is called with both features; they
  may be the same. It stands in `self.heads`, alone or at the end of another module. All else is the body.
- A network that looks at images has `extra_inputs = ("image",)`. `Net` gets their shape as a fourth argument,
  and defines `compute_with_image` in place of `compute`; spectra have no pixels if there are only images.
  `answers_from = ("image",)` says that it needs no spectrum; `("spectrum", "image")`: one of them will do.
- A loss of the network's own (such as that of a reconstruction) is `own_loss` (B, 1), and its parts are
  `terms` (B, T) with the names in `TERMS` of the file and in `terms` of `Net`; they are in the history.
- Dropout is `FeatureDropout` from this file, never torch's `nn.Dropout`, and other random numbers come from
  `self.draw(torch.rand, shape, device)`: they do not depend on the number of workers.
- A network that starts from the data (means, components) overrides `fit_statistics`. `learning_rate` is the
  default learning rate.
- `model=NAME` trains it, `options.hidden=64` changes an option. The tests in
  `tests/models/test_contract.py` run over all files of this folder, so a new one is tested at once.

Shapes: B spectra, P pixels, C channels or classes, L labels, T steps of a sequence, D features, K kernel.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from survey.models.settings import Task, View
from survey.settings import Settings

Outputs = dict[str, Tensor]
"""The outputs of a network for a batch.

`logits` (B, classes); `mu` (B, L) and `log_var` (B, L) in scaled labels; `latent` (B, D); in some networks
`attention`.
"""


class DrawingModule(nn.Module):
    """Base of what draws random numbers, the same ones however many workers share a batch.

    Each worker draws for the whole batch and uses its own rows. The training loop sets `rank` and
    `world_size`.
    """

    rank, world_size = 0, 1

    def draw(self, numbers: Callable[..., Tensor], shape: Sequence[int], device: torch.device) -> Tensor:
        """Numbers such as those of `torch.rand`, for as many rows as this worker has."""
        rows, *others = shape
        drawn = numbers((rows * self.world_size, *others), device=device)
        return drawn[self.rank * rows : (self.rank + 1) * rows]


class Network(DrawingModule):
    """Base of all networks. Everything but `self.heads` is the body."""

    extra_inputs: tuple[str, ...] = ()
    """Inputs that are needed besides flux and ivar: `continuum`, `image`, both or nothing."""
    answers_from: tuple[str, ...] = ("spectrum",)
    """`spectrum`, `image` or both: an object that has none of these gets no answer and is not learned."""
    terms: tuple[str, ...] = ()
    """The names of losses of the network's own."""
    learning_rate: float = 1e-3
    """The default learning rate, for AdamW."""
    constant_outputs: frozenset[str] = frozenset()
    """Outputs that are the same for every spectrum; only baselines have such."""
    heads: nn.Module

    def __init__(
        self, pixels: int, task: Task, options: Settings, image: tuple[int, int, int] | None = None
    ) -> None:
        super().__init__()
        self.pixels, self.task, self.options, self.image = pixels, task, options, image
        self.epoch = 0.0
        """How far the training is, in epochs; set by the training loop."""
        self.view: ViewLayer | None = None
        """Which part of a spectrum it sees; None = all of it. Set by `training.run`, which knows the grid."""

    def prepare(self, flux_BP: Tensor, ivar_BP: Tensor) -> tuple[Tensor, Tensor]:
        """Flux and ivar for `compute`: through the view, and bad pixels (ivar 0) at the continuum, 1."""
        if self.view is not None:
            flux_BP, ivar_BP = self.view(flux_BP, ivar_BP)
        return torch.where(ivar_BP > 0, flux_BP, 1.0), ivar_BP

    def forward(
        self,
        flux_BP: Tensor,
        ivar_BP: Tensor,
        continuum_BP: Tensor | None = None,
        image_BCHW: Tensor | None = None,
    ) -> Outputs:
        """The outputs for a batch."""
        if flux_BP.shape[-1] != self.pixels:
            raise ValueError(
                f"model: spectra have {flux_BP.shape[-1]} pixels, the network is built for {self.pixels}; "
                "give a store of the same grid"
            )
        flux_BP, ivar_BP = self.prepare(flux_BP, ivar_BP)
        if continuum_BP is None and "continuum" in self.extra_inputs:
            raise ValueError(
                f"model: {type(self).__module__.rpartition('.')[2]} needs continua, the store has none; "
                "ingest with prepare.continuum=dual"
            )
        if "image" not in self.extra_inputs:
            return self.compute(flux_BP, ivar_BP, continuum_BP)
        if image_BCHW is None or tuple(image_BCHW.shape[1:]) != self.image:
            shape = "no images" if image_BCHW is None else f"images of {tuple(image_BCHW.shape[1:])}"
            raise ValueError(
                f"model: {type(self).__module__.rpartition('.')[2]} needs images of {self.image} (colours, "
                f"height, width), the store has {shape}; ingest with the same prepare.image"
            )
        return self.compute_with_image(flux_BP, ivar_BP, continuum_BP, image_BCHW.to(flux_BP.dtype) / 255)

    def compute(self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None) -> Outputs:
        """The outputs for spectra whose bad pixels are at the continuum; each network defines it."""
        raise TypeError(f"{type(self).__module__} defines no compute()")

    def compute_with_image(
        self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None, image_BCHW: Tensor
    ) -> Outputs:
        """The same, for networks that look at images (0 to 1; all 0 where there is none)."""
        raise TypeError(f"{type(self).__module__} defines no compute_with_image()")

    def take_weights(self) -> None:
        """Take weights from a file that the options name, once, before the first step."""

    def fit_statistics(self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None = None) -> None:
        """Take statistics (means, components) from some training spectra, once, before the first step."""

    def size(self) -> int:
        """The number of learned parameters."""
        return sum(value.numel() for value in self.parameters())

    def resizable_buffers(self) -> frozenset[str]:
        """Names of buffers whose length depends on the training data, not on the options."""
        return frozenset()

    def last_layers(self) -> list[nn.Module]:
        """The layers that compute the outputs; they start small."""
        return [
            layer for head in self.heads.modules() if isinstance(head, Heads) for layer in head.children()
        ]

    def unscaled_layers(self) -> list[nn.Module]:
        """Layers that keep torch's initial weights, smaller than those of `training.initialise`."""
        return []


class Heads(nn.Module):
    """The last layers: from features to the outputs of a task, with log variances if the task has sigma."""

    def __init__(self, features_cls: int, features_reg: int, task: Task) -> None:
        super().__init__()
        if task.classifies:
            self.cls = nn.Linear(features_cls, task.classes)
        if task.regresses:
            self.mu = nn.Linear(features_reg, len(task.labels))
            if task.sigma:
                self.log_var = nn.Linear(features_reg, len(task.labels))

    def forward(self, cls_BD: Tensor, reg_BD: Tensor) -> Outputs:
        """Outputs from the features for classes and those for labels; both may be the same."""
        outputs: Outputs = {}
        if hasattr(self, "cls"):
            outputs["logits"] = self.cls(cls_BD)
        if hasattr(self, "mu"):
            outputs["mu"] = self.mu(reg_BD)
        if hasattr(self, "log_var"):
            outputs["log_var"] = bound_log_var(self.log_var(reg_BD))
        return outputs


def bound_log_var(log_var: Tensor) -> Tensor:
    """Log variances, limited smoothly to -12 ... 8: beyond, variances overflow or are far too certain."""
    exact = log_var if log_var.dtype == torch.float64 else log_var.float()
    return 10 * torch.tanh((exact + 2) / 10) - 2


class FeatureDropout(DrawingModule):
    """Dropout that gives the same result however many workers share a batch."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """In training, x with a share p of its numbers set to 0 and the others scaled up; in evaluation x."""
        if not self.training or self.p == 0:
            return x
        return x * (self.draw(torch.rand, x.shape, x.device) >= self.p) / (1 - self.p)

    def extra_repr(self) -> str:
        """The share that is dropped."""
        return f"p={self.p}"


def _smoothing(pixels: int) -> Tensor:
    """The weights that smooth a pixel by a parabola through so many pixels around it."""
    from scipy.signal import savgol_coeffs  # takes a second to load, and few views are smoothed

    return torch.from_numpy(savgol_coeffs(pixels, 2).copy()).float()


class ViewLayer(nn.Module):
    """The part of a spectrum that a network sees: some wavelengths, clipped and smoothed.

    A run applies it to every spectrum that it predicts. It has nothing that is learned or saved.
    """

    seen_P: Tensor
    kernel_K: Tensor

    def __init__(self, view: View, wave_P: NDArray[Any]) -> None:
        super().__init__()
        self.settings = view
        seen_P = np.zeros(len(wave_P), bool) if view.windows else np.ones(len(wave_P), bool)
        for low, high in view.windows:
            inside_P = (wave_P >= low) & (wave_P <= high)
            if not inside_P.any():
                raise ValueError(
                    f"view.windows: {low:g} to {high:g}: no pixel of the grid, which covers "
                    f"{wave_P[0]:.0f} to {wave_P[-1]:.0f}; give a window inside the grid"
                )
            seen_P |= inside_P
        self.register_buffer("seen_P", torch.from_numpy(seen_P), persistent=False)
        self.register_buffer("kernel_K", _smoothing(view.smooth) if view.smooth else None, persistent=False)

    def forward(self, flux_BP: Tensor, ivar_BP: Tensor) -> tuple[Tensor, Tensor]:
        """Flux and ivar of the view; pixels outside it become bad: flux 1, ivar 0."""
        ivar_BP = torch.where(self.seen_P, ivar_BP, 0.0)
        good_BP = ivar_BP > 0
        if self.settings.clip:
            flux_BP = flux_BP.clamp(*self.settings.clip)
        flux_BP = torch.where(good_BP, flux_BP, 1.0)
        if self.settings.smooth:
            flux_BP = torch.where(good_BP, self._smoothed(flux_BP), 1.0)
            ivar_BP = ivar_BP / self.kernel_K.to(flux_BP).square().sum()
        return flux_BP, ivar_BP

    def _smoothed(self, flux_BP: Tensor) -> Tensor:
        kernel_K = self.kernel_K.to(flux_BP)
        with torch.autocast(flux_BP.device.type, enabled=False):  # stars differ by a few thousandths only
            line_B1P = flux_BP[:, None] - 1
            around_B1P = functional.conv1d(line_B1P, kernel_K[None, None], padding=self.settings.smooth // 2)
            return 1 + around_B1P[:, 0]
