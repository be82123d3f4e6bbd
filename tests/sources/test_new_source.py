"""A new survey is one new file: its files are read, and its names lead from catalogues to spectra.

The files need not be FITS: a source may read text, or the rows of a table of its own shape.
"""

import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits

import survey.sources
from survey import plugins
from survey.labelling.join import join
from survey.labelling.settings import Join
from survey.settings import SettingsError
from survey.store.ingest import IngestResult, RefusalsError, ingest
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


TEXT = '''
"""Spectra of the toy survey as text: the name of the star in the first line, then one flux in each line."""

import numpy as np

from survey.settings import Settings
from survey.sources.noise import without_errors
from survey.spectrum import LogWave, Refused

FILES = ("*.flux",)


class Options(Settings):
    """How files of the toy survey are read."""


def read_bytes(data, name, settings):
    """The spectrum of a file."""
    star, *lines = data.decode().splitlines()
    if star == "sky":
        raise Refused("no_object", "a sky fibre")
    flux = np.array([float(line) for line in lines])
    return [without_errors(LogWave(3.5682, 1e-4, len(flux)), flux, visit={"star": star, "ra": "12.5"})]
'''

TABLE = '''
"""Spectra of the toy survey in Parquet: each row has a text of fluxes."""

import numpy as np
import pyarrow.parquet as pq

from survey import files
from survey.settings import Settings
from survey.spectrum import LogWave, Refused, Spectrum

FILES = ("*.parquet",)


class Options(Settings):
    """How tables of the toy survey are read."""


def count(path, settings):
    """The number of spectra; None if the table has no column of the toy survey."""
    with files.open_file(path) as stream:
        file = pq.ParquetFile(stream)
        return file.metadata.num_rows if "toy" in file.schema_arrow.names else None


def read_rows(path, rows, settings):
    """The spectra of these rows."""
    with files.open_file(path) as stream:
        texts = pq.read_table(stream)["toy"].to_pylist()
    return [_spectrum(texts[row], row) for row in rows]


def _spectrum(text, row):
    if not text:
        return Refused("bad_row", "no fluxes")
    flux = np.array(text.split(), float)
    ivar = np.full(len(flux), 2500.0)
    return Spectrum(LogWave(3.5682, 1e-4, len(flux)), flux, ivar, visit={"obsid": row + 1})
'''


