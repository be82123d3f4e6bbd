"""Labelled spectra as batches: in which order, and read from where.

The order of an epoch is drawn once, for all workers and both ways of reading: shards are shuffled and
gathered into windows, and the spectra of a window are shuffled; of several sources, each window has some
(mixing.py). *Resident* spectra were loaded once and are picked by index. *Streaming* reads window after
window, ahead of the training. So the batches are the same, however they are read and however many workers
share them.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from survey.store.schema import IMAGE, flat_values, image_array
from survey.store.store import Store, open_store
from survey.training.learning_settings import Curriculum
from survey.training.mixing import mixed_windows, together

ROWS_IN_CACHE = 32
"""Rows that are copied together: their copy on the way stays in the cache."""

Places = NDArray[np.int64]
"""Rows of (shard, row in shard), or numbers of samples."""


SPARSE = 64
"""One of so many pixels is looked at first: nearly every spectrum has a good one among them."""


@dataclass(frozen=True)
class Spectra:
    """Arrays of some spectra, and of the images of their objects; continuum and images only if a network
    needs them.

    Without spectra, flux and ivar have no pixels. Images are bytes (B, C, H, W), all 0 where there is none.
    """

    flux: Tensor
    ivar: Tensor
    continuum: Tensor | None = None
    image: Tensor | None = None

    def __len__(self) -> int:
        return len(self.flux)

    def __getitem__(self, index: slice | Tensor) -> "Spectra":
        return self._map(lambda array: array[index])

    def to(self, device: torch.device) -> "Spectra":
        """The same spectra on a device."""
        return self._map(lambda array: array.to(device, non_blocking=True))

    def arrays(self) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """What a network is called with."""
        return self.flux, self.ivar, self.continuum, self.image

    def have(self, inputs: Sequence[str], seen_P: NDArray[np.bool_] | None = None) -> NDArray[np.bool_]:
        """Which objects have one of these inputs: a `spectrum` with a good pixel, or an `image`.

        Only the pixels `seen_P` count, if they are given.
        """
        have_B = np.zeros(len(self), bool)
        if "spectrum" in inputs:
            ivar_BP = self.ivar.cpu().numpy()  # numpy, because torch takes six times as long
            ivar_BP = ivar_BP if seen_P is None else ivar_BP[:, seen_P]
            have_B = np.asarray((ivar_BP[:, ::SPARSE] > 0).any(1))
            others = np.flatnonzero(~have_B)
            have_B[others] = (ivar_BP[others] > 0).any(1)
        if "image" in inputs and self.image is not None:
            have_B |= (self.image.flatten(1).amax(1) > 0).cpu().numpy()
        return np.asarray(have_B)

    def _map(self, change: Callable[[Tensor], Tensor]) -> "Spectra":
        more = (None if array is None else change(array) for array in (self.continuum, self.image))
        return Spectra(change(self.flux), change(self.ivar), *more)


Read = Callable[[Iterable[Places]], Iterator[Spectra]]
"""Reads lists of (shard, row in shard) in order and yields them in portions of any size."""


def concatenate(parts: list[Spectra]) -> Spectra:
    """Several spectra arrays as one."""
    if len(parts) == 1:
        return parts[0]

    def joined(name: str) -> Tensor | None:
        arrays = [array for part in parts if (array := getattr(part, name)) is not None]
        return torch.cat(arrays) if arrays else None

    flux_BP, ivar_BP = (torch.cat([getattr(part, name) for part in parts]) for name in ("flux", "ivar"))
    return Spectra(flux_BP, ivar_BP, joined("continuum"), joined("image"))


ExtraInputs = tuple[str, ...]
"""What a network needs besides flux and ivar: `continuum`, `image`, both or nothing."""


def read_spectra(store: Store, shard_row_N2: Places, extra: ExtraInputs = ()) -> Spectra:
    """Spectra of a store, in the order of the list; each shard is opened once."""
    arrays = empty_arrays(store, len(shard_row_N2), extra)
    columns = [name for name, array in arrays.items() if array.shape[1]]
    for shard in np.unique(shard_row_N2[:, 0]) if columns else ():
        table = store.spectra(int(shard), columns)
        index = np.flatnonzero(shard_row_N2[:, 0] == shard)
        for name in columns:
            column = _column_array(table, name, arrays[name].shape[1:])
            for start in range(0, len(index), ROWS_IN_CACHE):
                some = index[start : start + ROWS_IN_CACHE]
                arrays[name][some] = column[shard_row_N2[some, 1]]
    return Spectra(**{name: torch.from_numpy(array) for name, array in arrays.items()})


def empty_arrays(store: Store, count: int, extra: ExtraInputs) -> dict[str, NDArray[Any]]:
    """Room for so many spectra of a store, by the names of the arrays of `Spectra`."""
    names = ["flux", "ivar", *(["continuum"] if "continuum" in extra else [])]
    arrays: dict[str, NDArray[Any]] = {name: np.empty((count, len(store.grid)), np.float32) for name in names}
    if "image" in extra:
        if store.image_shape is None:
            raise ValueError(
                f"{store.path}: the store has no images, which the network needs; "
                "ingest with prepare.image.size, such as 64"
            )
        arrays[IMAGE] = np.empty((count, *store.image_shape), np.uint8)
    return arrays


def _column_array(table: pa.Table, name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """A column of arrays of this shape."""
    if name == IMAGE:
        return image_array(table[name], (shape[0], shape[1], shape[2]))
    pixels: NDArray[Any] = flat_values(table[name]).to_numpy()
    return pixels.reshape(-1, *shape)


@dataclass(frozen=True)
class Reader:
    """Reads the spectra of a store in this process, `ahead` lists in advance."""

    path: str
    extra: ExtraInputs = ()
    ahead: int = 1

    def __call__(self, lists: Iterable[Places]) -> Iterator[Spectra]:
        store = open_store(self.path)
        with ThreadPoolExecutor(1) as pool:
            waiting = deque[Future[Spectra]]()
            for shard_row_N2 in lists:
                waiting.append(pool.submit(read_spectra, store, shard_row_N2, self.extra))
                if len(waiting) > self.ahead:
                    yield waiting.popleft().result()
            for future in waiting:
                yield future.result()


def random_generator(seed: int, *purpose: int) -> np.random.Generator:
    """Random numbers for one purpose: equal for equal arguments, on every machine."""
    return np.random.default_rng([seed, *purpose])


def windows(
    shard_N: Places,
    weight_N: NDArray[np.float64] | None,
    seed: int,
    epoch: int,
    size: int,
    pair_N: Places | None = None,
    source_N: Places | None = None,
) -> Iterator[Places]:
    """The order of an epoch, as windows of about `size` numbers of samples.

    With weights, each sample comes as often as its weight says; a fraction is drawn. So rare classes can be
    made common in both ways of reading. Samples of a window that share a number of `pair_N` (not -1) follow
    one another, so that a batch has both. Of several sources (`source_N`), each window has its share.
    """
    generator = random_generator(seed, 1, epoch)
    if weight_N is None:
        times_N = np.ones(len(shard_N), np.int64)
    else:
        times_N = np.floor(weight_N + generator.random(len(weight_N))).astype(np.int64)
    if source_N is not None and len(source_N) and source_N.min() < source_N.max():
        yield from mixed_windows(shard_N, source_N, times_N, size, pair_N, generator)
        return
    shards = np.unique(shard_N)
    by_shard = np.argsort(shard_N, kind="stable")
    bounds = np.append(np.searchsorted(shard_N[by_shard], shards), len(shard_N))
    gathered: list[Places] = []
    for number in generator.permutation(len(shards)):
        index = by_shard[bounds[number] : bounds[number + 1]]
        gathered.append(np.repeat(index, times_N[index]))
        if sum(map(len, gathered)) >= size:
            yield together(generator.permutation(np.concatenate(gathered)), pair_N)
            gathered = []
    if sum(map(len, gathered)):
        yield together(generator.permutation(np.concatenate(gathered)), pair_N)


class Step(NamedTuple):
    """One batch: the samples of the whole batch, those of this worker, and the spectra of this worker."""

    batch_index: Places
    local_index: Places
    spectra: Spectra


ALL_EPOCHS = Curriculum()
"""All samples in every epoch."""


@dataclass(frozen=True)
class Batches:
    """The batches of a training.

    `resident` holds all spectra in the order of the samples; if it is None, spectra are read when they are
    needed. Samples that share a number of `pair_N` come together; `source_N` are the sources of the samples.
    """

    shard_row_N2: Places
    batch: int
    seed: int
    window: int
    read: Read
    resident: Spectra | None = None
    weight_N: NDArray[np.float64] | None = None
    rank: int = 0
    size: int = 1
    curriculum: Curriculum = ALL_EPOCHS
    pair_N: Places | None = None
    source_N: Places | None = None

    def steps(self, epoch: int = 0) -> int:
        """The number of batches of an epoch; samples that are left over come in other epochs."""
        index = self._samples_of(epoch)
        total = len(index) if self.weight_N is None else int(self.weight_N[index].sum() * 0.98)
        return max(total // self.batch, 1)

    def _samples_of(self, epoch: int) -> Places:
        """The samples that an epoch uses: at least two batches, and all those of an earlier epoch."""
        count = len(self.shard_row_N2)
        share = self.curriculum.share(epoch)
        if share == 1:
            return np.arange(count)
        order = random_generator(self.seed, 4).permutation(count)
        return np.sort(order[: max(int(share * count), 2 * self.batch)])

    def epoch(self, number: int) -> Iterator[Step]:
        """The steps of an epoch, at most `steps()` of them."""
        index = self._samples_of(number)
        weight_N = None if self.weight_N is None else self.weight_N[index]
        pair_N = None if self.pair_N is None else self.pair_N[index]
        source_N = None if self.source_N is None else self.source_N[index]
        shard_N = self.shard_row_N2[index, 0]
        in_window = windows(shard_N, weight_N, self.seed, number, self.window, pair_N, source_N)
        order = (index[window] for window in in_window)
        if self.resident is None:
            yield from self._streamed(order, self.steps(number))
            return
        samples = np.concatenate(list(order))
        for step in range(min(self.steps(number), len(samples) // self.batch)):
            batch_index = samples[step * self.batch : (step + 1) * self.batch]
            local_index = self.local(batch_index)
            rows = torch.from_numpy(local_index).to(self.resident.flux.device)
            yield Step(batch_index, local_index, self.resident[rows])

    def local(self, batch_index: Places) -> Places:
        """The share of this worker in a batch."""
        share = len(batch_index) // self.size
        return batch_index[self.rank * share : (self.rank + 1) * share]

    def _streamed(self, order: Iterator[Places], steps: int) -> Iterator[Step]:
        """The steps of windows that are read one after the other.

        This worker reads its own share of each batch. What a window leaves over begins the first batch of
        the next.
        """
        share, pending = self.batch // self.size, deque[Places]()

        def lists() -> Iterator[Places]:
            total = 0
            for window in order:
                pending.append(window)
                number_in_batch = np.arange(total, total + len(window)) % self.batch
                total += len(window)
                yield self.shard_row_N2[window[number_in_batch // share == self.rank]]

        samples, rest = np.empty(0, np.int64), None
        for portion in self.read(lists()):  # in order, in portions of any size
            samples = np.concatenate([samples, *pending])
            pending.clear()
            held = 0 if rest is None else len(rest)
            count = min(len(samples) // self.batch, (held + len(portion)) // share, steps)
            for step in range(count):
                batch_index = samples[step * self.batch : (step + 1) * self.batch]
                spectra = portion[max(step * share - held, 0) : (step + 1) * share - held]
                spectra = spectra if step or rest is None else concatenate([rest, spectra])
                yield Step(batch_index, self.local(batch_index), spectra)
            steps -= count
            if not steps:
                return
            left = portion[torch.arange(max(count * share - held, 0), len(portion))]  # a copy of few rows
            rest = left if count or rest is None else concatenate([rest, left])
            samples = samples[count * self.batch :]
