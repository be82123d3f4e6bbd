"""A damaged survey file gives valid spectra or a reason for refusal, and needs little memory.

A few hundred cases by default; SURVEY_FUZZ_CASES=10000 runs that many of each kind.
"""

import gzip
import io
import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache, partial
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits as astropy_fits
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from survey.sources import fits, lamost, sdss
from survey.sources.reading import spectra, unpack
from survey.spectrum import REASONS, VISIT_COLUMNS, LogWave, Refused, Spectrum
from tests.fits_files import fits_bytes

CASES = int(os.environ.get("SURVEY_FUZZ_CASES", "0"))
DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
SOURCES = [{"lamost": lamost.Options(mrs=kind), "sdss": sdss.Options()} for kind in ("coadd", "single")]
KINDS = {"string": str, "int64": int, "int32": int, "float64": float, "float32": float}

hostile = settings(
    max_examples=CASES or 60,
    derandomize=not CASES,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)


@cache
def originals() -> tuple[fits.Bytes, ...]:
    """Small valid files of every layout, and real ones if they are available."""
    rng, size = np.random.default_rng(5), 400
    wave = 10 ** (3.5682 + 1e-4 * np.arange(size))
    cards = astropy_fits.Header(
        {
            "TELESCOP": "LAMOST",
            "OBSID": 7,
            "RA": 1.5,
            "Z": 1e-4,
            "COEFF0": 3.5682,
            "COEFF1": 1e-4,
            "FIBERID": 3,
        }
    )
    rows = np.array([rng.normal(size=size), np.ones(size), wave, np.zeros(size), np.zeros(size)], "f4")
    row = np.zeros(1, [(name, "f4", (size,)) for name in ("FLUX", "IVAR", "WAVELENGTH", "ANDMASK", "ORMASK")])
    for name, values in zip(row.dtype.names or (), rows, strict=True):
        row[name] = values
    arm = np.zeros(
        size, [("FLUX", "f4"), ("IVAR", "f4"), ("LOGLAM", "f4"), ("ANDMASK", "i2"), ("ORMASK", "i2")]
    )
    arm["LOGLAM"] = np.log10(wave)
    pixels = np.zeros(
        size, [("flux", "f4"), ("loglam", "f4"), ("ivar", "f4"), ("and_mask", "i4"), ("or_mask", "i4")]
    )
    pixels["loglam"], pixels["ivar"] = np.log10(wave), 1
    seen = np.zeros(
        1,
        [
            ("CLASS", "S6"),
            ("SPECOBJID", "u8"),
            ("SN_MEDIAN", "f4", (5,)),
            ("Z", "f4"),
            ("ZWARNING", "i4"),
            ("THING_ID", "i4"),
        ],
    )
    table, empty = astropy_fits.BinTableHDU, astropy_fits.PrimaryHDU
    scaled = astropy_fits.PrimaryHDU(rows.copy(), cards)
    scaled.scale("int32", bscale=0.25)
    arms = [
        table(arm, name=name) for name in ("COADD_B", "COADD_R", "B-83555758", "R-83555758", "B-83555772")
    ]
    made = (
        fits_bytes(astropy_fits.PrimaryHDU(rows, cards)),
        fits_bytes(scaled),
        fits_bytes(empty(header=cards), table(row, name="COADD")),
        fits_bytes(empty(header=cards), *arms),
        fits_bytes(empty(), table(pixels, name="COADD"), table(seen, name="SPALL")),
    )
    folders = ("lamost/lrs_image", "lamost/lrs_image_subcont", "lamost/lrs_table", "sdss/spec", "lamost/mrs")
    real = (
        [unpack(sorted((DATA / folder).iterdir())[0].read_bytes()) for folder in folders]
        if DATA.is_dir()
        else []
    )
    return (*made, *real)


