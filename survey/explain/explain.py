"""A run or an ensemble, and spectra -> which wavelengths it uses for which label and class.

settings.json         the settings
importance.parquet    each method, target, group and block: how much the target changes without the block
dependence.parquet    each target and element: how much it changes without all lines of the element
strength.parquet      each target: the most important blocks taken away, and random ones
batches.parquet       the shares of the blocks in parts of the spectra, in the order of the store
single.parquet        the spectra that are named: each target and block (with spectra=)
attention.parquet     how much networks with attention look at each part of a spectrum
mean.parquet          the mean spectrum, for plots
*.png                 pictures
explanation.json      numbers, settings, and what it was made from; written last

Shapes: B spectra, P pixels, T targets, K blocks.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from survey import files, machine
from survey.ensemble.ensemble import Ensemble, open_ensemble
from survey.explain import chosen as spectra_of
from survey.explain import tables
from survey.explain.blocks import Blocks, element_masks, groups, importance_rows, ratio_interval
from survey.explain.explanation import EXPLANATION, ExplanationDocument, StrengthRecord, TargetRecord
from survey.explain.features import OWN_ELEMENT, features_between
from survey.explain.responses import (
    BATCH,
    Change,
    Explainable,
    Floats,
    attention_of,
    integrated_gradients,
    no_gradients,
    respond,
    responses_without,
    targets,
)
from survey.explain.settings import FEWEST_IN_PART, ExplainSettings, Method
from survey.folder import Folder
from survey.settings import SettingsError
from survey.store.store import Store
from survey.training.batches import Spectra, read_spectra

SHOWN = 6
"""The most important blocks whose features a text names."""
FILLS = 0.15
"""A block is named by a feature that is as wide as this share of it, or else by its wavelengths."""


@dataclass(frozen=True)
class Explained:
    """A finished explanation: its folder, its document, and whether it was made just now."""

    folder: str
    document: ExplanationDocument
    created: bool

    def table(self, name: str) -> pa.Table | None:
        """A table of the folder; None if there is none of that name."""
        if name not in self.document.content:
            return None
        return Folder(self.folder, EXPLANATION).table(name, document=self.document)


def explain(settings: ExplainSettings) -> Explained:
    """Explain what the settings name; a finished explanation of the same is left as it is."""
    ensemble = open_ensemble(files.absolute(settings.of), machine.device())
    if not (ensemble.classes or ensemble.labels):
        raise SettingsError(
            f"explain: of={settings.of}: it predicts no class and no label, so there is nothing to explain"
        )
    if not any("spectrum" in run.net.answers_from for run in ensemble.members.runs):
        raise SettingsError(f"explain: of={settings.of}: it looks at images only, not at wavelengths")
    store = spectra_of.open_spectra(settings, ensemble)
    made_from = json.dumps([ensemble.id, store.id, settings.plain()], sort_keys=True)
    identity = hashlib.sha256(made_from.encode()).hexdigest()[:16]
    folder = Folder(files.absolute(settings.explain), EXPLANATION)
    with folder.claim(settings.plain()):
        before = folder.sound_document()
        agrees = folder.agree(settings.plain(), started=folder.is_finished())
        if agrees and before is not None and before.id == identity:
            return Explained(folder.path, before, created=False)
        job = _ExplainJob(settings, ensemble, store)
        folder.withdraw()
        if not agrees or before is not None:
            folder.begin(settings.plain())
        content = []
        for name, table in job.tables():
            files.write_table(folder.file(name), table)
            content.append(name)
        document = folder.finish(job.document(identity), content)
    return Explained(folder.path, document, created=True)


class _ExplainJob:
    """The work on an explanation."""

    def __init__(self, settings: ExplainSettings, ensemble: Ensemble, store: Store) -> None:
        self.settings, self.ensemble = settings, ensemble
        self.threads = machine.settle(settings.threads)
        self.single = spectra_of.find(store, settings.spectra)
        self.chosen = spectra_of.choose(settings, ensemble, store)
        self.targets: tuple[Explainable, ...] = targets(ensemble)
        self.columns = [target.column for target in self.targets]
        spectra = self._read(self.chosen)
        asked = f"store={settings.store}" if settings.store else f"split={settings.split}"
        rows = spectra_of.answered(respond(ensemble, spectra, self.threads), asked)
        self.chosen, self.spectra = self.chosen.at(rows), spectra[torch.from_numpy(rows)]
        self.blocks = Blocks.cut(ensemble.grid.wave, settings.blocks)
        self.left_out = no_gradients(ensemble) if "gradients" in settings.methods else {}
        self.methods = [method for method in settings.methods if method not in self.left_out]
        self.records: list[TargetRecord] = []
        self.strength: list[StrengthRecord] = []
        self.attention: tuple[str, ...] = ()

    def _read(self, chosen: spectra_of.Chosen) -> Spectra:
        return read_spectra(chosen.store, chosen.place_N2, self.ensemble.members.extra_inputs)

    def _changes(self, method: Method, spectra: Spectra) -> Floats:
        """What each block does to each target (B, T, K). Gradients say it with the other sign: what the
        block adds."""
        if method == "gradients":
            return -integrated_gradients(self.ensemble, spectra, self.settings.steps, self.blocks.sums)
        change = Change(method, self.settings.seed)
        return responses_without(self.ensemble, spectra, self.blocks.masks(), change, self.threads)

    def tables(self) -> Iterator[tuple[str, pa.Table]]:
        """The tables, one after the other; the records of the document are ready after the last."""
        class_B = self._classes()
        group_of = groups(class_B, self.chosen.snr_N)
        rows: list[dict[str, object]] = []
        occlusion_BTK = np.empty(0)
        for method in self.methods:
            change_BTK = self._changes(method, self.spectra)
            asked = self.columns if method != "gradients" else self._with_gradients()
            rows += importance_rows(method, change_BTK, self.blocks, asked, group_of)
            if method == "occlusion":
                occlusion_BTK = change_BTK
        yield "importance.parquet", tables.table(rows, tables.IMPORTANCE)
        dependence, by_element = self._dependence()
        yield "dependence.parquet", tables.table(dependence, tables.DEPENDENCE)
        self.records = [
            self._record(number, occlusion_BTK, by_element) for number in range(len(self.targets))
        ]
        self.strength = list(self._strength(occlusion_BTK))
        yield (
            "strength.parquet",
            tables.table([record.model_dump() for record in self.strength], tables.STRENGTH),
        )
        yield "batches.parquet", tables.table(self._batch_rows(occlusion_BTK), tables.BATCHES)
        if self.settings.spectra:
            yield "single.parquet", tables.table(self._single_rows(), tables.SINGLE)
        attention = self._attention_rows(group_of)
        if attention:
            yield "attention.parquet", tables.table(attention, tables.ATTENTION)
        yield "mean.parquet", tables.mean_spectra(self.ensemble.grid.wave, self.spectra, group_of)

    def _with_gradients(self) -> list[str]:
        """The targets that have gradients. Labels are the first targets."""
        return self.columns[: len(self.ensemble.labels)] if self.left_out else self.columns

    def _classes(self) -> NDArray[np.object_]:
        """The predicted class of each spectrum; empty without classes."""
        names = [target.name for target in self.targets if target.is_class]
        if not names:
            return np.full(len(self.spectra), "", object)
        p_BC = respond(self.ensemble, self.spectra, self.threads)[:, -len(names) :]
        return np.asarray(np.array(names, object)[np.nan_to_num(p_BC, nan=-1.0).argmax(1)])

    def _dependence(self) -> tuple[list[dict[str, object]], dict[str, NDArray[np.float64]]]:
        """How much each target changes without all lines of an element; nothing if the grid has no lines."""
        masks = element_masks(self.ensemble.grid.wave)
        change = Change("occlusion", self.settings.seed)
        change_BTE = responses_without(
            self.ensemble, self.spectra, list(masks.values()), change, self.threads
        )
        size_TE, mean_TE = np.abs(change_BTE).mean(0), change_BTE.mean(0)
        rows = []
        for number, column in enumerate(self.columns):
            share_E = size_TE[number] / max(size_TE[number].sum(), 1e-30)
            rows += [
                {
                    "target": column,
                    "element": element,
                    "size": float(size_TE[number, place]),
                    "change": float(mean_TE[number, place]),
                    "share": float(share_E[place]),
                    "is_own": OWN_ELEMENT.get(column) == element,
                }
                for place, element in enumerate(masks)
            ]
        return rows, {element: size_TE[:, place] for place, element in enumerate(masks)}

    def _record(
        self, number: int, change_BTK: Floats, by_element: dict[str, NDArray[np.float64]]
    ) -> TargetRecord:
        target = self.targets[number]
        size_K = np.abs(change_BTK[:, number]).mean(0)
        names: dict[str, None] = {}
        for block in np.argsort(-size_K)[:SHOWN].tolist():
            low, high = self.blocks.low_K[block], self.blocks.high_K[block]
            found = features_between(low, high)
            is_plain = bool(found) and found[0].high - found[0].low > FILLS * (high - low)
            names[found[0].name if is_plain else f"{low:.0f} to {high:.0f} angstrom"] = None
        element = max(by_element, key=lambda name: by_element[name][number], default="")
        own = OWN_ELEMENT.get(target.column, "")
        return TargetRecord(
            column=target.column,
            unit=target.unit,
            is_class=target.is_class,
            features=tuple(names),
            element=element,
            change=float(by_element[element][number]) if element else 0.0,
            own_element=own,
            own_change=float(by_element[own][number]) if own in by_element else None,
        )

    def _strength(self, change_BTK: Floats) -> Iterator[StrengthRecord]:
        """Blocks that are important for one half of the spectra are taken from the other half."""
        count = max(1, round(self.settings.deleted * len(self.blocks)))
        half_B = np.arange(len(self.spectra)) % 2 == 1
        asked = self.spectra[torch.from_numpy(np.flatnonzero(half_B))]
        generator = np.random.default_rng([self.settings.seed, 2])
        drawn = [generator.permutation(len(self.blocks))[:count] for _ in range(self.settings.draws)]
        order_TK = np.argsort(-np.abs(change_BTK[~half_B]).mean(0), axis=1)[:, :count]
        masks = [self.blocks.of(chosen) for chosen in (*drawn, *order_TK)]
        change = Change("occlusion", self.settings.seed)
        size_BTM = np.abs(responses_without(self.ensemble, asked, masks, change, self.threads))
        for number, column in enumerate(self.columns):
            random_B = size_BTM[:, number, : len(drawn)].mean(1)
            important_B = size_BTM[:, number, len(drawn) + number]
            ratio, low, high = ratio_interval(important_B, random_B, self.settings.seed)
            yield StrengthRecord(
                column=column,
                blocks=count,
                important=float(important_B.mean()),
                random=float(random_B.mean()),
                ratio=ratio,
                low=low,
                high=high,
            )

    def _batch_rows(self, change_BTK: Floats) -> list[dict[str, object]]:
        """The shares of all blocks in each part of the spectra; fewer parts where few spectra are good."""
        parts = min(self.settings.batches, len(self.spectra) // FEWEST_IN_PART)
        rows: list[dict[str, object]] = []
        for number, chosen in enumerate(np.array_split(np.arange(len(self.spectra)), parts)):
            is_in_B = np.isin(np.arange(len(self.spectra)), chosen)
            rows += [
                {"batch": number} | row
                for row in importance_rows(
                    "occlusion", change_BTK, self.blocks, self.columns, {"all": is_in_B}
                )
            ]
        return rows

    def _single_rows(self) -> list[dict[str, object]]:
        """What each block does in the spectra that are named."""
        spectra = self._read(self.single)
        before_BT = respond(self.ensemble, spectra, self.threads)
        if not np.isfinite(before_BT).all():
            name = self.settings.spectra[int(np.flatnonzero(~np.isfinite(before_BT).all(1))[0])]
            raise SettingsError(
                f"explain: spectra: {name} has no good pixel where the network looks; leave it out"
            )
        has_gradients = "gradients" in self.methods and not self.left_out
        method: Method = "gradients" if has_gradients else "occlusion"
        change_BTK = self._changes(method, spectra)
        rows: list[dict[str, object]] = []
        for row, name in enumerate(self.settings.spectra):
            of_one = importance_rows(
                method, change_BTK[row : row + 1], self.blocks, self.columns, {name: np.ones(1, bool)}
            )
            value = dict(zip(self.columns, before_BT[row].tolist(), strict=True))
            rows += [entry | {"value": value[str(entry["target"])]} for entry in of_one]
        return rows

    def _attention_rows(self, group_of: dict[str, NDArray[np.bool_]]) -> list[dict[str, object]]:
        """How much members with attention look at each step of their sequence."""
        parts = (self.spectra[start : start + BATCH] for start in range(0, len(self.spectra), BATCH))
        found = attention_of(self.ensemble, parts)
        self.attention = tuple(found)
        wave_P = self.ensemble.grid.wave
        rows: list[dict[str, object]] = []
        for member, weight_BS in found.items():
            edges = np.linspace(0, len(wave_P) - 1, weight_BS.shape[1] + 1)
            wave = np.interp(edges, np.arange(len(wave_P)), wave_P)
            for group, chosen_B in group_of.items():
                mean_S = weight_BS[chosen_B].mean(0)
                rows += [
                    {
                        "member": member,
                        "group": group,
                        "step": step,
                        "low": float(wave[step]),
                        "high": float(wave[step + 1]),
                        "weight": float(mean_S[step]),
                    }
                    for step in range(len(mean_S))
                ]
        return rows

    def document(self, identity: str) -> ExplanationDocument:
        """The document; `tables` was read to its end."""
        return ExplanationDocument(
            version=EXPLANATION.version,
            id=identity,
            of=self.settings.of,
            of_id=self.ensemble.id,
            store=files.relative(self.chosen.store.path),
            store_id=self.chosen.store.id,
            settings=self.settings.plain(),
            spectra=len(self.spectra),
            blocks=len(self.blocks),
            methods=tuple(self.methods),
            left_out=self.left_out,
            targets=tuple(self.records),
            strength=tuple(self.strength),
            attention=self.attention,
            single=self.settings.spectra,
        )
