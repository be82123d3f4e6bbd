"""Mock galaxies: the same galaxies in two surveys, their tables, votes and defective files."""

import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

from survey.mock import galaxies, galaxy_light, image_damage, mock, telescopes, volunteers
from survey.mock.settings import Mock

VALUES = {
    "objects": "galaxies",
    "balance": "balanced",
    "n": 105,
    "broken": 0.2,
    "image_pixels": 48,
    "overlap": 0.6,
}


def settings(folder: Path | str, **more: Any) -> Mock:
    return Mock.from_dict("mock", VALUES | {"out": str(folder)} | more)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("galaxies")
    return folder, mock.make(settings(folder))


def galaxy(kind: str = "smooth_round", **more: Any) -> dict[str, Any]:
    drawn = galaxies.draw_galaxy(kind, 67.0, np.random.default_rng(5))
    return drawn | {"x": 0.0, "y": 0.0, "radius": 2.0, "mag_r": 16.0} | more


def scene(one: dict[str, Any], size: int = 200) -> np.ndarray:
    return galaxy_light.scene(one, size, np.random.default_rng(0))


def test_the_tables_list_each_image_and_the_overlap_is_as_given(done: tuple[Path, dict[str, Any]]) -> None:
    folder, result = done
    objects, decals, bass = (pd.read_csv(folder / f"{name}.csv") for name in ("objects", "decals", "bass"))
    assert objects.columns.tolist() == ["name", "ra", "dec", "class", "image", "image_bass"]
    assert decals.columns.tolist() == bass.columns.tolist() == ["name", "ra", "dec", "class", "image"]
    assert objects["name"].nunique() == len(objects) == len(decals) == 105
    assert len(bass) == pytest.approx(63, abs=2)
    assert result["images"] == {"decals": 105, "bass": len(bass)}
    assert bass["image"].tolist() == objects["image_bass"].dropna().tolist()
    assert set(objects["class"]) == set(galaxy_light.CLASSES) == set(result["classes"])
    for table, survey in ((decals, "decals"), (bass, "bass")):
        assert sorted(table["image"]) == sorted(
            f"{survey}/{path.name}" for path in (folder / survey).iterdir()
        )


