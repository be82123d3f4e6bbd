"""Stars as a HATS catalog (IVOA note, version 1.0): Parquet files by HEALPix tile, what is near each tile's edge beside it, maps of the footprint.

collection.properties    what belongs together; written last
stars/                   dataset/Norder=k/Dir=d/Npix=n.parquet, the tiles; dataset/_metadata, _common_metadata: their footers and columns
    partition_info.csv   the tiles; hats.properties: counts, columns, version; data_thumbnail.parquet: a star of each tile
    skymap.fits          stars per pixel of order 8 (also as point_map.fits, where older readers look); moc.fits: the footprint
stars_10arcs/            the same columns, of stars that are near a tile but in another one: what a cross-match at its edge needs

Stars without a position lie in no tile; they go into `unplaced.parquet` beside the collection.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from cdshealpix.skymap import SkymapImplicit

from survey import __version__
from survey.catalog import sky, votable
from survey.catalog.sky import Tiles
from survey.catalog.sorting import PIXEL
from survey.tables.columns import described

HATS, STARS, UNPLACED, PROOF = "hats", "stars", "unplaced.parquet", "collection.properties"
MAP_ORDER = 8
"""Pixels of 14 arcmin: a survey's field of view is some 400 of them, and the map of all the sky takes 6 MB."""

ROW_GROUP = 100_000
VERSION, RELEASED = "v1.0", "2025-08-22"
"""Of the description of the format."""


@dataclass(frozen=True)
class Written:
    """What a finished catalog holds; `margin` are rows, a star may be near several tiles."""

    stars: int
    unplaced: int
    tiles: int
    margin: int


class Writer:
    """Makes the catalog in a local folder from tables of stars along the sky; a tile is written when the stars of the next one begin."""

    def __init__(
        self,
        folder: Path,
        tiles: Tiles,
        about: Mapping[str, str],
        margin: float = 10.0,
        default: tuple[str, ...] = (),
    ) -> None:
        self.folder, self.tiles, self.about, self.margin, self.default = (
            folder,
            tiles,
            dict(about),
            margin,
            default,
        )
        self._stars = _Dataset(folder / HATS / STARS, tiles)
        self._edges = (
            _Dataset(folder / HATS / f"{STARS}_{margin:g}arcs".replace(".", "_"), tiles) if margin else None
        )
        self._schema: pa.Schema | None = None
        self._tile, self._waiting = -1, list[pa.Table]()
        self._near: dict[int, list[pa.Table]] = {}
        self._map = np.zeros(12 * 4**MAP_ORDER, np.int64)
        self._unplaced: pq.ParquetWriter | None = None
        self._set_aside = 0

    def add(self, stars: pa.Table) -> None:
        """Further stars, in the order of their pixels; those of no pixel at any time."""
        stars = self._uniform(stars)
        if stars[PIXEL].null_count:
            self._aside(stars.filter(stars[PIXEL].is_null()))
            stars = stars.filter(stars[PIXEL].is_valid())
        pixel_N = stars[PIXEL].to_numpy()
        tile_N = self.tiles.of(pixel_N)
        if np.any(np.diff(pixel_N) < 0) or np.any(tile_N < self._tile):
            raise ValueError("catalog: stars come out of order; add them sorted by their pixels")
        for tile, begin, count in zip(
            *(part.tolist() for part in np.unique(tile_N, return_index=True, return_counts=True)), strict=True
        ):
            self._take(tile, stars.slice(begin, count))
        self._map += sky.counts(pixel_N, MAP_ORDER)
        if self._edges:
            star, tile = sky.near_edges(self.tiles, pixel_N, self.margin)
            for number in np.unique(tile).tolist():
                self._near.setdefault(number, []).append(
                    stars.take(pa.array(star[tile == number]))
                )  # a copy: a slice would keep all stars alive

    def finish(self) -> Written:
        """The last tile and all that is told only when every star is there."""
        if self._schema is None:
            raise ValueError(
                "catalog: no table of stars came, not even an empty one; its columns are not known"
            )
        self._flush()
        if self._unplaced:
            self._unplaced.close()
        occupied = self._map > 0
        self._stars.finish(
            self._schema,
            self._properties("object", self._stars, float(occupied.mean()))
            | {"hats_skymap_order": MAP_ORDER},
        )
        for name in ("skymap.fits", "point_map.fits"):
            SkymapImplicit(self._map, null_value=0).to_explicit().to_fits(self._stars.folder / name)
        sky.coverage(occupied, MAP_ORDER).writeto(self._stars.folder / "moc.fits", overwrite=True)
        if self._edges:
            for tile in sorted(self._near):
                self._edges.write(tile, pa.concat_tables(self._near[tile]).sort_by(PIXEL))
            more = {"hats_primary_table_url": STARS, "hats_margin_threshold": f"{self.margin:g}"}
            self._edges.finish(
                self._schema, self._properties("margin", self._edges, self._edges.share) | more
            )
        _write_properties(self.folder / HATS / PROOF, self._collection())
        return Written(
            self._stars.rows + self._set_aside,
            self._set_aside,
            len(self._stars.written),
            self._edges.rows if self._edges else 0,
        )

    def _uniform(self, stars: pa.Table) -> pa.Table:
        """The stars with columns of the same types, meanings and origin in every file."""
        if self._schema is None:
            schema = described(stars.schema, self.about)
            self._schema = schema.with_metadata({**self.about, **votable.in_parquet(schema, self.about)})
        if stars.column_names != self._schema.names:
            raise ValueError(
                f"catalog: columns change: {', '.join(sorted(set(stars.column_names) ^ set(self._schema.names)))}; give every table the same"
            )
        return stars.cast(self._schema)

    def _take(self, tile: int, stars: pa.Table) -> None:
        if tile != self._tile:
            self._flush()
        self._tile = tile
        self._waiting.append(stars)

    def _flush(self) -> None:
        if self._waiting:
            self._stars.write(self._tile, pa.concat_tables(self._waiting))
            self._waiting = []

    def _aside(self, stars: pa.Table) -> None:
        stars = stars.drop_columns([PIXEL])
        if self._unplaced is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._unplaced = pq.ParquetWriter(self.folder / UNPLACED, stars.schema, **_options(stars.schema))
        self._unplaced.write_table(stars)
        self._set_aside += stars.num_rows

    def _properties(self, kind: str, dataset: "_Dataset", share: float) -> dict[str, object]:
        columns = {"ra": "ra", "dec": "dec", "healpix": PIXEL, "healpix_order": sky.ORDER}
        return {
            "obs_collection": dataset.folder.name,
            "dataproduct_type": kind,
            "hats_nrows": dataset.rows,
            **{f"hats_col_{name}": column for name, column in columns.items()},
            **({"hats_cols_default": " ".join(self.default)} if self.default and kind == "object" else {}),
            "hats_npix_suffix": ".parquet",
            "hats_max_rows": dataset.most,
            "hats_order": max((int(self.tiles.order_T[tile]) for tile in dataset.written), default=0),
            "moc_sky_fraction": f"{share:.6f}",
            "hats_estsize": sum(path.stat().st_size for path in dataset.folder.rglob("*") if path.is_file())
            // 1024,
            **_origin(self.about),
        }

    def _collection(self) -> dict[str, object]:
        names = {"obs_collection": HATS, "hats_primary_table_url": STARS}
        if self._edges:
            names |= {"all_margins": self._edges.folder.name, "default_margin": self._edges.folder.name}
        return names | _origin(self.about)