@cache
def rarities() -> bytes:
    """A file with everything that only astropy reads."""
    make, pixels = astropy_fits.Column, np.arange(900, dtype="i4").reshape(30, 30)
    columns = [
        make("DEEP", "6E", dim="(2,3)", array=np.arange(24.0).reshape(4, 3, 2)),
        make("LONG", "PE()", array=np.array([np.ones(3)] * 4, dtype=object)),
        make("FAR", "QD()", array=np.array([np.ones(2)] * 4, dtype=object)),
        make("PAIR", "C", array=np.ones(4, complex)),
        make("BITS", "9X", array=np.ones((4, 9), bool)),
        make("WORD", "5A", array=np.array(["a", "b", "c", "d"])),
    ]
    scaled = astropy_fits.ImageHDU(pixels.astype("f4"))
    scaled.scale("int16", bscale=0.5)
    packed = [
        astropy_fits.CompImageHDU(pixels, compression_type=kind)
        for kind in ("RICE_1", "GZIP_1", "PLIO_1", "HCOMPRESS_1")
    ]
    return fits_bytes(
        astropy_fits.PrimaryHDU(), astropy_fits.BinTableHDU.from_columns(columns), scaled, *packed
    )


def check_valid(spectrum: Spectrum) -> None:
    """The spectrum has equal lengths, rising wavelengths, and values of its visit of the right type."""
    size = len(spectrum.flux)
    assert spectrum.flux.shape == spectrum.ivar.shape == (size,)
    assert len(spectrum.wave) == size >= 100
    assert spectrum.flux.dtype.kind in "fiu"
    assert spectrum.ivar.dtype.kind in "fiu"
    for mask in (spectrum.bad, spectrum.suspect):
        assert mask is None or (mask.shape == (size,) and mask.dtype == bool)
    angstrom = spectrum.angstrom
    assert np.isfinite(angstrom).all()
    assert angstrom[0] >= 100
    assert angstrom[-1] <= 1.1e6
    assert (np.diff(angstrom) > 0).all()
    assert isinstance(spectrum.wave, LogWave) or spectrum.wave.dtype == float
    for name, value in spectrum.visit.items():
        assert type(value) is KINDS[VISIT_COLUMNS[name][0]], (name, value)
    assert {"visit", "survey", "layout"} <= set(spectrum.visit)


@contextmanager
def within_memory() -> Iterator[None]:
    """At most 300 MB more memory than ever before. (The time limit of the test ends endless loops.)"""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - most < 300_000


def check(data: fits.Bytes) -> None:
    """Valid spectra or a reason, in little memory."""
    for sources in SOURCES:
        result: list[Spectrum] | Refused
        with within_memory():
            try:
                result = spectra(data, "folder/some.fits.gz", sources)
            except Refused as refused:
                result = refused
        if isinstance(result, Refused):
            assert result.reason in REASONS
            assert len(result.detail) < 2000
        else:
            assert result
            for spectrum in result:
                check_valid(spectrum)


CARD_VALUES = (
    "1000000000000|-1|0|1|2|9|10|999|1000000000|-9223372036854775808|9999999999999999999999|NaN|INF|"
    "1E400|-9999|T|F||'|'text'|'a''b'|(1.0, 2.0)|1.5|0x10|'1PE(9)'|'QD'|'300E'|'400E'|'0E'|'5A'|'X'|"
    "'99999999E'|'LAMOST'|'SDSS'|'COADD'|'COADD_B'|'B-1'|'FLUX'|'IVAR'|'LOGLAM'|'WAVELENGTH'|'BINTABLE'|"
    "'IMAGE'|'TABLE'"
)
values = st.one_of(
    st.sampled_from(CARD_VALUES.split("|")),
    st.integers(-(10**20), 10**20).map(str),
    st.floats().map(str),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=68),
)
CARDS = (
    "SIMPLE,XTENSION,BITPIX,NAXIS,NAXIS1,NAXIS2,NAXIS3,PCOUNT,GCOUNT,TFIELDS,EXTNAME,TFORM1,TFORM2,"
    "TFORM3,TTYPE1,TTYPE2,TTYPE3,TSCAL1,TZERO1,TDIM1,BSCALE,BZERO,BLANK,ZIMAGE,ZNAXIS,ZNAXIS1,ZTILE1,"
    "ZCMPTYPE,ZBITPIX,TNULL1,THEAP,EXTEND,GROUPS,COEFF0,COEFF1,CRVAL1,CD1_1,TELESCOP,OBSID,LMJD,PLANID,"
    "SPID,FIBERID,RA,DEC,Z,Z_ERR,SNRG,OBS_TYPE,FIBERTYP,VACUUM,EXTEN0,DESIG,DATA_V,SNR,CLASS,END,COMMENT"
)
cards = st.sampled_from(CARDS.split(","))
positions = st.integers(0, (1 << 32) - 1).map(lambda number: number * 2654435761 % (1 << 32))
"""A position as a fraction of 2**32, evenly spread, because hypothesis prefers small numbers."""