def test_an_image_has_three_bands_and_the_place_of_its_galaxy(done: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = done
    labels = pd.read_parquet(folder / "labels.parquet")
    for row in labels[(labels["image_defect"] == "") & (labels["image_bass"] != "")].head(4).itertuples():
        with fits.open(folder / str(row.image)) as file:
            file.verify("exception")
            data, cards = file[0].data, file[0].header
        assert data.dtype == ">f4"
        assert data.shape == (3, 48, 48)
        assert np.isfinite(data).all()
        assert cards["BANDS"] == "grz"
        assert (cards["CRVAL1"], cards["CRVAL2"]) == pytest.approx((row.ra, row.dec), abs=1e-6)
        assert cards["CD2_2"] * 3600 == pytest.approx(0.262)


def test_each_defective_image_is_counted_and_has_no_three_bands_of_numbers(
    done: tuple[Path, dict[str, Any]],
) -> None:
    folder, result = done
    labels = pd.read_parquet(folder / "labels.parquet")
    for kind, column in (("defects", "image_defect"), ("bass_defects", "bass_defect")):
        counts = labels.loc[labels[column] != "", column].value_counts()
        assert result[kind] == counts.to_dict()
        assert set(counts.index) == set(image_damage.FITS_DEFECTS)

    def is_usable(path: Path) -> bool:
        try:
            data = fits.getdata(io.BytesIO(path.read_bytes()), ignore_missing_simple=False)
        except (OSError, TypeError, ValueError, MemoryError):
            return False
        return data.shape == (3, 48, 48) and bool(np.isfinite(data).all())

    for row in labels.itertuples():
        with warnings.catch_warnings(action="ignore"):
            usable = is_usable(folder / str(row.image))
        assert usable == (row.image_defect == ""), row.image_defect


def test_galaxies_do_not_depend_on_chunks_nor_on_the_order(
    done: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    mock.make(settings(tmp_path, chunk=100), run=lambda function, items: map(function, [*items][::-1]))
    names = sorted(
        str(path.relative_to(done[0])) for path in done[0].rglob("*.*") if path.name != "mock.json"
    )
    assert names == sorted(
        str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.*") if path.name != "mock.json"
    )
    for name in names:
        assert (done[0] / name).read_bytes() == (tmp_path / name).read_bytes(), name


def test_a_galaxy_has_its_magnitude_and_half_its_light_within_its_radius() -> None:
    for index in (1.0, 2.0, 4.0):
        image = scene(galaxy(sersic=index, axis_ratio=1.0, dust=0.0))[1]
        y, x = np.indices(image.shape) - (len(image) - 1) / 2
        inside = image[np.hypot(x, y) * galaxy_light.PIXEL < 2.0].sum()
        total = 10 ** (0.4 * (22.5 - 16.0))
        assert image.sum() == pytest.approx(total, rel=0.06 if index < 3 else 0.15)
        assert inside / total == pytest.approx(0.5, abs=0.03 if index < 3 else 0.05)


def test_the_axis_ratio_and_the_angle_are_those_of_the_light() -> None:
    image = scene(galaxy(sersic=1.0, axis_ratio=0.5, angle=30.0))[1]
    y, x = np.indices(image.shape) - (len(image) - 1) / 2
    xx, yy, xy = (float((image * part).sum() / image.sum()) for part in (x * x, y * y, x * y))
    long, short = np.linalg.eigvalsh([[xx, xy], [xy, yy]])[::-1]
    assert np.sqrt(short / long) == pytest.approx(0.5, abs=0.03)
    assert np.degrees(0.5 * np.arctan2(2 * xy, xx - yy)) == pytest.approx(30.0, abs=2.0)


def test_arms_turn_with_their_pitch_and_dust_darkens_g_most() -> None:
    values = {"bar": 0.0, "bulge": 0.0, "arms": 0.99, "arm_count": 2.0, "axis_ratio": 1.0, "turn": 1.0}
    image = scene(galaxy("spiral", pitch=20.0, radius=4.0, angle=0.0, **values))[1]
    y, x = np.indices(image.shape) - (len(image) - 1) / 2
    distance, angle = np.hypot(x, y) * galaxy_light.PIXEL, np.arctan2(y, x)
    phases = []
    for radius in (3.0, 3.5, 4.0, 4.5, 5.0):
        ring = np.abs(distance - radius) < 0.15
        phases.append(np.angle((image[ring] * np.exp(2j * angle[ring])).sum()) / 2)
    slope = np.polyfit(np.log([3.0, 3.5, 4.0, 4.5, 5.0]), np.unwrap(phases, period=np.pi), 1)[0]
    assert np.degrees(np.arctan(1 / slope)) == pytest.approx(20.0, abs=4.0)
    clear, dusty = (scene(galaxy("edge_on", dust=depth, bulge=0.0)).sum((1, 2)) for depth in (0.0, 2.0))
    assert (dusty / clear)[0] < (dusty / clear)[1] < (dusty / clear)[2] < 1


def test_bass_has_worse_seeing_and_more_noise() -> None:
    star = np.zeros((3, 64 + 2 * telescopes.MARGIN, 64 + 2 * telescopes.MARGIN), np.float32)
    star[:, 44, 44] = 1000.0
    seen = {
        name: np.mean([telescopes.expose(name, star, 64, np.random.default_rng(n)) for n in range(4)], 0)
        for name in telescopes.TELESCOPES
    }
    blank = {
        name: telescopes.expose(name, star * 0, 64, np.random.default_rng(1)).std((1, 2))
        for name in telescopes.TELESCOPES
    }
    for band in range(2):
        assert seen["bass"][band].max() < 0.75 * seen["decals"][band].max()
        assert blank["bass"][band] > 1.2 * blank["decals"][band]
    assert blank["decals"] == pytest.approx(telescopes.TELESCOPES["decals"].noise, rel=0.05)


def test_votes_follow_the_classes_and_the_order_of_the_questions(done: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = done
    table = pd.read_parquet(folder / "votes.parquet").set_index("name")
    kind = pd.read_csv(folder / "objects.csv").set_index("name")["class"].reindex(table.index)
    assert table["smooth-or-featured_total-votes"].median() == pytest.approx(40, abs=3)
    for question, answers in volunteers.QUESTIONS.items():
        fractions = table[[f"{question}_{answer}_fraction" for answer in answers]]
        asked = table[f"{question}_total-votes"]
        assert fractions.isna().all(axis=1).equals(asked == 0)
        assert fractions[asked > 0].sum(axis=1).to_numpy() == pytest.approx(1.0)
    first = "smooth-or-featured"
    expected = table[f"{first}_total-votes"] * table[f"{first}_featured-or-disk_fraction"]
    assert table["disk-edge-on_total-votes"].to_numpy() == pytest.approx(expected.to_numpy())
    likes = {"spiral": "barred", "barred": "spiral", "cigar": "edge_on", "edge_on": "cigar"}
    for column, name in (
        ("how-rounded_round_fraction", "smooth_round"),
        ("how-rounded_cigar-shaped_fraction", "cigar"),
        ("disk-edge-on_yes_fraction", "edge_on"),
        ("merging_merger_fraction", "merger"),
        ("has-spiral-arms_yes_fraction", "spiral"),
        ("bar_strong_fraction", "barred"),
    ):
        means = table[column].groupby(kind).mean()
        others = means.drop([name, likes.get(name, name)])
        assert means[name] > others.max() + 0.1, column