class _Dataset:
    """One table of the collection: its tiles' files, and the files that say what is in them."""

    def __init__(self, folder: Path, tiles: Tiles) -> None:
        self.folder, self.tiles = folder, tiles
        self.written: list[int] = []
        self.rows = self.most = 0
        self._footers: list[Any] = []
        self._first: list[pa.Table] = []
        (folder / "dataset").mkdir(parents=True)

    @property
    def share(self) -> float:
        """The share of the sky that the tiles cover."""
        return float(sum(0.25 ** int(self.tiles.order_T[tile]) for tile in self.written) / 12)

    def write(self, tile: int, table: pa.Table) -> None:
        """The file of a tile."""
        order, pixel = int(self.tiles.order_T[tile]), int(self.tiles.pixel_T[tile])
        path = f"Norder={order}/Dir={pixel // 10_000 * 10_000}/Npix={pixel}.parquet"
        where = self.folder / "dataset" / path
        where.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(
            table, where, row_group_size=ROW_GROUP, metadata_collector=self._footers, **_options(table.schema)
        )
        self._footers[-1].set_file_path(path)
        self._first.append(table.take(pa.array([0])))
        self.written.append(tile)
        self.rows += table.num_rows
        self.most = max(self.most, table.num_rows)

    def finish(self, schema: pa.Schema, properties: dict[str, object]) -> None:
        """The files about the tiles."""
        pq.write_metadata(schema, self.folder / "dataset" / "_common_metadata")
        pq.write_metadata(
            schema, self.folder / "dataset" / "_metadata", metadata_collector=self._footers or None
        )
        pq.write_table(
            pa.concat_tables([schema.empty_table(), *self._first]),
            self.folder / "data_thumbnail.parquet",
            **_options(schema),
        )
        rows = sorted((int(self.tiles.order_T[tile]), int(self.tiles.pixel_T[tile])) for tile in self.written)
        lines = "".join(f"{order},{pixel}\n" for order, pixel in rows)
        (self.folder / "partition_info.csv").write_text(f"Norder,Npix\n{lines}")
        for name in ("hats.properties", "properties"):  # the second for readers before 2025
            _write_properties(self.folder / name, properties)


def _options(schema: pa.Schema) -> dict[str, Any]:
    """How columns are packed: noise by bytes of the same weight, the sorted pixels by their differences, everything else by its distinct values."""
    packed = {field.name: "BYTE_STREAM_SPLIT" for field in schema if pa.types.is_floating(field.type)}
    if PIXEL in schema.names:
        packed[PIXEL] = "DELTA_BINARY_PACKED"
    others = [name for name in schema.names if name not in packed]
    return {
        "compression": "zstd",
        "compression_level": 3,
        "column_encoding": packed,
        "use_dictionary": others,
        "write_page_index": True,
    }


def _origin(about: Mapping[str, str]) -> dict[str, object]:
    """Who made it, when, from what."""
    made = {
        "hats_builder": f"survey {__version__}",
        "hats_creation_date": time.strftime("%Y-%m-%dT%H:%MUTC", time.gmtime()),
    }
    return {
        **made,
        "hats_release_date": RELEASED,
        "hats_version": VERSION,
        **{f"survey_{key}": value for key, value in about.items()},
    }


def _write_properties(path: Path, values: Mapping[str, object]) -> None:
    """A Java properties file."""
    text = {key: str(value).replace("\\", "\\\\").replace("\n", " ") for key, value in values.items()}
    path.write_text("".join(f"{key}={value}\n" for key, value in text.items()))
