"""What every source has to do, whatever it reads; a new file in survey/sources/ is tested at once."""

import gzip
import io
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from survey import plugins
from survey.mock import mock
from survey.mock.settings import Mock
from survey.settings import Settings, SettingsError
from survey.sources import fits, reading
from survey.sources.checking import Found
from survey.spectrum import GRIDS, REASONS, VISIT_COLUMNS, ImageOfObject, LogWave, Refused, Spectrum
from survey.store.ingest import ingest
from survey.store.settings import Ingest

SOURCES = plugins.names("sources")
KINDS = {"string": str, "int64": int, "int32": int, "float64": float, "float32": float}

every_source = pytest.mark.parametrize("source", SOURCES)
some = settings(
    max_examples=40,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def made_up(layout: str) -> tuple[str, bytes]:
    """A file of the mock survey in this layout."""
    values = {"out": "x", "n": 100, "broken": 0.0, "gz": 0.0, "layouts": {layout: 1.0}}
    _, contents = mock.compute(Mock.from_dict("mock", values), 0)
    data = next(contents)
    assert data is not None
    return "some.fits", data


def array() -> tuple[str, bytes]:
    """Three spectra on the grid of 4,900 points."""
    stream = io.BytesIO()
    noise = np.random.default_rng(1).normal(0, 0.02, (3, len(GRIDS["cemp4900"])))
    np.save(stream, (1 + noise).astype(np.float32))
    return "X.npy", stream.getvalue()


def text() -> tuple[str, bytes]:
    """A spectrum as text, with errors."""
    wave = 10 ** (3.6 + 1e-4 * np.arange(300))
    flux = 1 + np.random.default_rng(2).normal(0, 0.02, 300)
    rows = "".join(f"{a:.4f} {b:.5f} 0.02\n" for a, b in zip(wave, flux, strict=True))
    return "some.txt", f"# wave flux error\n{rows}".encode()


def hdf5() -> tuple[str, bytes]:
    """Three spectra in HDF5, compressed."""
    stream = io.BytesIO()
    noise = np.random.default_rng(3).normal(0, 0.02, (3, 300))
    with h5py.File(stream, "w") as file:
        file.create_dataset("flux", data=(1 + noise).astype(np.float32), chunks=(1, 300), compression="gzip")
        file["ivar"] = np.full((3, 300), 2500, np.float32)
        file["wave"] = 10 ** (3.6 + 1e-4 * np.arange(300))
        file["obsid"] = [5, 6, 7]
    return "some.h5", stream.getvalue()


MADE: dict[str, Callable[[], tuple[str, bytes]]] = {
    "lamost": lambda: made_up("lrs_image"),
    "sdss": lambda: made_up("sdss"),
    "arrays": array,
    "ascii": text,
    "hdf5": hdf5,
}
"""The files of our own sources. The file of another plugin has a function `example` for this."""


@cache
def own_file(source: str) -> tuple[str, bytes] | None:
    """The name and the content of a valid file of a source; None if its plugin offers none."""
    make = MADE.get(source) or getattr(plugins.load("sources", source), "example", None)
    return make() if make else None


with_own_file = pytest.mark.parametrize("source", [source for source in SOURCES if own_file(source)])


def own(source: str) -> tuple[str, bytes]:
    found = own_file(source)
    assert found is not None
    return found


def is_table(source: str) -> bool:
    return hasattr(plugins.load("sources", source), "read_rows")


def read(source: str, name: str, data: bytes, folder: Path) -> list[Found | Refused] | None:
    """What the source itself makes of a file. Errors of a complete table count as a refusal."""
    module, options = plugins.load("sources", source), plugins.options("sources", source)()
    if is_table(source):
        path = folder / name
        path.write_bytes(data)
        try:
            count = module.count(str(path), options)
            return None if count is None else module.read_rows(str(path), list(range(min(count, 5))), options)
        except ValueError as error:
            return [Refused("bad_row", str(error))]
    try:
        unpacked = reading.unpack(data)
        if hasattr(module, "read_bytes") and reading.is_named(name, module.FILES):
            found: list[Found] | None = module.read_bytes(bytes(unpacked), name, options)
        else:
            found = module.read(fits.parse(unpacked), name, options) if hasattr(module, "read") else None
    except Refused as refused:
        return [refused]
    return None if found is None else [*found]


def check(results: list[Found | Refused] | None) -> None:
    """Every result is a valid spectrum or image, or a reason of the closed list."""
    for result in results or []:
        if isinstance(result, Refused):
            assert result.reason in REASONS
            continue
        for column, value in result.visit.items():
            assert type(value) is KINDS[VISIT_COLUMNS[column][0]], (column, value)
        if isinstance(result, ImageOfObject):
            assert result.pixels.ndim == 3
            assert result.pixels.dtype.kind in "fu"
            continue
        size = len(result.wave)
        assert result.flux.shape == result.ivar.shape == (size,)
        assert result.flux.dtype.kind in "fiu"
        assert result.ivar.dtype.kind in "fiu"
        for mask in (result.bad, result.suspect):
            assert mask is None or (mask.shape == (size,) and mask.dtype == bool)
        assert isinstance(result.wave, LogWave) or (np.diff(result.wave) > 0).all()
        assert 100 <= result.angstrom[0] < result.angstrom[-1] <= 1.1e6


@every_source
def test_a_source_has_one_reader_and_says_which_files_are_its_own(source: str) -> None:
    module = plugins.load("sources", source)
    readers = [name for name in ("read", "read_bytes", "read_rows") if hasattr(module, name)]
    assert readers in (["read"], ["read_bytes"], ["read_rows"], ["read", "read_bytes"])
    assert hasattr(module, "count") == (readers == ["read_rows"])
    if readers != ["read"] and source != "arrays":
        assert module.FILES
        assert plugins.constants("sources", "FILES")[source] == module.FILES


@every_source
def test_options_are_settings_with_defaults_and_descriptions(source: str) -> None:
    options = plugins.load("sources", source).Options
    assert issubclass(options, Settings)
    assert options() == options.from_dict("x", {})
    assert not [field for field, info in options.model_fields.items() if not info.description]
    with pytest.raises(SettingsError, match="no_such_option: unknown setting"):
        options.from_dict("x", {"no_such_option": 1})


@with_own_file
def test_its_own_file_gives_valid_spectra(source: str, tmp_path: Path) -> None:
    results = read(source, *own(source), tmp_path)
    assert results
    for result in results:
        assert isinstance(result, Spectrum | ImageOfObject)
        assert (result.ivar > 0).any() if isinstance(result, Spectrum) else np.ptp(result.pixels) > 0
    check(results)


@with_own_file
def test_its_own_file_becomes_rows_of_a_store(source: str, tmp_path: Path) -> None:
    name, data = own(source)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(data)
    (first, *_) = read(source, name, data, tmp_path) or []
    prepare: dict[str, object] = {"grid": "none", "image": {"size": 16}}
    if isinstance(first, Spectrum):
        low, high = first.angstrom[[10, -10]].tolist()
        prepare = {"grid": {"start": low, "stop": high, "step": (high - low) / 400}, "velocity": "rest"}
    values = {
        "input": str(tmp_path / "in"),
        "store": str(tmp_path / "store"),
        "sources": [source],
        "prepare": prepare,
    }
    document = ingest(Ingest.from_dict("ingest", values)).document
    assert document.written > 0
    assert document.refused == {}


@every_source
@pytest.mark.parametrize("other", SOURCES)
def test_the_file_of_another_source_is_left_to_it_or_refused(source: str, other: str, tmp_path: Path) -> None:
    if source == other or own_file(other) is None:
        return
    name, data = own(other)
    results = read(source, name, data, tmp_path)
    check(results)
    assert all(isinstance(result, Refused) for result in results or [])


@every_source
@pytest.mark.parametrize(
    "data",
    [b"", b"\0", b"\n" * 9, b"\xff\xfe" * 999, b"SIMPLE  =", b"{}", gzip.compress(b""), b"9" * 2_000_000],
    ids=["nothing", "zero", "lines", "no text", "cut FITS", "braces", "packed nothing", "one huge number"],
)
def test_garbage_is_left_to_others_or_refused(source: str, data: bytes, tmp_path: Path) -> None:
    name = (own_file(source) or ("some.fits", b""))[0]
    results = read(source, name, data, tmp_path)
    check(results)
    for result in results or []:
        assert isinstance(result, Refused)
        assert not is_table(source) or str(tmp_path) in result.detail, "an error names its file"


@with_own_file
@given(share=st.floats(0, 1), flips=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=9))
@some
def test_a_damaged_file_gives_valid_spectra_or_a_reason(
    source: str, share: float, flips: list[tuple[float, int]], tmp_path: Path
) -> None:
    name, data = own(source)
    damaged = bytearray(data[: int(len(data) * share)] if share < 0.5 else data)
    for where, value in flips:
        if damaged:
            damaged[int(len(damaged) * where)] = value
    with np.errstate(all="ignore"):
        check(read(source, name, bytes(damaged), tmp_path))


