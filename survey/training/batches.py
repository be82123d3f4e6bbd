"""Labelled spectra as batches: in which order, and from where.

The order of an epoch is drawn once for all workers and both ways of reading: shards are shuffled, gathered into windows, and the spectra
of a window shuffled among each other. *Resident* spectra were loaded once and are picked by index; *streaming* reads window after window,
ahead of the work. So the batches are the same, however they come and however many workers share them.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from survey.store.store import Store, open_store
from survey.training.curriculum import Growth

Places = NDArray[np.int64]
"""Where spectra are: rows of (shard, row within the shard), or places within such a list."""


@dataclass(frozen=True)
class Spectra:
    """Arrays of some spectra; the continuum only where a network asks for it."""

    flux: Tensor
    ivar: Tensor
    continuum: Tensor | None = None

    def __len__(self) -> int:
        return len(self.flux)

    def __getitem__(self, index: slice | Tensor) -> "Spectra":
        return self._each(lambda part: part[index])

    def to(self, device: torch.device) -> "Spectra":
        """The same on a device."""
        return self._each(lambda part: part.to(device, non_blocking=True))

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Spectra":
        return Spectra(
            change(self.flux), change(self.ivar), None if self.continuum is None else change(self.continuum)
        )


Read = Callable[[Iterable[Places]], Iterator[Spectra]]
"""Reads lists of (shard, row), in order, giving them in whatever portions: how and where is the caller's choice."""


def together(parts: list[Spectra]) -> Spectra:
    """Some spectra after the other."""
    if len(parts) == 1:
        return parts[0]
    continua = [part.continuum for part in parts if part.continuum is not None]
    return Spectra(
        torch.cat([part.flux for part in parts]),
        torch.cat([part.ivar for part in parts]),
        torch.cat(continua) if continua else None,
    )


def read_places(store: Store, places: Places, continuum: bool) -> Spectra:
    """Spectra of a store by (shard, row), in the order of the list; each shard is opened once."""
    columns = ["flux", "ivar", "continuum"] if continuum else ["flux", "ivar"]
    size = int(store.about["grid"]["points"])
    arrays = [np.empty((len(places), size), np.float32) for _ in columns]
    for shard in np.unique(places[:, 0]):
        table = store.spectra(int(shard), columns)
        here = np.flatnonzero(places[:, 0] == shard)
        for array, name in zip(arrays, columns, strict=True):
            whole = table[name].combine_chunks().flatten().to_numpy().reshape(-1, size)
            array[here] = whole[places[here, 1]]
    tensors = [torch.from_numpy(array) for array in arrays]
    return Spectra(tensors[0], tensors[1], tensors[2] if continuum else None)


@dataclass(frozen=True)
class Reader:
    """Reads the spectra of a store in this process, `ahead` lists in advance."""

    path: str
    continuum: bool
    ahead: int = 1

    def __call__(self, lists: Iterable[Places]) -> Iterator[Spectra]:
        store = open_store(self.path)
        with ThreadPoolExecutor(1) as pool:
            waiting: list[Any] = []
            for places in lists:
                waiting.append(pool.submit(read_places, store, places, self.continuum))
                if len(waiting) > self.ahead:
                    yield waiting.pop(0).result()
            for future in waiting:
                yield future.result()


def chance(seed: int, *what: int) -> np.random.Generator:
    """The random numbers of one purpose: equal for equal numbers, on every machine."""
    return np.random.default_rng([seed, *what])


