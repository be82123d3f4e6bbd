"""Boosted trees of any library: one forest for each label and one for the classes, grown round by round.

Features of a spectrum are the weighted mean flux of neighbouring pixels (NaN where none is good, which trees
can use) and its principal components. Rounds are grown in portions, each from the bytes of the last one, so a
fit that was stopped goes on and ends as an undisturbed one. The bytes are the library's own format, with a
checksum, because a library may crash on damaged bytes. Shapes: N spectra of a part, B of a batch, P pixels, F
features, K components, T outputs of a forest.
"""

import hashlib
import importlib
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from survey.models.baseline import MAX_FLUX, Baseline, FitError, FitSettings, TrainingSet
from survey.models.network import Outputs
from survey.models.options import TreeOptions
from survey.models.settings import Task
from survey.models.statistics import Components
from survey.settings import SettingsError

Array = NDArray[Any]
CHECKSUM = hashlib.sha256().digest_size
CLASSES = "classes"

PACKAGES = {"xgboost": ("xgboost-cpu", "xgboost (300 MB more, for GPUs)")}
"""How a library is called on PyPI, where it is not its own name."""


def import_library(name: str) -> Any:
    """The library of that name, or an error that says how to install it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise SettingsError(
            f"train: model={name}: the library is not installed ({error}); "
            f"run pip install {' or '.join(PACKAGES.get(name, (name,)))}"
        ) from error


class Forest(nn.Module):
    """The trees of one label, or of the classes, as bytes.

    `grown` is the number of rounds, `best` the number with the lowest validation loss, `value` that loss.
    """

    raw: Tensor
    grown: Tensor
    best: Tensor
    value: Tensor

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.register_buffer("raw", torch.empty(0, dtype=torch.uint8))
        for count in ("grown", "best"):
            self.register_buffer(count, torch.zeros((), dtype=torch.int64))
        self.register_buffer("value", torch.zeros((), dtype=torch.float64))
        self.model: Any = None
        """The library's object, made from the bytes at the first prediction; never saved or copied."""

    def add_rounds(self, content: bytes, losses: list[float], rounds: int) -> None:
        """Replace the bytes by those with so many rounds more, with their validation losses.

        Without losses the last round is the best one.
        """
        first = int(self.grown)
        for number, value in enumerate(losses, first + 1):
            if not int(self.best) or value < float(self.value):
                self.best.fill_(number)
                self.value.fill_(value)
        self.grown.fill_(first + rounds)
        if not losses:
            self.best.fill_(first + rounds)
        self.raw = torch.frombuffer(bytearray(content + hashlib.sha256(content).digest()), dtype=torch.uint8)
        self.model = None

    def content(self) -> bytes:
        """The library's bytes; empty if nothing has grown."""
        sealed = self.raw.cpu().numpy().tobytes()
        if not sealed and not int(self.grown):
            return b""
        content, checksum = sealed[:-CHECKSUM], sealed[-CHECKSUM:]
        intact = len(sealed) > CHECKSUM and hashlib.sha256(content).digest() == checksum
        if not intact or not 0 < int(self.best) <= int(self.grown):
            raise ValueError(
                f"model: the trees of {self.name} are damaged (their checksum differs); "
                "put a copy of the run back, or train it anew"
            )
        return content

    def is_finished(self, options: TreeOptions, settings: FitSettings) -> bool:
        """Whether more rounds are of no use."""
        grown, most = int(self.grown), options.rounds
        if settings.max_reports:
            most = min(most, options.report * settings.max_reports)
        without_gain = grown - int(self.best)
        stopped = settings.keep_best and options.patience and without_gain >= options.patience
        return grown >= most or bool(stopped)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"model": None}

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *arguments: Any) -> None:
        raw = state_dict.get(f"{prefix}raw")
        if isinstance(raw, Tensor) and raw.dtype == torch.uint8 and raw.ndim == 1:
            self.raw = torch.empty_like(raw, device=self.raw.device)
        super()._load_from_state_dict(state_dict, prefix, *arguments)
        self.model = None
        self.content()


