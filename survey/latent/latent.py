"""Predictions with a latent -> a look at their latent space.

settings.json           the settings
map.parquet             each row: identity, places on the maps, cluster, scores of outliers, given classes
space.safetensors       the principal components: component = axes @ ((latent - mean) / scale)
outliers.parquet        the farthest and the most typical rows by two scores
classifiers.parquet     what classifiers learn of given classes (with labels= or votes=)
neighbours.parquet      the rows nearest to some objects (with like=)
pairs.parquet           the same objects in two surveys, and how near they are (with other=)
*.png                   pictures
latent.json             numbers, settings, and what it was made from; written last

The latents pass through memory twice; only their principal components are kept. Shapes: N rows, C
components, S rows of the sample, K neighbours.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from survey import checked, files
from survey.folder import Folder
from survey.latent import groups, maps
from survey.latent.classifiers import SCHEMA
from survey.latent.components import LatentSpace, apply_components, find_components
from survey.latent.latent_document import (
    LATENT,
    GroupRecord,
    LatentDocument,
    QuestionRecord,
)
from survey.latent.latents import Floats32, Latents, Rows, open_latents
from survey.latent.map_table import MapColumns, write_map
from survey.latent.neighbours import find_rows, nearest_in_sample, nearest_of_all
from survey.latent.outliers import outlier_table
from survey.latent.pairs import (
    PairSummary,
    find_pairs,
    pair_table,
    rank_pairs,
    summarise,
    survey_distances,
)
from survey.latent.questions import LATENT_FEATURES as LATENT_FEATURES
from survey.latent.questions import STATISTICS as STATISTICS
from survey.latent.questions import Learned, learn_questions
from survey.latent.row_labels import RowClasses, RowLabels, read_labels
from survey.latent.settings import LatentSettings, MapName
from survey.settings import SettingsError
from survey.tables.columns import described_field

MAP, OUTLIERS, CLASSIFIERS = "map.parquet", "outliers.parquet", "classifiers.parquet"
NEIGHBOURS, PAIRS, SPACE = "neighbours.parquet", "pairs.parquet", "space.safetensors"
CONTENT = (MAP, SPACE, OUTLIERS, CLASSIFIERS, NEIGHBOURS, PAIRS)


@dataclass(frozen=True)
class LatentResult:
    """A finished look at a latent space: its folder, its document, and whether it was made just now."""

    folder: str
    document: LatentDocument
    created: bool

    def table(self, name: str, columns: list[str] | None = None) -> pa.Table | None:
        """A table of the folder, or some of its columns; None if there is none of that name."""
        if name not in self.document.content:
            return None
        return Folder(self.folder, LATENT).table(name, columns, self.document)


def look(settings: LatentSettings) -> LatentResult:
    """Look at the latent space; a finished look at these predictions with these tables and settings is left
    as it is."""
    usable, left_out = maps.usable_maps(settings)
    latents = open_latents(files.absolute(settings.predictions))
    other = open_latents(files.absolute(settings.other), "other") if settings.other else None
    _check(settings, latents, other)
    folder = Folder(files.absolute(settings.latent), LATENT)
    made_from = _made_from(settings, latents, other)
    with folder.claim(settings.plain()):
        before = folder.sound_document()
        agrees = folder.agree(settings.plain(), started=folder.is_finished())
        has_maps = before is not None and set(usable) <= set(before.maps)  # others of before are kept
        if before and agrees and has_maps and before.id == _identity(made_from, before.maps):
            return LatentResult(folder.path, before, created=False)
        labels = read_labels(settings, latents)
        job = _LatentJob(settings, latents, other, labels, folder)
        folder.withdraw()
        if not agrees or before is not None:
            folder.begin(settings.plain())
        for name in CONTENT:
            files.remove(folder.file(name))
        document = job.document(_identity(made_from, usable), usable, left_out)
        content = [name for name in CONTENT if files.exists(folder.file(name))]
        document = folder.finish(document, content)
    return LatentResult(folder.path, document, created=True)


def _made_from(settings: LatentSettings, latents: Latents, other: Latents | None) -> list[Any]:
    tables = filter(None, (settings.labels, settings.votes, settings.statistics))
    return [latents.id, other.id if other else "", settings.plain(), *checked.checksums(tables)]


def _identity(made_from: list[Any], names: Sequence[str]) -> str:
    """The id of a look with these maps: a package that is installed later makes another map possible."""
    return hashlib.sha256(json.dumps([*made_from, list(names)], sort_keys=True).encode()).hexdigest()[:16]


def _check(settings: LatentSettings, latents: Latents, other: Latents | None) -> None:
    if other and other.width != latents.width:
        raise SettingsError(
            f"latent: other: {settings.other}: a latent of {other.width} features, that of "
            f"{settings.predictions} has {latents.width}; predict both with the same ensemble"
        )
    if settings.group == "labels" and not settings.has_labels:
        raise SettingsError("latent: group: labels are meant, but none are given; give labels= or votes=")
    if settings.group == "predicted" and "predicted_class" not in latents.identity:
        raise SettingsError(
            f"latent: group: {settings.predictions} has no predicted classes; give group=clusters"
        )
    if settings.statistics and not settings.has_labels:
        raise SettingsError("latent: statistics: classifiers need classes too; give labels= or votes=")


class _LatentJob:
    """The work on a look at a latent space."""

    def __init__(
        self,
        settings: LatentSettings,
        latents: Latents,
        other: Latents | None,
        labels: RowLabels,
        folder: Folder[LatentDocument],
    ) -> None:
        self.settings, self.latents, self.other = settings, latents, other
        self.labels, self.folder = labels, folder
        self.rows_like = find_rows(latents, settings.like) if settings.like else {}
        self.space: LatentSpace = find_components(latents, settings.components, settings.scale != "none")
        self.component_NC = apply_components(self.space, latents)
        self.sample_S = self._sample()
        self.other_MC = apply_components(self.space, other) if other else None
        self._check_counts()

    def _check_counts(self) -> None:
        """Whether there are rows enough."""
        clusters, rows = self.settings.clusters, len(self.sample_S)
        if clusters.method in ("kmeans", "gmm") and clusters.count > rows:
            raise SettingsError(
                f"latent: clusters.count: {clusters.count} clusters of {rows} rows; give at most {rows}"
            )
        if self.other_MC is not None and not np.isfinite(self.other_MC[:, 0]).any():
            raise SettingsError(
                f"latent: other: {self.settings.other}: no row has a latent; give other predictions"
            )

    def document(self, identity: str, usable: list[MapName], left_out: dict[str, str]) -> LatentDocument:
        """Write everything but the document, and return that."""
        settings, component_NC, sample_S = self.settings, self.component_NC, self.sample_S
        density = min(max(settings.density, maps.PLACED_BY), len(sample_S) - 1)
        nearest = nearest_in_sample(component_NC, sample_S, density)
        places: dict[str, Floats32] = {
            name: maps.make_map(name, settings, component_NC, sample_S, nearest) for name in usable
        }
        cluster_N = groups.find_clusters(settings, component_NC, sample_S, nearest[0])
        by, group_N, names = self._groups(cluster_N)
        columns = MapColumns(
            places,
            cluster_N,
            group_N,
            names,
            groups.centre_ratio(component_NC, group_N),
            groups.density_score(nearest[1][:, : settings.density]),
            self.labels.questions,
        )
        self._write_space()
        write_map(self.folder.file(MAP), self.latents, columns)
        files.write_table(self.folder.file(OUTLIERS), outlier_table(self.latents, columns, settings.top))
        learned = self._classify()
        self._write_neighbours()
        pairs = self._write_pairs()
        return self._describe(identity, columns, by, left_out, learned, pairs)

    def _sample(self) -> Rows:
        known = np.flatnonzero(np.isfinite(self.component_NC[:, 0]))
        count = self.settings.sample
        if len(known) <= count:
            return known
        return np.sort(np.random.default_rng(self.settings.seed).choice(known, count, replace=False))

    def _groups(self, cluster_N: NDArray[np.int32]) -> tuple[str, NDArray[np.int32], tuple[str, ...]]:
        """What the classes are, the class of each row, and their names."""
        wanted, questions = self.settings.group, self.labels.questions
        if questions and wanted in ("auto", "labels"):
            return questions[0].name, questions[0].class_N, questions[0].classes
        if wanted in ("auto", "predicted"):
            classes = self.latents.predictions.classes
            column = self.latents.column("predicted_class") if classes else None
            if column is not None:
                class_N = column.fill_null(-1).to_numpy().astype(np.int32)
                if (class_N >= 0).any():
                    return "predicted class", class_N, classes
        names = tuple(f"cluster {number}" for number in range(int(cluster_N.max(initial=-1)) + 1))
        if names:
            return "cluster", cluster_N, names
        return "all rows", np.zeros(len(cluster_N), np.int32), ("all rows",)

    def _write_space(self) -> None:
        from safetensors.numpy import save

        arrays = {name: np.ascontiguousarray(array) for name, array in self.space.arrays().items()}
        files.write(self.folder.file(SPACE), save(arrays))

    def _classify(self) -> Learned:
        """Write what classifiers learn of the questions, if there are any."""
        if not self.labels.questions:
            return Learned()
        learned = learn_questions(self.latents, self.labels, self.component_NC, self.settings.classifiers)
        files.write_table(self.folder.file(CLASSIFIERS), pa.Table.from_pylist(learned.scores, SCHEMA))
        return learned

    def _write_neighbours(self) -> None:
        if not self.rows_like:
            return
        asked = np.array(list(self.rows_like.values()), np.int64)
        row_QK, distance_QK = nearest_of_all(self.component_NC, asked, self.settings.neighbours)
        known_QK = np.isfinite(distance_QK)
        table = self.latents.take(row_QK[known_QK])
        counts_Q = known_QK.sum(1)
        names = [
            name for name, count in zip(self.rows_like, counts_Q.tolist(), strict=True) for _ in range(count)
        ]
        ranks = np.concatenate([np.arange(1, count + 1) for count in counts_Q.tolist()])
        added = {
            "like": (pa.array(names, pa.string()), "the object that was asked about"),
            "rank": (pa.array(ranks), "1 = the nearest of all rows"),
            "distance": (pa.array(distance_QK[known_QK]), "distance in the latent space"),
        }
        for number, (name, (values, text)) in enumerate(added.items()):
            table = table.add_column(number, described_field(name, values.type, text), values)
        files.write_table(self.folder.file(NEIGHBOURS), table)

    def _write_pairs(self) -> PairSummary | None:
        settings, other, other_MC = self.settings.pairs, self.other, self.other_MC
        if other is None or other_MC is None:
            return None
        found = find_pairs(self.latents, other, settings)
        ranked, distance_P, rank_P = rank_pairs(
            found, self.component_NC, other_MC, settings.most, self.settings.seed
        )
        if len(rank_P):
            table = pair_table(self.latents, other, ranked, distance_P, rank_P)
            files.write_table(self.folder.file(PAIRS), table)
        distances = survey_distances(self.component_NC, other_MC, settings.rows, self.settings.seed)
        return summarise(
            self.latents, other, found, rank_P, int(np.isfinite(other_MC[:, 0]).sum()), distances
        )

    def _describe(
        self,
        identity: str,
        columns: MapColumns,
        by: str,
        left_out: dict[str, str],
        learned: Learned,
        pairs: PairSummary | None,
    ) -> LatentDocument:
        clusters = {str(number): count for number, count in _counts(columns.cluster_N).items()}
        group_counts = _counts(columns.group_N)
        questions = [_record(question, learned) for question in self.labels.questions]
        statistics = self.labels.statistics
        return LatentDocument(
            version=LATENT.version,
            id=identity,
            predictions=files.relative(self.latents.predictions.path),
            predictions_id=self.latents.id,
            rows=len(self.latents),
            no_latent=int((~np.isfinite(self.component_NC[:, 0])).sum()),
            width=self.latents.width,
            shares=tuple(round(float(share), 6) for share in self.space.share_C),
            sample=len(self.sample_S),
            maps=tuple(columns.maps),
            left_out=left_out,
            clusters=clusters,
            groups=GroupRecord(
                by=by,
                rows={name: group_counts.get(number, 0) for number, name in enumerate(columns.group_names)},
            ),
            tables=tuple(self.labels.records),
            questions=tuple(questions),
            statistics=statistics.names if statistics else (),
            missing_members=learned.missing_members,
            like=tuple(self.rows_like),
            pairs=pairs,
            settings=self.settings.plain(),
        )


def _record(question: RowClasses, learned: Learned) -> QuestionRecord:
    counts, left_out = _counts(question.class_N), learned.left_out[question.name]
    return QuestionRecord(
        name=question.name,
        rows={name: counts.get(number, 0) for number, name in enumerate(question.classes)},
        contradicting=question.contradicting,
        why_not=learned.why_not.get(question.name, ""),
        seen_in_training=left_out.seen,
        unknown_statistics=dict(left_out.unknown),
    )


def _counts(number_N: NDArray[np.int32]) -> dict[int, int]:
    numbers, counts = np.unique(number_N, return_counts=True)
    return dict(zip(numbers.tolist(), counts.tolist(), strict=True))
