"""M dwarfs with a spectrum and a picture each: colours, bands, missing and defective files."""

import builtins
import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from survey.mock import image_damage, light, mock, population, star_images
from survey.mock.settings import Mock
from survey.settings import JobError, Settings, SettingsError
from survey.sources import reading, sdss

SOURCES: dict[str, Settings] = {"sdss": sdss.Options()}
VALUES = {"objects": "m_stars", "layouts": {"sdss": 1}, "balance": "balanced", "visits": 0.2, "n": 110}


def settings(folder: Path | str, **more: Any) -> Mock:
    return Mock.from_dict("mock", VALUES | {"out": str(folder)} | more)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("mstars")
    made = settings(folder, broken=0.2, image_missing=0.1, spectrum_missing=0.1, image_pixels=64)
    return folder, mock.make(made)


def stars(count: int = 3) -> pd.DataFrame:
    blocks = [
        population.block(population.StarSettings(1, "balanced", 0.0, "m_stars"), n) for n in range(count)
    ]
    table = pd.concat([pd.DataFrame(block) for block in blocks], ignore_index=True)
    table["subclass"] = ((3850.0 - table["Teff"]) / 125.0).astype(int)
    table["gr"] = table["mag_g"] - table["mag_r"]
    table["ri"] = table["mag_r"] - table["mag_i"]
    return table


def test_the_table_has_a_row_for_each_spectrum_and_names_only_files_that_are_there(
    done: tuple[Path, dict[str, Any]],
) -> None:
    folder, result = done
    table = pd.read_csv(folder / "objects.csv", dtype={"name": str})
    head = ["name", "subclass", "plate", "mjd", "fiberID", "ra", "dec", *"ugriz", "spectrum", "image"]
    assert table.columns.tolist() == head
    assert len(table) == 110 == result["files"]
    assert set(table["subclass"]) == {"M0", "M1", "M2", "M3", "M4"}
    assert result["classes"] == table["subclass"].value_counts().to_dict()
    assert table["image"].isna().mean() == pytest.approx(0.1, abs=0.04)
    assert table["spectrum"].isna().mean() == pytest.approx(0.1, abs=0.04)
    assert not (table["image"].isna() & table["spectrum"].isna()).any()
    assert all((folder / path).exists() for name in ("image", "spectrum") for path in table[name].dropna())
    written = {f"images/{path.name}" for path in (folder / "images").iterdir()}
    assert written == set(table["image"].dropna())