class BoostedTrees(Baseline):
    """Base of boosted trees; a library defines how data sets are made, trees grown, read and evaluated."""

    NAME: ClassVar[str]
    trees: TreeOptions

    def __init__(self, pixels: int, task: Task, options: TreeOptions) -> None:
        super().__init__(pixels, task, options)
        self.trees = options
        import_library(self.NAME)  # now, not after the spectra have been read
        if options.bin > pixels:
            raise ValueError(
                f"{self.NAME}: options.bin={options.bin}: spectra have {pixels} pixels; give a smaller one"
            )
        self.components = Components(pixels, min(options.components, pixels))
        names = [CLASSES] * task.classifies + [f"label_{name}" for name in task.labels]
        self.forests = nn.ModuleDict({name: Forest(name.removeprefix("label_")) for name in names})

    @property
    def library(self) -> Any:
        """The library that grows the trees."""
        return import_library(self.NAME)

    @property
    def rounds(self) -> int:
        """The largest number of rounds of a forest."""
        return self.trees.rounds

    def size(self) -> int:
        """The number of leaves of all trees."""
        return sum(self.count_leaves(forest) for forest in self._forests().values())

    def resizable_buffers(self) -> frozenset[str]:
        """The bytes of the forests."""
        return frozenset(f"forests.{name}.raw" for name in self.forests)

    def fit_statistics(self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None = None) -> None:
        """The principal components of some training spectra."""
        del ivar_BP, continuum_BP
        self.components.fit(flux_BP.clamp(0, MAX_FLUX))

    def features(self, flux_BP: Tensor, ivar_BP: Tensor) -> Tensor:
        """Components, then binned pixels if used; always float32, because a tree compares numbers exactly."""
        component_BK = self.components(flux_BP.clamp(0, MAX_FLUX)).float()
        if self.trees.features == "components":
            return torch.as_tensor(component_BK)
        pixel_BF = bin_pixels(flux_BP.float().clamp(0, MAX_FLUX), ivar_BP.float(), self.trees.bin)
        return torch.cat([component_BK, pixel_BF], 1)

    def predict(self, feature_BF: Tensor) -> Outputs:
        """The outputs of the forests, each up to its best round; a forest without trees gives 0."""
        outputs = {"latent": feature_BF[:, : self.components.axes_PK.shape[1]]}
        used_BF = self._used(feature_BF)
        by_forest = {
            name: torch.from_numpy(self._evaluate(name, forest, used_BF)).to(feature_BF.device)
            for name, forest in self._forests().items()
        }
        if self.task.classifies:
            outputs["logits"] = by_forest[CLASSES].log_softmax(1)
        if self.task.regresses:
            outputs["mu"] = torch.cat([by_forest[f"label_{name}"] for name in self.task.labels], 1)
        return outputs

    def fit(
        self, train: TrainingSet, validation: TrainingSet, settings: FitSettings
    ) -> Iterator[dict[str, float]]:
        """Grow all forests by a portion of rounds, then report; until the rounds end or none gets better."""
        datasets: dict[str, tuple[Any, Any]] = {}
        with self.connected(settings):
            while unfinished := self._unfinished(settings):
                for name, forest in unfinished.items():
                    if name not in datasets:
                        datasets[name] = self._datasets(name, train, validation, settings)
                    rounds = min(self.trees.report, self.trees.rounds - int(forest.grown))
                    content, losses = self._grow(name, forest, datasets[name], rounds, settings)
                    forest.add_rounds(content, losses if settings.keep_best else [], rounds)
                yield {"rounds": float(max(int(forest.grown) for forest in self._forests().values()))}

    def _unfinished(self, settings: FitSettings) -> dict[str, Forest]:
        forests = self._forests().items()
        return {name: forest for name, forest in forests if not forest.is_finished(self.trees, settings)}

    def _grow(
        self, name: str, forest: Forest, datasets: tuple[Any, Any], rounds: int, settings: FitSettings
    ) -> tuple[bytes, list[float]]:
        sequence = np.random.SeedSequence([settings.seed, int(forest.grown)])
        seed = int(sequence.generate_state(1)[0] >> 1)
        content, losses = self.grow(name == CLASSES, forest.content(), datasets, rounds, seed, settings)
        if not all(map(math.isfinite, losses)):
            raise FitError(
                f"{self.NAME}: {forest.name}: the validation loss is not finite; give a smaller options.lr"
            )
        return content, losses

    def _datasets(
        self, name: str, train: TrainingSet, validation: TrainingSet, settings: FitSettings
    ) -> tuple[Any, Any]:
        """Labelled training and validation spectra in the library's form; None if there are none."""
        arrays = self._arrays(name, train)
        if not len(arrays[1]):
            raise SettingsError(
                f"train: {self.NAME}: this worker has no training spectrum labelled with "
                f"{name.removeprefix('label_')}; give more labels or fewer workers"
            )
        dataset = self.dataset(name == CLASSES, arrays, None, settings)
        arrays = self._arrays(name, validation)
        check = self.dataset(name == CLASSES, arrays, dataset, settings) if len(arrays[1]) else None
        return dataset, check

    def _arrays(self, name: str, part: TrainingSet) -> tuple[Array, Array, Array]:
        """Features, targets and weights of the spectra of a part that are labelled."""
        if name == CLASSES:
            target_N, weight_N = part.class_N, part.class_weight_N
        else:
            column = self.task.labels.index(name.removeprefix("label_"))
            target_N, weight_N = part.label_NL[:, column], part.label_weight_NL[:, column]
        known_N = weight_N > 0
        feature_NF, target_N, weight_N = (
            values[known_N] for values in (self._used(part.feature_NF), target_N.float(), weight_N.float())
        )
        return feature_NF.numpy(), target_N.numpy(), weight_N.numpy()

    def _evaluate(self, name: str, forest: Forest, used_BF: Tensor) -> Array:
        """The outputs of a forest, (B, T)."""
        if not int(forest.grown) or not len(used_BF):
            return np.zeros((len(used_BF), self.task.classes if name == CLASSES else 1), np.float32)
        if forest.model is None:
            forest.model = self.load_model(forest.content())
        output = self.raw_predict(forest.model, used_BF.cpu().numpy(), int(forest.best))
        return np.asarray(output, np.float32).reshape(len(used_BF), -1)

    def _used(self, feature_NF: Tensor) -> Tensor:
        """The features that trees use."""
        first = self.components.axes_PK.shape[1] if self.trees.features == "pixels" else 0
        return feature_NF[:, first:]

    def _forests(self) -> dict[str, Forest]:
        return {name: forest for name, forest in self.forests.items() if isinstance(forest, Forest)}

    def connected(self, settings: FitSettings) -> AbstractContextManager[Any]:
        """The library's workers are connected inside this context; by default nothing is to be done."""
        del settings
        return nullcontext()

    def dataset(
        self, classes: bool, arrays: tuple[Array, Array, Array], train: Any, settings: FitSettings
    ) -> Any:
        """Features, targets and weights in the library's form; a validation set refers to `train`."""
        raise TypeError(f"{type(self).__module__} defines no dataset()")

    def grow(
        self,
        classes: bool,
        content: bytes,
        datasets: tuple[Any, Any],
        rounds: int,
        seed: int,
        settings: FitSettings,
    ) -> tuple[bytes, list[float]]:
        """So many rounds after those of `content` (empty: from the start), and their validation losses."""
        raise TypeError(f"{type(self).__module__} defines no grow()")

    def load_model(self, content: bytes) -> Any:
        """The library's object."""
        raise TypeError(f"{type(self).__module__} defines no load_model()")

    def raw_predict(self, model: Any, used_BF: Array, rounds: int) -> Array:
        """The output of its first rounds; logits, for classes."""
        raise TypeError(f"{type(self).__module__} defines no raw_predict()")

    def count_leaves(self, forest: Forest) -> int:
        """The number of leaves of its trees."""
        raise TypeError(f"{type(self).__module__} defines no count_leaves()")


def bin_pixels(flux_BP: Tensor, ivar_BP: Tensor, size: int) -> Tensor:
    """Mean flux of `size` neighbouring pixels, weighted by ivar; NaN where none is good."""
    missing = -flux_BP.shape[1] % size
    flux_BFS, ivar_BFS = (
        nn.functional.pad(values, (0, missing)).reshape(len(values), -1, size)
        for values in (flux_BP, ivar_BP)
    )
    most_BF = ivar_BFS.amax(2)  # weights are relative to it, because sums of large ivars would overflow
    weight_BFS = ivar_BFS / torch.where(most_BF > 0, most_BF, 1.0)[:, :, None]
    mean_BF = (flux_BFS * weight_BFS).sum(2) / weight_BFS.sum(2)
    return torch.where(most_BF > 0, mean_BF, torch.nan)
