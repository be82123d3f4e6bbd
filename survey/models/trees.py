"""Boosted trees, whatever library grows them: one forest for each label and one for the classes, in rounds, all as far as they are of use.

A spectrum is looked at as the mean flux of neighbouring pixels (weighted; missing where none is good, which trees can deal with) and as its
principal components. Rounds are grown in portions, each from the bytes of the last, so a fit that was stopped goes on and ends as the undisturbed
one. Bytes are the library's own format, sealed with a checksum: what a damaged one would do inside the library is anybody's guess.
Shapes: N spectra of a part, B of a batch, P pixels, F features, K components, T answers of a forest.
"""

import hashlib
import importlib
import math
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from survey.models.baseline import BRIGHT, Aim, FitError, Fitted, Known
from survey.models.components import Components
from survey.models.network import Answers, Task
from survey.settings import Settings, SettingsError

Array = NDArray[Any]
SEAL = hashlib.sha256().digest_size
CLASSES = "classes"


class Trees(Settings):
    """What trees look at and how they grow."""

    features: Literal["both", "pixels", "components"] = Field(
        "both", description="what trees look at: binned pixels, principal components, both"
    )
    bin: int = Field(8, ge=1, description="neighbouring pixels that are put together")
    components: int = Field(64, ge=1, le=1024, description="principal components; the latent features too")
    rounds: int = Field(
        1000, ge=1, le=100_000, description="trees of a forest, at most (of the classes: of each class)"
    )
    patience: int = Field(
        50,
        ge=0,
        description="a forest that has not become better on the validation part for so many rounds is done; 0 = never",
    )
    report: int = Field(
        50,
        ge=1,
        description="rounds after which the forests are validated together and written down: an epoch of the history",
    )
    lr: float = Field(
        0.1, gt=0, le=1, description="learning rate: the share of a tree's answer that is believed"
    )
    depth: int = Field(4, ge=1, le=16, description="questions from the root of a tree to its leaves, at most")
    subsample: float = Field(0.8, gt=0, le=1, description="share of the spectra that a tree learns from")
    colsample: float = Field(0.2, gt=0, le=1, description="share of the features that a tree may ask about")
    l2: float = Field(1.0, ge=0, description="penalty on large answers of leaves")


def library(name: str) -> Any:
    """The library of that name, or an error that says how to get it."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise SettingsError(
            f"train: model={name}: the library is not there ({error}); pip install 'survey[trees-cpu]', or 'survey[trees]'"
        ) from error


class Forest(nn.Module):
    """The trees of one label, or of the classes, as bytes; how many rounds they are, after how many they were best, and how good then."""

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
        self.opened: Any = None
        """The library's object, made of the bytes when it is first asked; never saved or copied."""

    def write(self, content: bytes, values: list[float], rounds: int) -> None:
        """So many rounds more, with how wrong each was on the validation part; nothing of that: the last is the best."""
        first = int(self.grown)
        for number, value in enumerate(values, first + 1):
            if not int(self.best) or value < float(self.value):
                self.best.fill_(number)
                self.value.fill_(value)
        self.grown.fill_(first + rounds)
        if not values:
            self.best.fill_(first + rounds)
        self.raw = torch.frombuffer(bytearray(content + hashlib.sha256(content).digest()), dtype=torch.uint8)
        self.opened = None

    def content(self) -> bytes:
        """The library's bytes, as they were written; empty where nothing has grown."""
        whole = self.raw.cpu().numpy().tobytes()
        if not whole and not int(self.grown):
            return b""
        if (
            len(whole) <= SEAL
            or hashlib.sha256(whole[:-SEAL]).digest() != whole[-SEAL:]
            or not 0 < int(self.best) <= int(self.grown)
        ):
            raise ValueError(
                f"model: the trees of {self.name} are damaged (their checksum differs); put a copy of the run back, or train it anew"
            )
        return whole[:-SEAL]

    def ended(self, options: Trees, aim: Aim) -> bool:
        """Whether more rounds are of no use."""
        grown, most = (
            int(self.grown),
            min(options.rounds, options.report * aim.reports if aim.reports else options.rounds),
        )
        return grown >= most or bool(
            aim.choose and options.patience and grown - int(self.best) >= options.patience
        )

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"opened": None}

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        found = state_dict.get(f"{prefix}raw")
        if isinstance(found, Tensor) and found.dtype == torch.uint8 and found.ndim == 1:
            self.raw = torch.empty_like(found, device=self.raw.device)
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self.opened = None
        self.content()