def windows(
    shard_N: Places, weight_N: NDArray[np.float64] | None, seed: int, epoch: int, size: int
) -> Iterator[Places]:
    """The order of an epoch as windows of about `size` places into the list of samples.

    With weights, each sample comes as often as its weight says (a rest is drawn), so rare classes can be made common in either way of reading.
    """
    dice = chance(seed, 1, epoch)
    shards = np.unique(shard_N)
    by_shard = np.argsort(shard_N, kind="stable")
    bounds = np.append(np.searchsorted(shard_N[by_shard], shards), len(shard_N))
    times = (
        np.ones(len(shard_N), np.int64)
        if weight_N is None
        else np.floor(weight_N + dice.random(len(weight_N))).astype(np.int64)
    )
    held: list[Places] = []
    for number in dice.permutation(len(shards)):
        here = by_shard[bounds[number] : bounds[number + 1]]
        held.append(np.repeat(here, times[here]))
        if sum(map(len, held)) >= size:
            yield dice.permutation(np.concatenate(held))
            held = []
    if sum(map(len, held)):
        yield dice.permutation(np.concatenate(held))


class Step(NamedTuple):
    """One batch: the places of the whole batch among the samples, those of this worker, and this worker's spectra."""

    all: Places
    mine: Places
    spectra: Spectra


ALL = Growth()
"""All samples in every epoch."""


@dataclass(frozen=True)
class Feed:
    """Gives the steps of an epoch. `held` = all spectra in the order of the samples (resident); None = read as they are needed."""

    place_N2: Places
    batch: int
    seed: int
    window: int
    read: Read
    held: Spectra | None = None
    weight_N: NDArray[np.float64] | None = None
    rank: int = 0
    size: int = 1
    growth: Growth = ALL

    def steps(self, epoch: int = 0) -> int:
        """Batches of an epoch; what is left over at its end comes in other epochs."""
        some = self._some(epoch)
        total = len(some) if self.weight_N is None else int(self.weight_N[some].sum() * 0.98)
        return max(total // self.batch, 1)

    def _some(self, epoch: int) -> Places:
        """The samples that an epoch sees, at least two batches of them; of equal seeds, those of an earlier epoch are among them."""
        count = len(self.place_N2)
        share = self.growth.share(epoch)
        if share == 1:
            return np.arange(count)
        return np.sort(chance(self.seed, 4).permutation(count)[: max(int(share * count), 2 * self.batch)])

    def epoch(self, number: int) -> Iterator[Step]:
        """The steps of an epoch, at most `steps()` of them."""
        some = self._some(number)
        weight_N = None if self.weight_N is None else self.weight_N[some]
        order = (
            some[window]
            for window in windows(self.place_N2[some, 0], weight_N, self.seed, number, self.window)
        )
        if self.held is None:
            yield from self._streamed(order, self.steps(number))
            return
        places = np.concatenate(list(order))
        for step in range(min(self.steps(number), len(places) // self.batch)):
            whole = places[step * self.batch : (step + 1) * self.batch]
            mine = self.share(whole)
            yield Step(whole, mine, self.held[torch.from_numpy(mine).to(self.held.flux.device)])

    def share(self, whole: Places) -> Places:
        """The part of a batch that is this worker's."""
        each = len(whole) // self.size
        return whole[self.rank * each : (self.rank + 1) * each]

    def _streamed(self, order: Iterator[Places], todo: int) -> Iterator[Step]:
        """Of each window this worker reads its own part of every batch; what a window leaves over begins the first batch of the next."""
        each, listed = self.batch // self.size, deque[Places]()

        def lists() -> Iterator[Places]:
            at = 0
            for window in order:
                listed.append(window)
                place_in_batch = np.arange(at, at + len(window)) % self.batch
                at += len(window)
                yield self.place_N2[window[place_in_batch // each == self.rank]]

        places, there = np.empty(0, np.int64), None
        for spectra in self.read(lists()):  # in order, in whatever portions
            places, there = (
                np.concatenate([places, *listed]),
                spectra if there is None else together([there, spectra]),
            )
            listed.clear()
            count = min(len(places) // self.batch, len(there) // each, todo)
            for step in range(count):
                whole = places[step * self.batch : (step + 1) * self.batch]
                yield Step(whole, self.share(whole), there[step * each : (step + 1) * each])
            todo -= count
            if not todo:
                return
            places, there = places[count * self.batch :], there[count * each :]
