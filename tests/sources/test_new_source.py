"""A new survey is one new file: its files are read, and its names lead from catalogues to spectra."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

import survey.sources
from survey import plugins
from survey.labelling.join import join
from survey.labelling.settings import Join
from survey.settings import SettingsError
from survey.store.ingest import ingest
from survey.store.settings import Ingest
from survey.store.store import open_store

SOURCE = '''
"""Spectra of the toy survey: an image of flux and inverse variance."""

import numpy as np

from survey.settings import Settings
from survey.sources.naming import Naming
from survey.spectrum import LogWave, Spectrum

NAMING = Naming(
    file=r"^toy-(?P<field>\\\\d+)-(?P<object>\\\\d+)$",
    parts={"field": 1, "object": 4},
    path="{field}/toy-{field}-{object:04d}.fits",
    star_prefix="TOY",
    column_prefix="toy_",
)


class Options(Settings):
    """How files of the toy survey are read."""

    scale: float = 1.0


def read(hdus, name, settings):
    """The spectrum of a file; None if it is of another survey."""
    cards = hdus[0].cards
    if cards.get("TELESCOP") != "TOY":
        return None
    flux, ivar = hdus[0].image()
    visit = {"visit": f"{cards['FIELD']}-{cards['OBJECT']:04d}", "survey": "toy", "layout": "toy"}
    return [Spectrum(LogWave(3.5682, 1e-4, len(flux)), settings.scale * flux, ivar, visit=visit)]
'''.replace("\\\\", "\\")


@pytest.fixture
def toy_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The sources and one more file, which is all that a new survey needs."""
    shutil.copytree(plugins.FOLDER / "sources", tmp_path / "sources")
    (tmp_path / "sources" / "toy.py").write_text(SOURCE)
    monkeypatch.setattr(plugins, "FOLDER", tmp_path)
    monkeypatch.setattr(survey.sources, "__path__", [str(tmp_path / "sources")])
    yield
    sys.modules.pop("survey.sources.toy", None)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Three files of field 7 in the survey's own folders, and a catalogue that does not name them."""
    folder = tmp_path / "files"
    (folder / "7").mkdir(parents=True)
    wave = 10 ** (3.5682 + 1e-4 * np.arange(3909))
    for number in range(3):
        flux = 100 + 10 * np.sin(wave / 300 + number)
        hdu = fits.PrimaryHDU(np.stack([flux, np.full(3909, 1.0)]).astype("f4"))
        hdu.header.update({"TELESCOP": "TOY", "FIELD": 7, "OBJECT": number})
        hdu.writeto(folder / "7" / f"toy-7-{number:04d}.fits")
    rows = "".join(f"7,{number},TOY {100 + number}\n" for number in range(3))
    (folder / "catalogue.csv").write_text(f"toy_field,toy_object,star\n{rows}")
    return folder


def test_a_new_source_is_found_read_and_its_names_are_used(
    toy_source: None, files: Path, tmp_path: Path
) -> None:
    assert "toy" in plugins.names("sources")
    settings = Ingest.from_dict(
        "ingest",
        {
            "input": str(files / "catalogue.csv"),
            "store": str(tmp_path / "store"),
            "sources": ["lamost", "toy"],
            "options": {"toy": {"scale": 2.0}},
            "workers": 1,
        },
    )
    document = ingest(settings).document
    assert (document.written, document.refused) == (3, {})

    table = tmp_path / "labels.csv"
    table.write_text("field,object,FeH\n7,0,-1.5\n7,2,-2.5\n")
    labelled = join(Join(table=str(table)), open_store(settings.store), ["FeH"])
    assert labelled.label_NL[:, 0].tolist() == [-1.5, -2.5]


def test_a_wrong_setting_of_a_new_source_is_reported(toy_source: None, files: Path, tmp_path: Path) -> None:
    values = {"input": str(files), "store": str(tmp_path / "store"), "sources": ["toy"]}
    with pytest.raises(SettingsError, match=r"scal: unknown setting \(value 2\); did you mean scale\?"):
        Ingest.from_dict("ingest", values | {"options": {"toy": {"scal": 2}}})