files = st.integers(0, 9).map(lambda place: originals()[place % len(originals())])


def test_the_undamaged_files_are_valid() -> None:
    for data in originals():
        check_valid(spectra(data, "x.fits", SOURCES[0])[0])
        check(data)
        check(gzip.compress(data, 1))


@hostile
@given(files, positions, st.booleans())
def test_a_file_may_end_anywhere(data: bytes, where: int, packed: bool) -> None:
    complete = gzip.compress(data, 1) if packed else data
    check(complete[: where * len(complete) >> 32])


@hostile
@given(
    files,
    st.lists(st.tuples(positions, st.integers(0, 7)), min_size=1, max_size=30),
    st.sampled_from(["plain", "inside", "gzip"]),
)
def test_bits_may_be_flipped_before_and_after_packing(
    data: bytes, flips: list[tuple[int, int]], how: str
) -> None:
    changed = bytearray(gzip.compress(data, 1) if how == "gzip" else data)
    for where, bit in flips:
        changed[9 + (where * (len(changed) - 9) >> 32)] ^= 1 << bit
    check(gzip.compress(bytes(changed), 1) if how == "inside" else bytes(changed))


def card_bytes(name: str, value: str) -> bytes:
    return f"{name:<8}= {value:>20}"[:80].encode("latin-1").ljust(80)


@hostile
@given(files, st.lists(st.tuples(cards, values, positions), min_size=1, max_size=4), st.booleans())
def test_cards_may_have_wrong_values(data: bytes, lies: list[tuple[str, str, int]], packed: bool) -> None:
    """Each lie repositions the card of that name, wherever one is, or any card."""
    changed = bytearray(data)
    for name, value, where in lies:
        found = [
            at
            for at in range(0, min(len(changed), 200_000), 80)
            if changed[at : at + 10] == f"{name:<8}= ".encode()
        ]
        at = found[where * len(found) >> 32] if found else 80 + (where * 60 >> 32) * 80
        changed[at : at + 80] = card_bytes(name, value)
    check(gzip.compress(bytes(changed), 1) if packed else bytes(changed))


VALID = (
    {
        "SIMPLE": "T",
        "BITPIX": "-32",
        "NAXIS": "2",
        "NAXIS1": "300",
        "NAXIS2": "5",
        "TELESCOP": "'LAMOST'",
        "COEFF0": "3.6",
        "COEFF1": "0.0001",
    },
    {
        "XTENSION": "'BINTABLE'",
        "BITPIX": "8",
        "NAXIS": "2",
        "NAXIS1": "12",
        "NAXIS2": "300",
        "PCOUNT": "0",
        "GCOUNT": "1",
        "TFIELDS": "3",
    }
    | {
        "TTYPE1": "'FLUX'",
        "TTYPE2": "'IVAR'",
        "TTYPE3": "'LOGLAM'",
        "TFORM1": "'E'",
        "TFORM2": "'E'",
        "TFORM3": "'E'",
        "EXTNAME": "'COADD'",
    },
)


@hostile
@given(
    st.tuples(*[st.lists(st.tuples(cards, values), max_size=6)] * 2), st.binary(max_size=3000), st.booleans()
)
def test_cards_may_be_invented(
    invented: tuple[list[tuple[str, str]], ...], data: bytes, empty_first: bool
) -> None:
    """Invented cards stand before those of a valid header, because of two cards the first counts."""
    made = b""
    for valid, lies in zip(VALID, invented, strict=True):
        first, *others = valid.items()
        made += card_bytes(*first) + (card_bytes("NAXIS", "0") if empty_first and not made else b"")
        made += b"".join(
            card_bytes(name, value) for name, value in (*lies, *others) if name != "END"
        ) + b"END".ljust(80)
        made += b" " * (-len(made) % 2880)
        made += (data * 3)[:6000].ljust(8640, b"\0") if len(made) > 2880 or not empty_first else b""
    check(made)


