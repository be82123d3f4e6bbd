"""Stars as a HATS catalog (IVOA note, version 1.0): one Parquet file per HEALPix tile, margins, maps of the
footprint.

collection.properties    which tables belong together; written last
stars/                   dataset/Norder=k/Dir=d/Npix=n.parquet: the tiles
                         dataset/_metadata, _common_metadata: the footers of the tiles, the columns
    partition_info.csv   the list of tiles; hats.properties: counts, columns, version
    skymap.fits          stars per pixel of order 8 (also as point_map.fits, for older readers)
    moc.fits             the footprint; data_thumbnail.parquet: one star of each tile
stars_10arcs/            the same columns, with stars that are near a tile but in another one:
                         a cross-match at the edge of the tile needs them

Stars without a position are in no tile. They are in `no_position.parquet` next to the collection.
"""

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
from survey.tables.columns import described_schema

HATS, STARS, NO_POSITION = "hats", "stars", "no_position.parquet"
COLLECTION = "collection.properties"
"""The file that marks the collection complete."""
MAP_ORDER = 8
"""Pixels of 14 arcmin: a field of view has some 400 of them; the map of the whole sky takes 6 MB."""

ABOUT = votable.TableInfo(STARS, "all stars: one row per star, candidates and others")

ROW_GROUP = 100_000
VERSION, RELEASED = "v1.0", "2025-08-22"
"""The version and the date of the description of the format."""


@dataclass(frozen=True)
class HatsCounts:
    """What a finished catalog holds. `margin` counts rows: a star may be near several tiles."""

    stars: int
    no_position: int
    tiles: int
    margin: int