class Boosted(Fitted):
    """Base of boosted trees; a library defines how tables are made, trees grown, opened and asked."""

    NAME: ClassVar[str]
    trees: Trees

    def __init__(self, pixels: int, task: Task, options: Trees) -> None:
        super().__init__(pixels, task, options)
        self.trees = options
        library(self.NAME)  # now, not when the spectra have been read
        if options.bin > pixels:
            raise ValueError(
                f"{self.NAME}: options.bin={options.bin}: spectra have {pixels} pixels; give a smaller one"
            )
        self.components = Components(pixels, min(options.components, pixels))
        names = [CLASSES] * task.classifies + [f"label_{name}" for name in task.labels]
        self.forests = nn.ModuleDict({name: Forest(name.removeprefix("label_")) for name in names})

    @property
    def library(self) -> Any:
        """What the trees are grown with."""
        return library(self.NAME)

    @property
    def rounds(self) -> int:
        """Rounds of the forest that takes longest."""
        return self.trees.rounds

    def size(self) -> int:
        """The leaves of all trees."""
        return sum(self.leaves(forest) for forest in self._forests().values())

    def elastic(self) -> frozenset[str]:
        """The bytes of the forests."""
        return frozenset(f"forests.{name}.raw" for name in self.forests)

    def behold(self, flux_BP: Tensor, ivar_BP: Tensor, continuum_BP: Tensor | None = None) -> None:
        """The principal components of some training spectra."""
        del ivar_BP, continuum_BP
        self.components.behold(flux_BP.clamp(0, BRIGHT))

    def features(self, flux_BP: Tensor, ivar_BP: Tensor) -> Tensor:
        """Components, then binned pixels where they are looked at; single precision always, for a tree asks for more or less than a number."""
        part_BK = self.components(flux_BP.clamp(0, BRIGHT)).float()
        if self.trees.features == "components":
            return torch.as_tensor(part_BK)
        return torch.cat(
            [part_BK, binned(flux_BP.float().clamp(0, BRIGHT), ivar_BP.float(), self.trees.bin)], 1
        )

    def told(self, feature_BF: Tensor) -> Answers:
        """What the forests say, each as far as it was best; one that has not grown says 0."""
        answers = {"latent": feature_BF[:, : self.components.axes_PK.shape[1]]}
        looked_BF = self._looked(feature_BF)
        said = {
            name: torch.from_numpy(self._asked(name, forest, looked_BF)).to(feature_BF.device)
            for name, forest in self._forests().items()
        }
        if self.task.classifies:
            answers["logits"] = said[CLASSES].log_softmax(1)
        if self.task.regresses:
            answers["mu"] = torch.cat([said[f"label_{name}"] for name in self.task.labels], 1)
        return answers

    def fit(self, train: Known, validation: Known, aim: Aim) -> Iterator[dict[str, float]]:
        """All forests so many rounds on, then a report; to the end of the rounds or of everybody's patience."""
        tables: dict[str, tuple[Any, Any]] = {}
        with self.joined(aim):
            while going := {
                name: forest for name, forest in self._forests().items() if not forest.ended(self.trees, aim)
            }:
                for name, forest in going.items():
                    if name not in tables:
                        tables[name] = self._tables(name, train, validation, aim)
                    rounds = min(self.trees.report, self.trees.rounds - int(forest.grown))
                    content, values = self._grown(name, forest, tables[name], rounds, aim)
                    forest.write(content, values if aim.choose else [], rounds)
                yield {"rounds": float(max(int(forest.grown) for forest in self._forests().values()))}

    def _grown(
        self, name: str, forest: Forest, tables: tuple[Any, Any], rounds: int, aim: Aim
    ) -> tuple[bytes, list[float]]:
        seed = int(np.random.SeedSequence([aim.seed, int(forest.grown)]).generate_state(1)[0] >> 1)
        content, values = self.grow(name == CLASSES, forest.content(), tables, rounds, seed, aim)
        if not all(map(math.isfinite, values)):
            raise FitError(
                f"{self.NAME}: {forest.name}: the error on the validation part is not finite; give a smaller options.lr"
            )
        return content, values

    def _tables(self, name: str, train: Known, validation: Known, aim: Aim) -> tuple[Any, Any]:
        """Training and validation spectra of which something is known, as the library wants them."""
        made: list[Any] = []
        for part in (train, validation):
            if name == CLASSES:
                truth_N, weight_N = part.class_N, part.class_weight_N
            else:
                column = self.task.labels.index(name.removeprefix("label_"))
                truth_N, weight_N = part.label_NL[:, column], part.label_weight_NL[:, column]
            known_N = weight_N > 0
            if not made and not bool(known_N.any()):
                raise SettingsError(
                    f"train: {self.NAME}: no training spectrum that this worker has is labelled with {name.removeprefix('label_')}; "
                    "give more labels or fewer workers"
                )
            arrays = [
                values[known_N].numpy()
                for values in (self._looked(part.feature_NF), truth_N.float(), weight_N.float())
            ]
            made.append(
                self.table(name == CLASSES, (arrays[0], arrays[1], arrays[2]), made[0] if made else None, aim)
                if len(arrays[1])
                else None
            )
        return made[0], made[1]

    def _asked(self, name: str, forest: Forest, looked_BF: Tensor) -> Array:
        """What a forest says of the features, (B, T)."""
        if not int(forest.grown) or not len(looked_BF):
            return np.zeros((len(looked_BF), self.task.classes if name == CLASSES else 1), np.float32)
        if forest.opened is None:
            forest.opened = self.open(forest.content())
        said = np.asarray(self.ask(forest.opened, looked_BF.cpu().numpy(), int(forest.best)), np.float32)
        return said.reshape(len(looked_BF), -1)

    def _looked(self, feature_NF: Tensor) -> Tensor:
        """Those of the features that trees look at."""
        return (
            feature_NF[:, self.components.axes_PK.shape[1] :]
            if self.trees.features == "pixels"
            else feature_NF
        )

    def _forests(self) -> dict[str, Forest]:
        return {name: forest for name, forest in self.forests.items() if isinstance(forest, Forest)}

    def joined(self, aim: Aim) -> AbstractContextManager[Any]:
        """The library's workers know of each other meanwhile, where nobody else sees to that."""
        del aim
        return nullcontext()

    def table(self, classes: bool, arrays: tuple[Array, Array, Array], train: Any, aim: Aim) -> Any:
        """Features, truth and weights as the library wants them; `train` is the training table, for that of the validation part."""
        raise TypeError(f"{type(self).__module__} defines no table()")

    def grow(
        self, classes: bool, content: bytes, tables: tuple[Any, Any], rounds: int, seed: int, aim: Aim
    ) -> tuple[bytes, list[float]]:
        """So many rounds more than `content` (empty: from the start) has, and how wrong each was on the validation part."""
        raise TypeError(f"{type(self).__module__} defines no grow()")

    def open(self, content: bytes) -> Any:
        """The library's object."""
        raise TypeError(f"{type(self).__module__} defines no open()")

    def ask(self, opened: Any, looked_BF: Array, rounds: int) -> Array:
        """What its first rounds say; of classes, logits."""
        raise TypeError(f"{type(self).__module__} defines no ask()")

    def leaves(self, forest: Forest) -> int:
        """How many leaves the trees have."""
        raise TypeError(f"{type(self).__module__} defines no leaves()")


def binned(flux_BP: Tensor, ivar_BP: Tensor, size: int) -> Tensor:
    """Mean flux of so many neighbouring pixels, weighted by ivar; NaN where none is good. What is left over at the end is a smaller bin."""
    rest = -flux_BP.shape[1] % size
    flux_BFS, ivar_BFS = (
        nn.functional.pad(values, (0, rest)).reshape(len(values), -1, size) for values in (flux_BP, ivar_BP)
    )
    most_BF = ivar_BFS.amax(2)  # weights relative to it: sums of large inverse variances would overflow
    weight_BFS = ivar_BFS / torch.where(most_BF > 0, most_BF, 1.0)[:, :, None]
    return torch.where(most_BF > 0, (flux_BFS * weight_BFS).sum(2) / weight_BFS.sum(2), torch.nan)