@with_own_file
def test_rows_come_in_the_requested_order_and_agree_with_the_count(source: str, tmp_path: Path) -> None:
    if not is_table(source):
        return
    name, data = own(source)
    path, options = str(tmp_path / name), plugins.options("sources", source)()
    Path(path).write_bytes(data)
    module = plugins.load("sources", source)
    count = module.count(path, options)
    forwards = module.read_rows(path, list(range(count)), options)
    backwards = module.read_rows(path, list(range(count))[::-1], options)
    assert len(forwards) == count
    for one, other in zip(forwards, backwards[::-1], strict=True):
        name = "pixels" if isinstance(one, ImageOfObject) else "flux"
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    try:
        (beyond,) = module.read_rows(path, [count], options)
        message = beyond.detail if isinstance(beyond, Refused) else ""
    except ValueError as error:
        message = str(error)
    assert str(count) in message, "a row that does not exist is an error or a refusal"


@every_source
def test_the_settings_of_a_source_load_no_heavy_library(source: str) -> None:
    code = (
        f"import sys\nfrom survey import plugins\nplugins.options('sources', {source!r})()\n"
        "plugins.constants('sources', 'FILES')\n"
        "heavy = {'torch', 'scipy', 'pandas', 'pyarrow', 'astropy', 'h5py'}\n"
        "sys.stdout.write(' '.join(sorted(heavy & sys.modules.keys())))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