class HatsWriter:
    """Writes the catalog to a local folder from tables of stars along the sky.

    A tile is written when the stars of the next tile begin.
    """

    def __init__(
        self,
        folder: Path,
        tiles: Tiles,
        origin: Mapping[str, str],
        margin: float = 10.0,
        default_columns: tuple[str, ...] = (),
    ) -> None:
        self.folder, self.tiles, self.origin = folder, tiles, dict(origin)
        self.margin, self.default_columns = margin, default_columns
        self._stars = _Dataset(folder / HATS / STARS, tiles)
        self._edges: _Dataset | None = None
        if margin:
            self._edges = _Dataset(folder / HATS / f"{STARS}_{margin:g}arcs".replace(".", "_"), tiles)
        self._schema: pa.Schema | None = None
        self._tile, self._waiting = -1, list[pa.Table]()
        self._near: dict[int, list[pa.Table]] = {}
        self._map = np.zeros(12 * 4**MAP_ORDER, np.int64)
        self._no_position: pq.ParquetWriter | None = None
        self._no_position_rows = 0

    def add(self, stars: pa.Table) -> None:
        """Add stars, in the order of their pixels; stars without a pixel at any time."""
        stars = self._uniform(stars)
        if stars[PIXEL].null_count:
            self._write_no_position(stars.filter(stars[PIXEL].is_null()))
            stars = stars.filter(stars[PIXEL].is_valid())
        pixel_N = stars[PIXEL].to_numpy()
        tile_N = self.tiles.tile_of(pixel_N)
        if np.any(np.diff(pixel_N) < 0) or np.any(tile_N < self._tile):
            raise ValueError("catalog: the stars are not in the order of the sky; sort them by their pixels")
        runs = np.unique(tile_N, return_index=True, return_counts=True)
        for tile, start, count in zip(*(array.tolist() for array in runs), strict=True):
            self._add_to_tile(tile, stars.slice(start, count))
        self._map += sky.star_counts(pixel_N, MAP_ORDER)
        if self._edges:
            star, tile = sky.near_edges(self.tiles, pixel_N, self.margin)
            for number in np.unique(tile).tolist():  # copies: a slice would keep all stars in memory
                self._near.setdefault(number, []).append(stars.take(pa.array(star[tile == number])))

    def finish(self) -> HatsCounts:
        """Write the last tile and the files about the whole catalog."""
        if self._schema is None:
            raise ValueError(
                "catalog: no table of stars was added; add at least an empty one for its columns"
            )
        self._write_tile()
        if self._no_position:
            self._no_position.close()
        occupied = self._map > 0
        properties = self._properties("object", self._stars, float(occupied.mean()))
        self._stars.finish(self._schema, properties | {"hats_skymap_order": MAP_ORDER})
        for name in ("skymap.fits", "point_map.fits"):
            SkymapImplicit(self._map, null_value=0).to_explicit().to_fits(self._stars.folder / name)
        sky.footprint(occupied, MAP_ORDER).writeto(self._stars.folder / "moc.fits", overwrite=True)
        if self._edges:
            self._write_margin(self._edges, self._schema)
        _write_properties(self.folder / HATS / COLLECTION, self._collection())
        return HatsCounts(
            self._stars.rows + self._no_position_rows,
            self._no_position_rows,
            len(self._stars.written),
            self._edges.rows if self._edges else 0,
        )

    def _write_margin(self, edges: "_Dataset", schema: pa.Schema) -> None:
        for tile in sorted(self._near):
            edges.write(tile, pa.concat_tables(self._near[tile]).sort_by(PIXEL))
        extra = {"hats_primary_table_url": STARS, "hats_margin_threshold": f"{self.margin:g}"}
        edges.finish(schema, self._properties("margin", edges, edges.sky_share) | extra)

    def _uniform(self, stars: pa.Table) -> pa.Table:
        """The stars with the same types, descriptions and origin in each file."""
        if self._schema is None:
            schema = described_schema(stars.schema, self.origin)
            metadata = {**self.origin, **votable.parquet_metadata(schema, ABOUT, self.origin)}
            self._schema = schema.with_metadata(metadata)
        if stars.column_names != self._schema.names:
            different = ", ".join(sorted(set(stars.column_names) ^ set(self._schema.names)))
            raise ValueError(f"catalog: columns change: {different}; give each table the same columns")
        return stars.cast(self._schema)

    def _add_to_tile(self, tile: int, stars: pa.Table) -> None:
        if tile != self._tile:
            self._write_tile()
        self._tile = tile
        self._waiting.append(stars)

    def _write_tile(self) -> None:
        if self._waiting:
            self._stars.write(self._tile, pa.concat_tables(self._waiting))
            self._waiting = []

    def _write_no_position(self, stars: pa.Table) -> None:
        stars = stars.drop_columns([PIXEL])
        if self._no_position is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            path = self.folder / NO_POSITION
            self._no_position = pq.ParquetWriter(path, stars.schema, **_parquet_options(stars.schema))
        self._no_position.write_table(stars)
        self._no_position_rows += stars.num_rows

    def _properties(self, kind: str, dataset: "_Dataset", sky_share: float) -> dict[str, object]:
        default = {"hats_cols_default": " ".join(self.default_columns)} if self.default_columns else {}
        files = (path for path in dataset.folder.rglob("*") if path.is_file())
        return {
            "obs_collection": dataset.folder.name,
            "dataproduct_type": kind,
            "hats_nrows": dataset.rows,
            "hats_col_ra": "ra",
            "hats_col_dec": "dec",
            "hats_col_healpix": PIXEL,
            "hats_col_healpix_order": sky.ORDER,
            **(default if kind == "object" else {}),
            "hats_npix_suffix": ".parquet",
            "hats_max_rows": dataset.max_rows,
            "hats_order": max((int(self.tiles.order_T[tile]) for tile in dataset.written), default=0),
            "moc_sky_fraction": f"{sky_share:.6f}",
            "hats_estsize": sum(path.stat().st_size for path in files) // 1024,
            **_origin_properties(self.origin),
        }

    def _collection(self) -> dict[str, object]:
        names = {"obs_collection": HATS, "hats_primary_table_url": STARS}
        if self._edges:
            names |= {"all_margins": self._edges.folder.name, "default_margin": self._edges.folder.name}
        return names | _origin_properties(self.origin)


