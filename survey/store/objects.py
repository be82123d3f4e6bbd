"""The items of a shard: what the files of a manifest row hold, as spectra, images, or why there is nothing.

An object may have a spectrum, an image, or both. The image of a spectrum lies in a file of its own, which the
manifest names.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
from isal import isal_zlib
from numpy.typing import NDArray

from survey.fetch import fetch
from survey.images.settings import PrepareImages
from survey.images.stretch import prepare
from survey.sources import reading
from survey.sources.checking import Found
from survey.sources.reading import Sources
from survey.spectrum import ImageOfObject, Refused, Spectrum
from survey.store.manifest.table_sizes import damage_of_table
from survey.store.schema import Flag
from survey.tables.access import is_lost


@dataclass
class SourceItem:
    """One spectrum or image, or why there is none, with its manifest row and the checksum of its file.

    `image` is the object's image as the store keeps it, or why there is none; None if it has none.
    """

    manifest_row: dict[str, Any]
    crc: int | None
    result: Found | Refused
    image: NDArray[np.uint8] | Refused | None = None

    @property
    def visit(self) -> dict[str, Any]:
        """What is known of the visit; nothing of a refused file."""
        return {} if isinstance(self.result, Refused) else self.result.visit

    @property
    def image_problem(self) -> str | None:
        """Why there is no image; None if there is one."""
        if self.image is None:
            return "none"
        return self.image.reason if isinstance(self.image, Refused) else None

    @property
    def image_flag(self) -> int:
        """The flag of a missing image."""
        return Flag.NO_IMAGE if self.image_problem else 0


def read_items(rows: pa.Table, sources: Sources) -> Iterator[SourceItem]:
    """Every spectrum, image or refusal of these manifest rows, in their order."""
    for is_file, group in groupby(rows.to_pylist(), key=lambda row: row["row"] < 0):
        if is_file:
            yield from _read_files(list(group), sources)
        else:
            for path, table_rows in groupby(group, key=lambda row: row["path"]):
                yield from _read_table(path, list(table_rows), sources)


def add_images(items: list[SourceItem], sources: Sources, settings: PrepareImages, has_spectra: bool) -> None:
    """Read and prepare the images of items; what the store cannot keep of an item is refused."""
    for item in items:
        if isinstance(item.result, ImageOfObject):
            item.result = _kept_image(item, settings)
        elif isinstance(item.result, Spectrum) and not has_spectra and not item.manifest_row["image"]:
            item.result = Refused("unknown_layout", "a spectrum; the store has images only")
    if not settings.is_used:
        return
    paired = [item for item in items if isinstance(item.result, Spectrum) and item.manifest_row["image"]]
    for item, data in zip(paired, fetch([item.manifest_row["image"] for item in paired]), strict=True):
        path: str = item.manifest_row["image"]
        item.image = _paired_image(data, path, sources, settings)
        if isinstance(item.image, Refused) and (settings.missing == "refuse" or not has_spectra):
            item.result = Refused(item.image.reason, f"{path}: {item.image.detail}")


def _kept_image(item: SourceItem, settings: PrepareImages) -> Found | Refused:
    """The image of an item without a spectrum, prepared; or why the store cannot keep it."""
    assert isinstance(item.result, ImageOfObject)
    if not settings.is_used:
        return Refused("unknown_layout", "an image; give prepare.image.size for a store with images")
    try:
        item.image = prepare(item.result.pixels, settings)
    except Refused as refused:
        return refused
    return item.result


def _paired_image(
    data: bytes | Refused, path: str, sources: Sources, settings: PrepareImages
) -> NDArray[np.uint8] | Refused:
    if isinstance(data, Refused):
        return data
    try:
        return prepare(reading.image(data, path.rpartition("/")[2], sources).pixels, settings)
    except Refused as refused:
        return refused


def _read_files(rows: list[dict[str, Any]], sources: Sources) -> Iterator[SourceItem]:
    for row, data in zip(rows, fetch([row["path"] for row in rows]), strict=True):
        if isinstance(data, Refused):
            damage = damage_of_table(row["path"], sources) if data.reason == "too_large" else None
            yield SourceItem(row, None, damage or data)
            continue
        crc = isal_zlib.crc32(data)
        try:
            found = reading.observations(data, row["path"].rpartition("/")[2], sources)
        except Refused as refusal:
            yield SourceItem(row, crc, damage_of_table(row["path"], sources) or refusal)
            continue
        for each in found:
            yield SourceItem(row, crc, each)


def _read_table(path: str, rows: list[dict[str, Any]], sources: Sources) -> Iterator[SourceItem]:
    done, refused = 0, Refused("bad_row", "")
    try:
        results = reading.table_rows(path, [row["row"] for row in rows], sources)
        for row, result in zip(rows, results, strict=True):
            done += 1
            yield SourceItem(row, None, result)
    except FileNotFoundError:
        refused = Refused("missing", "no such file")
    except OSError as error:
        if is_lost(path, error):
            raise
        refused = Refused("missing", error.strerror or str(error))
    except ValueError as error:
        refused = Refused("bad_row", str(error))
    for row in rows[done:]:
        yield SourceItem(row, None, refused)