@settings(hostile, max_examples=CASES or 30)
@given(
    st.lists(st.tuples(cards, values, positions), max_size=3),
    st.lists(st.tuples(positions, st.integers(0, 7)), max_size=5),
)
def test_what_only_astropy_reads_may_be_damaged(
    lies: list[tuple[str, str, int]], flips: list[tuple[int, int]]
) -> None:
    changed = bytearray(rarities())
    for name, value, where in lies:
        found = [at for at in range(0, len(changed), 80) if changed[at : at + 10] == f"{name:<8}= ".encode()]
        if found:
            at = found[where * len(found) >> 32]
            changed[at : at + 80] = card_bytes(name, value)
    for where, bit in flips:
        changed[9 + (where * (len(changed) - 9) >> 32)] ^= 1 << bit
    read = 0
    with within_memory(), suppress(Refused):
        for hdu in fits.parse(bytes(changed)):
            takes: list[Callable[[], np.ndarray]] = [partial(hdu.column, name) for name in hdu.columns]
            for take in takes or [hdu.image]:
                with suppress(Refused):
                    read += take().size
    assert read < 1 << 24


@hostile
@given(
    files,
    st.lists(
        st.tuples(
            positions,
            st.floats(0, 0.2),
            st.sampled_from([80, 2880, 1, 4]),
            st.sampled_from(["cut", "zero", "twice", "ones"]),
        )
    ),
)
def test_pieces_may_be_lost_erased_or_doubled(data: bytes, wounds: list[tuple[int, float, int, str]]) -> None:
    changed = data
    for where, share, unit, how in wounds[:4]:
        start = (where * len(changed) >> 32) // unit * unit
        stop = min(start + max(unit, int(share * len(changed)) // unit * unit), len(changed))
        middle = {
            "cut": b"",
            "zero": bytes(stop - start),
            "ones": b"\xff" * (stop - start),
            "twice": changed[start:stop] * 2,
        }[how]
        changed = changed[:start] + middle + changed[stop:]
    check(changed)


NUMBERS = (
    b"\x7f\xc0\0\0",
    b"\x7f\x80\0\0",
    b"\xff\x80\0\0",
    b"\x7f\xa0\0\1",
    b"\0\0\0\0",
    b"\x80\0\0\1",
    b"\x7f\x7f\xff\xff",
)
"""NaN, both infinities, a signalling NaN, 0, a denormal, the largest float32."""


@hostile
@given(
    files,
    st.lists(st.tuples(positions, st.sampled_from(NUMBERS), st.integers(1, 900)), min_size=1, max_size=8),
)
def test_numbers_may_be_nan_infinite_or_denormal(data: bytes, poisons: list[tuple[int, bytes, int]]) -> None:
    changed = bytearray(data)
    for where, number, times in poisons:
        start = 2880 + (where * (len(changed) - 2880) >> 32) // 4 * 4
        stop = min(start + 4 * times, len(changed))
        changed[start:stop] = (number * times)[: stop - start]
    check(bytes(changed))


@hostile
@given(
    st.binary(max_size=4000),
    st.sampled_from(
        [
            b"",
            b"SIMPLE  =",
            b"SIMPLE  =                    T".ljust(80),
            b"\x1f\x8b",
            b"\x1f\x8b\x08\0\0\0\0\0\0\3",
        ]
    ),
)
def test_bytes_may_be_random(data: bytes, start: bytes) -> None:
    check(start + data)


@pytest.mark.parametrize("zeros", [1 << 20, 63 << 20, 65 << 20, 256 << 20])
def test_a_gzip_bomb_is_refused_or_harmless(zeros: int) -> None:
    file = io.BytesIO()
    with gzip.open(file, "wb", compresslevel=1) as packed:
        for _ in range(zeros >> 20):
            packed.write(bytes(1 << 20))
    check(file.getvalue())


def test_a_gzip_bomb_may_follow_a_valid_file() -> None:
    check(gzip.compress(originals()[0], 1) + gzip.compress(bytes(80 << 20), 1))