def test_the_spectrum_of_a_row_is_that_of_its_star(done: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = done
    labels = pd.read_parquet(folder / "labels.parquet")
    table = pd.read_csv(folder / "objects.csv", dtype={"name": str})
    good = table[labels["defect"].isna() & labels["path"].notna()]
    for row in good.head(5).itertuples():
        (found,) = reading.spectra((folder / str(row.spectrum)).read_bytes(), str(row.spectrum), SOURCES)
        assert found.visit["star"] == row.name
        assert found.visit["subclass"] == row.subclass
        assert found.visit["planid"] == str(row.plate)
        assert found.visit["ra"] == pytest.approx(row.ra, abs=1e-5)


def test_visits_of_a_star_share_its_image(done: tuple[Path, dict[str, Any]]) -> None:
    table = pd.read_csv(done[0] / "objects.csv")
    assert table["name"].duplicated().any()
    assert (table.groupby("name")["image"].nunique() <= 1).all()


def test_defective_images_are_counted_and_cannot_be_used(done: tuple[Path, dict[str, Any]]) -> None:
    folder, result = done
    labels = pd.read_parquet(folder / "labels.parquet")
    assert result["image_defects"] == labels["image_defect"].value_counts().to_dict()
    assert set(labels["image_defect"].dropna()) == set(image_damage.JPEG_DEFECTS)
    for row in labels.dropna(subset="image").itertuples():
        data = (folder / str(row.image)).read_bytes()
        if not isinstance(row.image_defect, str):
            assert Image.open(io.BytesIO(data)).convert("RGB").size == (64, 64)
        elif row.image_defect == "wrong_size":
            assert Image.open(io.BytesIO(data)).size != (64, 64)
        else:
            with pytest.raises((OSError, Image.DecompressionBombError)):
                Image.open(io.BytesIO(data)).load()


def test_pictures_do_not_depend_on_the_chunks(done: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    more = {"broken": 0.2, "image_missing": 0.1, "spectrum_missing": 0.1, "image_pixels": 64}
    mock.make(
        settings(tmp_path, chunk=100, **more), run=lambda function, items: map(function, [*items][::-1])
    )
    for name in ("images", "objects.csv"):
        ours = sorted((done[0] / name).rglob("*")) or [done[0] / name]
        theirs = sorted((tmp_path / name).rglob("*")) or [tmp_path / name]
        assert [path.read_bytes() for path in ours] == [path.read_bytes() for path in theirs]


def test_colours_tell_the_subclass_but_often_miss_by_one() -> None:
    table = stars()
    medians = table.groupby("subclass")[["gr", "ri"]].median()
    # medians of 262 SDSS M stars
    assert medians["ri"].tolist() == pytest.approx([0.72, 0.87, 1.01, 1.22, 1.40], abs=0.07)
    assert medians["gr"].tolist() == pytest.approx([1.39, 1.42, 1.43, 1.46, 1.50], abs=0.07)
    fit, test = table[:2000], table[2000:]
    classifier = LinearDiscriminantAnalysis().fit(fit[["gr", "ri"]], fit["subclass"])
    assert 0.5 < classifier.score(test[["gr", "ri"]], test["subclass"]) < 0.75


def test_a_redder_star_is_redder_in_its_picture() -> None:
    shares = []
    for i in (18.1, 17.3):
        star = {"star_index": 3, "mag_g": 20.4, "mag_r": 19.0, "mag_i": i}
        picture = np.asarray(Image.open(io.BytesIO(star_images.jpeg(star, 0, 64)))).astype(float)
        core = picture[28:36, 28:36].sum((0, 1))
        assert core[0] > core[1] > core[2]
        shares.append(core[0] / core.sum())
    assert shares[1] > shares[0] + 0.05


def test_titanium_oxide_grows_as_in_templates_of_sdss_m_dwarfs() -> None:
    """TiO5 (Reid et al. 1995) of co-added SDSS spectra of solar metallicity."""
    templates = {1: 0.74, 2: 0.69, 3: 0.54}
    wave = light.LOW.wave()
    found = []
    for subclass in range(5):
        values = {
            "Teff": 3850.0 - 125.0 * (subclass + 0.5),
            "logg": 4.8,
            "FeH": 0.0,
            "MgFe": 0.0,
            "CaFe": 0.0,
        }
        row = {name: np.array([value]) for name, value in values.items()}
        row |= {name: np.zeros(1) for name in ("CFe", "NFe", "sFe", "rv")}
        flux = (light.continuum(row["Teff"], light.LOW) * light.transmission(row, light.LOW))[0]
        band, side = ((wave > a) & (wave < b) for a, b in ((7128.0, 7137.0), (7044.0, 7048.0)))
        found.append(flux[band].mean() / flux[side].mean())
    assert (np.diff(found) < -0.05).all()
    for subclass, index in templates.items():
        assert found[subclass] == pytest.approx(index, abs=0.06)


def test_without_galsim_one_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    original = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "galsim":
            raise ModuleNotFoundError(name)
        return original(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(JobError, match=r"^mock: images need GalSim.* pip install galsim$"):
        mock.make(settings(tmp_path / "sky"))
    assert not list(tmp_path.iterdir())
    assert mock.make(settings(tmp_path / "sky", image_missing=1.0, n=20))["files"] == 20


def test_no_star_lacks_both_spectrum_and_image() -> None:
    with pytest.raises(SettingsError, match=r"image_missing=0\.6 and spectrum_missing=0\.6"):
        settings("nowhere", image_missing=0.6, spectrum_missing=0.6)


def test_settings_of_other_objects_do_not_change_the_result() -> None:
    assert Mock(out="x", overlap=0.5).fingerprint() == Mock(out="x").fingerprint()
    assert "objects" not in Mock(out="x").plain()
    assert settings("x", overlap=0.5).fingerprint() == settings("x").fingerprint()
    assert settings("x", image_pixels=32).fingerprint() != settings("x").fingerprint()