class _Dataset:
    """One table of the collection: the files of its tiles, and the files that describe them."""

    def __init__(self, folder: Path, tiles: Tiles) -> None:
        self.folder, self.tiles = folder, tiles
        self.written: list[int] = []
        self.rows = self.max_rows = 0
        self._footers: list[Any] = []
        self._first_rows: list[pa.Table] = []
        (folder / "dataset").mkdir(parents=True)

    @property
    def sky_share(self) -> float:
        """The share of the sky that the tiles cover."""
        return float(sum(0.25 ** int(self.tiles.order_T[tile]) for tile in self.written) / 12)

    def write(self, tile: int, table: pa.Table) -> None:
        """Write the file of a tile."""
        order, pixel = int(self.tiles.order_T[tile]), int(self.tiles.pixel_T[tile])
        name = f"Norder={order}/Dir={pixel // 10_000 * 10_000}/Npix={pixel}.parquet"
        path = self.folder / "dataset" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        options = _parquet_options(table.schema)
        pq.write_table(table, path, row_group_size=ROW_GROUP, metadata_collector=self._footers, **options)
        self._footers[-1].set_file_path(name)
        self._first_rows.append(table.take(pa.array([0])))
        self.written.append(tile)
        self.rows += table.num_rows
        self.max_rows = max(self.max_rows, table.num_rows)

    def finish(self, schema: pa.Schema, properties: dict[str, object]) -> None:
        """Write the files about the tiles."""
        dataset = self.folder / "dataset"
        pq.write_metadata(schema, dataset / "_common_metadata")
        pq.write_metadata(schema, dataset / "_metadata", metadata_collector=self._footers or None)
        thumbnail = pa.concat_tables([schema.empty_table(), *self._first_rows])
        pq.write_table(thumbnail, self.folder / "data_thumbnail.parquet", **_parquet_options(schema))
        tiles = sorted(
            (int(self.tiles.order_T[tile]), int(self.tiles.pixel_T[tile])) for tile in self.written
        )
        lines = "".join(f"{order},{pixel}\n" for order, pixel in tiles)
        (self.folder / "partition_info.csv").write_text(f"Norder,Npix\n{lines}")
        for name in ("hats.properties", "properties"):  # the second for readers before 2025
            _write_properties(self.folder / name, properties)


def _parquet_options(schema: pa.Schema) -> dict[str, Any]:
    """How columns are encoded.

    Floats byte by byte (noise), the sorted pixels by their differences, all else by its distinct values.
    """
    encoding = {field.name: "BYTE_STREAM_SPLIT" for field in schema if pa.types.is_floating(field.type)}
    if PIXEL in schema.names:
        encoding[PIXEL] = "DELTA_BINARY_PACKED"
    others = [name for name in schema.names if name not in encoding]
    return {
        "compression": "zstd",
        "compression_level": 3,
        "column_encoding": encoding,
        "use_dictionary": others,
        "write_page_index": True,
        "write_page_checksum": True,  # for readers of some columns only
    }


def _origin_properties(origin: Mapping[str, str]) -> dict[str, object]:
    """The program that wrote the catalog, when it was begun, and what it was made from."""
    return {
        "hats_builder": f"survey {__version__}",
        "hats_creation_date": origin["begun"],
        "hats_release_date": RELEASED,
        "hats_version": VERSION,
        **{f"survey_{key}": value for key, value in origin.items() if key != "begun"},
    }


def _write_properties(path: Path, values: Mapping[str, object]) -> None:
    """Write a Java properties file."""
    text = {key: str(value).replace("\\", "\\\\").replace("\n", " ") for key, value in values.items()}
    path.write_text("".join(f"{key}={value}\n" for key, value in text.items()))