@pytest.fixture
def add_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Adds a file toy.py to the sources, which is all that a new survey needs."""
    shutil.copytree(plugins.FOLDER / "sources", tmp_path / "sources")
    monkeypatch.setattr(plugins, "FOLDER", tmp_path)
    monkeypatch.setattr(survey.sources, "__path__", [str(tmp_path / "sources")])

    def add(text: str) -> None:
        (tmp_path / "sources" / "toy.py").write_text(text)

    yield add
    sys.modules.pop("survey.sources.toy", None)


@pytest.fixture
def toy_source(add_source: Callable[[str], None]) -> None:
    """The source of FITS files of the toy survey."""
    add_source(SOURCE)


def fluxes(number: int) -> np.ndarray:
    """A spectrum of signal to noise 50."""
    draw = np.random.default_rng(number)
    return np.asarray((1 + 0.1 * np.sin(np.arange(3909) / 300)) * (1 + draw.normal(0, 0.02, 3909)))


def ingested(folder: Path, source: Path, **changes: Any) -> IngestResult:
    values = {
        "input": str(source),
        "store": str(folder / "store"),
        "sources": ["lamost", "toy"],
        "prepare": {"velocity": "rest"},
        "refuse_above": 1.0,
    }
    return ingest(Ingest.from_dict("ingest", values | changes))


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
    with pytest.raises(
        SettingsError,
        match=r"options.toy.scal: unknown setting \(value 2\); did you mean options.toy.scale\?",
    ):
        Ingest.from_dict("ingest", values | {"options": {"toy": {"scal": 2}}})


def write_text_files(folder: Path) -> Path:
    """Three spectra, a sky fibre, two damaged files, and a file that is no spectrum."""
    folder.mkdir()
    for number in range(3):
        lines = "\n".join(f"{value:.5f}" for value in fluxes(number))
        (folder / f"{number}.flux").write_text(f"star {number}\n{lines}\n")
    (folder / "3.flux").write_text("sky\n1\n2\n")
    (folder / "4.flux").write_text("star 4\none\n")
    (folder / "5.flux").write_bytes(b"\xff\xfe\xfd")
    (folder / "notes").write_text("of the night")
    return folder


def test_files_that_are_no_fits_become_a_store(add_source: Callable[[str], None], tmp_path: Path) -> None:
    add_source(TEXT)
    result = ingested(tmp_path, write_text_files(tmp_path / "in"))
    assert (result.document.written, result.plan.ignored) == (3, 1)
    assert result.document.refused == {"damaged": 2, "no_object": 1}
    assert result.document.flagged == {"no_obsid": 3, "noise_estimated": 3}
    spectra = open_store(str(tmp_path / "store")).spectra(0).to_pylist()
    assert [row["star"] for row in spectra] == ["star 0", "star 1", "star 2"]
    assert {(row["survey"], row["visit"][0], row["ra"]) for row in spectra} == {
        ("toy", str(number), 12.5) for number in range(3)
    }
    np.testing.assert_allclose([row["snr"] for row in spectra], 50 * 1.5**0.5, rtol=0.25)


def test_one_file_that_is_no_fits_is_an_input_too(add_source: Callable[[str], None], tmp_path: Path) -> None:
    add_source(TEXT)
    folder = write_text_files(tmp_path / "in")
    assert ingested(tmp_path, folder / "1.flux").document.written == 1


def test_a_catalogue_names_files_that_are_no_fits(add_source: Callable[[str], None], tmp_path: Path) -> None:
    add_source(TEXT)
    write_text_files(tmp_path / "in")
    (tmp_path / "c.csv").write_text("file,rv,obsid\nnight/2.flux,100,7\nnight/0.flux,-20,8\n")
    result = ingested(
        tmp_path, tmp_path / "c.csv", files=str(tmp_path / "in"), prepare={"velocity": "rv_or_z"}
    )
    spectra = open_store(str(tmp_path / "store")).spectra(0).to_pylist()
    assert [(row["star"], row["velocity"], row["obsid"]) for row in spectra] == [
        ("star 2", pytest.approx(100), 7),
        ("star 0", pytest.approx(-20), 8),
    ]
    assert result.document.refused == {}


def test_a_table_of_another_shape_becomes_a_store(add_source: Callable[[str], None], tmp_path: Path) -> None:
    add_source(TABLE)
    folder = tmp_path / "in"
    folder.mkdir()
    texts = [" ".join(f"{value:.5f}" for value in fluxes(number)) for number in range(3)]
    pq.write_table(pa.table({"toy": [*texts[:2], None, texts[2]]}), folder / "a.parquet")
    pq.write_table(pa.table({"label": [1.0]}), folder / "labels.parquet")
    lists = pa.FixedSizeListArray.from_arrays(fluxes(3), 3909)
    pq.write_table(pa.table({"flux": lists}), folder / "ours.parquet")
    (folder / "damaged.parquet").write_bytes(b"PAR1 and no more")
    result = ingested(tmp_path, folder, options={"arrays": {"grid": "lamost3909"}})
    assert (result.document.written, result.plan.ignored) == (4, 1)
    assert result.document.refused == {"bad_row": 1, "damaged": 1}
    spectra = open_store(str(tmp_path / "store")).spectra(0).to_pylist()
    assert [(row["survey"], row["row"], row["obsid"]) for row in spectra] == [
        ("toy", 0, 1),
        ("toy", 1, 2),
        ("toy", 3, 4),
        ("arrays", 0, None),
    ]
    assert [row["visit"] for row in spectra] == ["a-0", "a-1", "a-3", "ours-0"]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ("return None  #", "plugin_error"),
        ("return Spectrum([1, 2], [3, 4], [5, 6])  #", "plugin_error"),
        ("return Spectrum(np.array([4000.0]), np.ones(1), np.ones(1))  #", "bad_row"),
        ("raise KeyError('toy')  #", "bad_row"),
    ],
)
def test_wrong_rows_of_a_plugin_are_refused_and_stop_nothing(
    add_source: Callable[[str], None], tmp_path: Path, wrong: str, reason: str
) -> None:
    add_source(TABLE.replace("return Spectrum(", f"{wrong} ("))
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"toy": ["1 2 3", "4 5 6"]}), tmp_path / "in" / "a.parquet")
    assert ingested(tmp_path, tmp_path / "in").document.refused == {reason: 2}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ('FILES = ("*.flux",)\n', r"survey/sources/toy\.py has no FILES; add the names of its files"),
        ("class Options(Settings):\n", "survey/sources/toy.py has no class Options; add it"),
    ],
    ids=["names", "options"],
)
def test_a_source_that_lacks_a_part_is_an_error_that_says_what_to_add(
    add_source: Callable[[str], None], tmp_path: Path, wrong: str, message: str
) -> None:
    add_source(TEXT.replace(wrong, wrong.replace("FILES", "OTHER").replace("Options", "Other")))
    with pytest.raises(SettingsError, match=message):
        ingested(tmp_path, write_text_files(tmp_path / "in"), options={"toy": {}})


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ("LogWave(3.5682, 1e-4, len(flux) - 1), flux", "bad_row"),
        ("np.arange(len(flux))[::-1] + 4000.0, flux", "bad_wavelength"),
        ("LogWave(3.5682, 1e-4, len(flux)), flux[None]", "bad_row"),
        ("LogWave(3.5682, 1e-4, len(flux)), no_such_name", "plugin_error"),
    ],
)
def test_a_wrong_spectrum_of_a_plugin_is_refused_and_stops_nothing(
    add_source: Callable[[str], None], tmp_path: Path, wrong: str, reason: str
) -> None:
    add_source(TEXT.replace("LogWave(3.5682, 1e-4, len(flux)), flux", wrong))
    result = ingested(tmp_path, write_text_files(tmp_path / "in"))
    assert result.document.written == 0
    assert result.document.refused.get(reason, 0) >= 3


def test_an_error_in_the_code_of_a_source_is_said_and_files_are_read_again_when_it_is_corrected(
    add_source: Callable[[str], None], tmp_path: Path
) -> None:
    add_source(TEXT.replace("return [without_errors", "return [with_out_errors"))
    folder = write_text_files(tmp_path / "in")
    with pytest.raises(RefusalsError) as caught:
        ingested(tmp_path, folder, refuse_above=0.5)
    message = str(caught.value)
    assert f"(plugin_error 3, such as {folder}/0.flux: survey/sources/toy.py: NameError: name " in message
    assert "'with_out_errors' is not defined (line 23) (correct the source, then reread=true reads" in message
    assert "; damaged 2, such as " in message
    sys.modules.pop("survey.sources.toy")
    add_source(TEXT)
    assert ingested(tmp_path, folder).created == 0
    again = ingested(tmp_path, folder, reread=True)
    assert (again.created, again.document.written) == (1, 3)


def test_a_source_may_state_a_velocity_and_a_catalogue_counts_before_it(
    add_source: Callable[[str], None], tmp_path: Path
) -> None:
    add_source(TEXT.replace('"ra": "12.5"', '"rv": 30.0'))
    folder, prepare = write_text_files(tmp_path / "in"), {"velocity": "rv_or_z"}
    assert ingested(tmp_path, folder, prepare=prepare).document.flagged.get("no_velocity") is None
    spectra = open_store(str(tmp_path / "store")).spectra(0)
    assert spectra["velocity"].to_pylist() == pytest.approx([30.0] * 3)
    (tmp_path / "c.csv").write_text("file,rv\n2.flux,-70\n1.flux,\n")
    ingested(tmp_path, tmp_path / "c.csv", files=str(folder), prepare=prepare, store=str(tmp_path / "other"))
    spectra = open_store(str(tmp_path / "other")).spectra(0)
    assert spectra["velocity"].to_pylist() == pytest.approx([-70.0, 30.0])


def test_an_unknown_key_in_a_source_of_fits_files_is_refused_too(
    add_source: Callable[[str], None], files: Path, tmp_path: Path
) -> None:
    add_source(SOURCE.replace('"layout": "toy"', '"radial": 1.0'))
    document = ingested(tmp_path, files / "7").document
    assert document.refused == {"plugin_error": 3}


def test_an_unknown_key_of_a_visit_is_refused_with_the_keys_that_there_are(
    add_source: Callable[[str], None], tmp_path: Path
) -> None:
    add_source(TEXT.replace('"ra": "12.5"', '"velocity": 30.0'))
    with pytest.raises(
        RefusalsError,
        match=r"survey/sources/toy.py: visit has the unknown key 'velocity'; the keys are visit, star, .*rv",
    ):
        ingested(tmp_path, write_text_files(tmp_path / "in"), refuse_above=0.5)
