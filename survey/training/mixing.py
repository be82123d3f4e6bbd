"""The order of an epoch of several sources: every window holds rows of all of them, in proportion.

A source is drawn shard by shard, in random order. If its samples come several times in an epoch, it is gone
through as often, so that repeats are far apart. Where a source has fewer shards than there are windows, each
window gets a part of a shard, which is read once for each window. Where shards are large, windows are larger,
so that large sources are read once.

Samples that are to come together (`pair_N`) decide which shards share a window: a shard of one source draws
the shards of others that have the most of its partners. Shards are not cut then.

Shapes: N samples, E samples as often as they come, U portions, S shards.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]

SLACK = (1 / 8, 1 / 3)
"""By how much of its part of a window a source may begin earlier or later, so that no shard is cut and read
twice; more where shards are large.
"""
NOW = 10
"""What a pair that meets now is worth, against one that might meet later: in some orders few would."""


@dataclass(frozen=True)
class Passes:
    """The shards of one source in the order in which they come, and the rows of each."""

    row_E: Numbers
    first_U: Numbers
    count_U: Numbers
    shard_U: Numbers
    pass_U: Numbers

    @classmethod
    def draw(
        cls, index: Numbers, shard_N: Numbers, times_N: Numbers, generator: np.random.Generator
    ) -> "Passes":
        """All visits of the samples `index`, which come `times_N` each."""
        times = times_N[index]
        row_E = np.repeat(index, times)
        passes = max(round(len(row_E) / max(int(np.count_nonzero(times)), 1)), 1)
        shards = int(shard_N.max()) + 1
        visit_E = shard_N[row_E]
        if passes > 1:  # the copies of a sample go to different passes, beginning with any of them
            copy_E = np.arange(len(row_E)) - np.repeat(np.cumsum(times) - times, times)
            begin_E = np.repeat(generator.integers(passes, size=len(index)), times)
            visit_E = visit_E + shards * ((begin_E + copy_E) % passes)
        order_E = np.argsort(visit_E, kind="stable")
        visit_E = visit_E[order_E]
        first_U = np.flatnonzero(np.diff(visit_E, prepend=-1))
        count_U = np.diff(first_U, append=len(visit_E))
        pass_U, shard_U = np.divmod(visit_E[first_U], shards)
        order_U = np.lexsort((generator.random(len(first_U)), pass_U))
        arrays = (values[order_U] for values in (first_U, count_U, shard_U, pass_U))
        return cls(row_E[order_E], *arrays)

    @property
    def passes(self) -> int:
        """How often the source is gone through."""
        return int(self.pass_U.max(initial=0)) + 1

    def cut(self, windows: int, size: float, generator: np.random.Generator) -> "Passes":
        """The same rows with cuts where windows of `size` begin, if no shard begins near there."""
        is_large = len(self.row_E) > len(self.count_U) * size / 4
        ends_U = np.cumsum(self.count_U)
        cuts = len(self.row_E) * np.arange(1, windows) // windows
        edges = np.append(0, ends_U)
        place = np.searchsorted(edges, cuts)
        distance = np.minimum(edges[place] - cuts, cuts - edges[np.maximum(place - 1, 0)])
        cuts = cuts[distance > SLACK[is_large] * len(self.row_E) / windows]
        if not len(cuts):
            return self
        row_E, begins_U = self.row_E.copy(), ends_U - self.count_U
        for visit in np.unique(np.searchsorted(ends_U, cuts, "right")):  # a part has any rows of its shard
            rows = slice(self.first_U[visit], self.first_U[visit] + self.count_U[visit])
            row_E[rows] = generator.permutation(row_E[rows])
        begin = np.unique(np.append(begins_U, cuts))
        visit = np.searchsorted(ends_U, begin, "right")
        first, count = self.first_U[visit] + begin - begins_U[visit], np.diff(begin, append=ends_U[-1])
        return Passes(row_E, first, count, self.shard_U[visit], self.pass_U[visit])


class Drawn:
    """How far a source has been drawn."""

    def __init__(self, visits: Passes) -> None:
        self.visits, self.total = visits, max(len(visits.row_E), 1)
        self.left = np.empty(0, np.int64)  # portions of this pass
        ends = np.append(np.flatnonzero(np.diff(visits.pass_U)) + 1, len(visits.pass_U))
        self.passes = iter(np.split(np.arange(len(visits.pass_U)), ends[:-1]))
        self.drawn, self.before = 0, 0
        self._refill()

    def is_due(self, share: float) -> bool:
        """Whether the next portion belongs to this share of the epoch, by its middle."""
        if not len(self.left):
            return False
        return bool(self.drawn + self.visits.count_U[self.left[0]] / 2 <= share * self.total)

    @property
    def in_window(self) -> float:
        """The share of the source that this window has."""
        return (self.drawn - self.before) / self.total

    def next(self, value_S: Numbers | None) -> tuple[int, Numbers]:
        """The shard and the rows of the next portion: that of the highest value, or just the next."""
        visits = self.visits
        place = 0 if value_S is None else int(value_S[visits.shard_U[self.left]].argmax())
        number = int(self.left[place])
        self.left = self.left[1:] if not place else np.delete(self.left, place)
        self._refill()
        first, count = int(visits.first_U[number]), int(visits.count_U[number])
        self.drawn += count
        return int(visits.shard_U[number]), visits.row_E[first : first + count]

    def _refill(self) -> None:
        if not len(self.left):
            self.left = next(self.passes, self.left)


class Partners:
    """The pairs of the first source and others, as numbers for each two shards; and how far they are drawn.

    `first_S` is where the partners of a shard begin in `other` and `count`.
    """

    def __init__(self, shard_N: Numbers, one: Numbers, two: Numbers, pair_N: Numbers) -> None:
        """The pairs of samples `one` with samples `two`."""
        shards = int(shard_N.max()) + 1
        one, two = (index[pair_N[index] >= 0] for index in (one, two))
        one = one[np.argsort(pair_N[one], kind="stable")]
        begin, end = (np.searchsorted(pair_N[one], pair_N[two], side) for side in ("left", "right"))
        many = end - begin
        place = np.arange(many.sum()) + np.repeat(begin - (np.cumsum(many) - many), many)
        first, second = shard_N[one[place]], shard_N[np.repeat(two, many)]
        both = np.concatenate([first * shards + second, second * shards + first])
        key, self.count = np.unique(both, return_counts=True)
        self.first_S, self.other = np.searchsorted(key // shards, np.arange(shards + 1)), key % shards
        self.here_S = np.zeros(shards, np.int64)
        self.later_S = np.bincount(key // shards, self.count, minlength=shards).astype(np.int64)
        self.is_drawn_S = np.zeros(shards, bool)

    def begin(self) -> None:
        """Begin a window."""
        self.here_S[:] = 0

    def values(self) -> Numbers:
        """What it is worth to draw a shard now: partners that are here, but not those that come later."""
        return NOW * self.here_S - self.later_S

    def add(self, shard: int) -> None:
        """Count the partners of a shard that has been drawn."""
        chosen = slice(self.first_S[shard], self.first_S[shard + 1])
        self.here_S[self.other[chosen]] += self.count[chosen]
        if not self.is_drawn_S[shard]:
            self.later_S[self.other[chosen]] -= self.count[chosen]
            self.is_drawn_S[shard] = True


def mixed_windows(
    shard_N: Numbers,
    source_N: Numbers,
    times_N: Numbers,
    size: int,
    pair_N: Numbers | None,
    generator: np.random.Generator,
) -> Iterator[Numbers]:
    """The order of an epoch of several sources, as windows of about `size` samples.

    Where shards are large, a window has as many samples as the largest shard for each source.
    """
    indices = [np.flatnonzero(source_N == number) for number in range(source_N.max() + 1)]
    each = [Passes.draw(index, shard_N, times_N, generator) for index in indices if len(index)]
    largest = max(int(visits.count_U.max(initial=0)) for visits in each)
    count = max(int(times_N.sum()) // max(size, len(each) * largest), 1)
    partners = None
    if pair_N is None:
        each = [visits.cut(count, int(times_N.sum()) / count, generator) for visits in each]
    else:  # a source that is gone through in each window has its pairs there in any case
        two = [visits.row_E for visits in each[1:] if visits.passes < count]
        partners = Partners(shard_N, indices[0], np.unique(np.concatenate([*two, indices[0][:0]])), pair_N)
    # A portion of a source that has few of them comes first, then what belongs to it.
    sources = [Drawn(visits) for visits in sorted(each, key=lambda visits: len(visits.shard_U))]
    for number in range(count):
        share = (number + 1) / count if number + 1 < count else np.inf
        found = _next_window(sources, share, partners)
        if found:
            yield together(_interleaved(found, generator), pair_N)


def _next_window(sources: Sequence[Drawn], share: float, partners: Partners | None) -> list[Numbers]:
    """The rows of each source that has some, up to this share of the epoch."""
    found: list[list[Numbers]] = [[] for _ in sources]
    for source in sources:
        source.before = source.drawn
    if partners:
        partners.begin()
    while due := [place for place, source in enumerate(sources) if source.is_due(share)]:
        place = min(due, key=lambda place: sources[place].in_window)
        shard, rows = sources[place].next(partners.values() if partners else None)
        found[place].append(rows)
        if partners:
            partners.add(shard)
    return [np.concatenate(rows) for rows in found if rows]


def _interleaved(each: Sequence[Numbers], generator: np.random.Generator) -> Numbers:
    """The rows of all sources in random order, those of each source spread evenly."""
    places = [(np.arange(len(rows)) + generator.random(len(rows))) / len(rows) for rows in each]
    rows_E = np.concatenate([generator.permutation(rows) for rows in each])
    return rows_E[np.argsort(np.concatenate(places), kind="stable")]


def together(index: Numbers, pair_N: Numbers | None) -> Numbers:
    """These samples in their order, but those of a pair take the place of its first one."""
    if pair_N is None:
        return index
    place = np.arange(len(index))
    pair = pair_N[index]
    paired = np.flatnonzero(pair >= 0)
    _, first, number = np.unique(pair[paired], return_index=True, return_inverse=True)
    place[paired] = paired[first][number]
    return index[np.argsort(place, kind="stable")]
