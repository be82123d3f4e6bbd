"""The fast FITS reader against astropy, and against headers with false values."""

import gzip
import io
import tracemalloc
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits as astropy_fits

from survey.sources import fits
from survey.sources.reading import unpack
from survey.spectrum import Refused
from tests.fits_files import fits_bytes


def card(text: str) -> bytes:
    return text.encode("latin-1").ljust(80)


def header(*cards: str) -> bytes:
    data = b"".join(map(card, (*cards, "END")))
    return data + b" " * (-len(data) % 2880)


def image(*cards: str, data: bytes = b"") -> bytes:
    return header("SIMPLE  =                    T", *cards) + data + b"\0" * (-len(data) % 2880)


def everything(data: bytes) -> list[np.ndarray]:
    """All images and columns of a file."""
    found = []
    for hdu in fits.parse(unpack(data)):
        found += (
            [hdu.column(name) for name in hdu.columns] if hdu.is_table else [hdu.image()] if hdu.shape else []
        )
    return found


def reason(data: bytes) -> str:
    with pytest.raises(Refused) as refused:
        everything(data)
    return refused.value.reason


def test_a_gzip_file_of_several_members_gives_them_all() -> None:
    data = bytes(range(256)) * 1000
    packed = b"".join(gzip.compress(data[start : start + 10_007]) for start in range(0, len(data), 10_007))
    assert unpack(packed) == data
    assert unpack(packed + b"\0" * 5000) == data


def test_bytes_that_are_not_gzip_stay_as_they_are() -> None:
    assert unpack(b"SIMPLE  = ") == b"SIMPLE  = "


@pytest.mark.parametrize("position", [-1, -4, -5, -8, 30])
def test_a_changed_checksum_length_or_byte_is_a_damaged_gzip_file(position: int) -> None:
    packed = bytearray(gzip.compress(np.random.default_rng(0).bytes(5000)))
    packed[position] ^= 0x10
    assert reason(bytes(packed)) == "bad_gzip"


def test_junk_after_the_last_member_is_damage() -> None:
    assert reason(gzip.compress(b"SIMPLE") + b"\0junk") == "bad_gzip"


def test_a_gzip_file_cut_anywhere_is_damaged() -> None:
    packed = gzip.compress(b"a" * 100) + gzip.compress(b"b" * 100)
    complete = {len(gzip.compress(b"a" * 100)), len(packed)}
    assert {reason(packed[:size]) for size in range(2, len(packed)) if size not in complete} == {"bad_gzip"}


@pytest.mark.parametrize("members", [1, 3])
def test_a_gzip_bomb_is_refused_before_it_fills_the_memory(members: int) -> None:
    sizes = [65 << 20] if members == 1 else [(40 << 20) + number for number in range(members)]
    bomb = b"".join(gzip.compress(bytes(size)) for size in sizes)
    tracemalloc.start()
    assert reason(bomb) == "too_large"
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 300 << 20


def test_a_gzip_bomb_that_states_its_size_is_refused_unopened() -> None:
    bomb = gzip.compress(bytes(65 << 20))
    tracemalloc.start()
    with pytest.raises(Refused, match=f"says that it unpacks to {65 << 20} bytes"):
        unpack(bomb)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_a_size_that_no_gzip_file_can_have_is_damage() -> None:
    packed = gzip.compress(np.random.default_rng(0).bytes(5000))
    assert reason(packed[:-4] + (80 << 20).to_bytes(4, "little")) == "bad_gzip"


def test_copies_of_one_member_are_read_as_one_and_other_members_are_joined() -> None:
    first, second = gzip.compress(b"a" * 1000), gzip.compress(b"b" * 1000)
    assert unpack(first * 3) == b"a" * 1000
    assert unpack(first + second) == b"a" * 1000 + b"b" * 1000
    assert unpack(first + first + second) == b"a" * 2000 + b"b" * 1000


def test_a_million_tiny_members_are_refused_after_4096() -> None:
    with pytest.raises(Refused, match="more than 4096 gzip members"):
        unpack(gzip.compress(b"") * 1_000_000)


def test_empty_files_are_called_empty() -> None:
    assert reason(b"") == "empty"
    assert reason(gzip.compress(b"")) == "empty"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("A       =                   12 / twelve", 12),
        ("A       = 12", 12),
        ("A       =                -12.5E3", -12500.0),
        ("A       =             1.0D-3 / D", 1e-3),
        ("A       =                 1D10", 1e10),
        ("A       =                 1E5", 1e5),
        ("A       =                    T", True),
        ("A       = F / false", False),
        ("A       = 'text    '           / it", "text"),
        ("A       = ' it''s / so ''' / it", " it's / so '"),
        ("A       = ''", ""),
        ("A       = '/'", "/"),
        ("A       =    'late' / x", "late"),
        ("A       =", None),
        ("A       =    / nothing", None),
        ("A        12", None),
        ("A       = 'open", None),
        ("A       = 1_000", None),
        ("A       = 12 monkeys", None),
        ("A       = +.5", 0.5),
    ],
)
def test_a_card_has_the_value_that_the_standard_gives_it(text: str, value: object) -> None:
    found = fits.parse(image("BITPIX  = 8", "NAXIS   = 0", text))[0].cards.get("A")
    assert found == value
    assert type(found) is type(value)


def test_all_cards_of_real_headers_are_those_of_astropy(shared: Path) -> None:
    paths = [*sorted(shared.glob("lamost/*/*.fits*"))[::12], *sorted(shared.glob("sdss/spec/*"))[::4]]
    compared = 0
    for path in paths:
        data = unpack(path.read_bytes())
        with astropy_fits.open(io.BytesIO(data)) as hdus, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for ours, theirs in zip(fits.parse(data), hdus, strict=True):
                assert ours.name.upper() == theirs.name.upper().replace("PRIMARY", ours.name.upper())
                for name in set(theirs.header) - {"COMMENT", "HISTORY", "", "CONTINUE"}:
                    value = theirs.header[name]
                    if isinstance(value, str) and "CONTINUE" in theirs.header:
                        continue
                    found = ours.cards.get(name)
                    assert found == value or isinstance(value, astropy_fits.card.Undefined), (path.name, name)
                    compared += 1
    assert compared > 10_000


def test_of_cards_given_twice_the_first_counts_as_in_astropy() -> None:
    data = image("BITPIX  = 8", "NAXIS   = 0", "A       = 1", "A       = 2")
    assert fits.parse(data)[0].cards.get("A") == astropy_fits.Header.fromstring(data).get("A") == 1


def test_end_inside_a_comment_does_not_end_the_header() -> None:
    data = image("BITPIX  = 8", "NAXIS   = 0", "COMMENT THE END", " ", "A       = 1")
    assert fits.parse(data)[0].cards.get("A") == 1


@pytest.mark.parametrize("kind", ["u1", "i2", "i4", "i8", "f4", "f8", "u2", "u4", "u8"])
def test_images_and_columns_of_every_type_are_those_of_astropy(kind: str) -> None:
    numbers = np.arange(-60, 60).astype(kind).reshape(3, 40)
    table = np.zeros(3, [("ONE", kind), ("MANY", kind, (40,))])
    table["ONE"], table["MANY"] = numbers[:, 0], numbers
    hdus = fits.parse(fits_bytes(astropy_fits.PrimaryHDU(numbers), astropy_fits.BinTableHDU(table)))
    np.testing.assert_array_equal(hdus[0].image(), numbers)
    for name in ("ONE", "MANY"):
        np.testing.assert_array_equal(hdus[1].column(name), table[name])
        assert hdus[1].column(name).shape == table[name].shape


def test_every_column_of_real_tables_is_that_of_astropy(shared: Path) -> None:
    compared = 0
    for path in [
        shared / "sdss/spec/spec-0266-51602-0013.fits",
        shared / "sdss/spec/spec-10000-57346-0002.fits",
    ]:
        data = path.read_bytes()
        with astropy_fits.open(io.BytesIO(data)) as hdus:
            for ours, theirs in zip(fits.parse(data), hdus, strict=True):
                for name in theirs.columns.names if isinstance(theirs, astropy_fits.BinTableHDU) else ():
                    found, wanted = ours.column(name), theirs.data.field(name)
                    if found.dtype.kind == "S":
                        assert [cell.decode().rstrip() for cell in found] == [
                            cell.rstrip() for cell in wanted
                        ]
                    else:
                        np.testing.assert_array_equal(found, wanted)
                        assert (
                            found.tobytes() == wanted.tobytes()
                            or wanted.dtype.byteorder != found.dtype.byteorder
                        )
                    compared += 1
    assert compared > 350


def test_text_logical_deep_and_variable_columns_are_those_of_astropy() -> None:
    make = astropy_fits.Column
    columns = [
        make("WORD", "5A", array=np.array(["a", "bc", "def", ""])),
        make("FLAG", "L", array=np.array([True, False, True, True])),
        make(
            "LONG",
            "PE()",
            array=np.array([np.arange(3.0), np.arange(3.0), np.ones(3), np.ones(3)], dtype=object),
        ),
        make("NONE", "0E", array=np.empty((4, 0))),
        make("DEEP", "6E", dim="(2,3)", array=np.arange(24.0).reshape(4, 3, 2)),
    ]
    data = fits_bytes(astropy_fits.PrimaryHDU(), astropy_fits.BinTableHDU.from_columns(columns))
    table = fits.parse(data)[1]
    assert table.columns == ("WORD", "FLAG", "LONG", "NONE", "DEEP")
    assert table.column("WORD").tolist() == [b"a", b"bc", b"def", b""]
    assert table.column("FLAG").tolist() == [True, False, True, True]
    np.testing.assert_array_equal(table.column("LONG"), [[0, 1, 2], [0, 1, 2], [1, 1, 1], [1, 1, 1]])
    assert table.column("NONE").shape == (4, 0)
    assert table.column("DEEP").shape == (4, 3, 2)


def test_a_scaled_column_is_what_its_header_says() -> None:
    form = {
        **TABLE,
        "NAXIS1": "4",
        "NAXIS2": "3",
        "TTYPE1": "'A'",
        "TFORM1": "'2I'",
        "TSCAL1": "0.5",
        "TZERO1": "3.0",
    }
    data = image("BITPIX  = 8", "NAXIS   = 0") + header(
        *(f"{name:<8}= {value:>20}" for name, value in form.items())
    )
    data += np.arange(6, dtype=">i2").tobytes().ljust(2880, b"\0")
    np.testing.assert_array_equal(fits.parse(data)[1].column("A"), 3 + np.arange(6).reshape(3, 2) / 2)


def test_scaled_images_are_those_of_astropy() -> None:
    pixels = np.arange(4000, dtype="f4").reshape(40, 100)
    scaled = astropy_fits.ImageHDU(pixels.copy())
    scaled.scale("int16", bscale=0.5, bzero=1000)
    np.testing.assert_array_equal(
        fits.parse(fits_bytes(astropy_fits.PrimaryHDU(), scaled))[1].image(), pixels
    )


def test_compressed_images_are_refused_because_their_decoders_crash_on_damage() -> None:
    data = fits_bytes(astropy_fits.PrimaryHDU(), astropy_fits.CompImageHDU(np.zeros((20, 20), "i4")))
    with pytest.raises(Refused, match="funpack"):
        fits.parse(data)[1].image()


def test_arrays_are_views_of_the_file() -> None:
    data = fits_bytes(astropy_fits.PrimaryHDU(np.zeros((5, 300), "f4")))
    assert np.shares_memory(fits.parse(data)[0].image(), np.frombuffer(data, np.uint8))


def test_a_damaged_extension_that_is_not_read_does_no_harm() -> None:
    data = fits_bytes(astropy_fits.PrimaryHDU(np.ones((5, 300), "f4")), astropy_fits.ImageHDU(np.zeros(5000)))
    hdus = fits.parse(data[:-20_000])
    assert hdus[0].image().sum() == 1500
    with pytest.raises(Refused, match="truncated"):
        len(hdus)


def test_hdus_are_found_by_index_and_by_name() -> None:
    hdus = fits.parse(
        fits_bytes(
            astropy_fits.PrimaryHDU(),
            astropy_fits.ImageHDU(name="First"),
            astropy_fits.ImageHDU(name="second"),
        )
    )
    assert "SECOND" in hdus
    assert "third" not in hdus
    assert hdus["second"] is hdus[2]
    assert hdus.by_index(3) is None
    assert len(hdus) == 3
    with pytest.raises(Refused, match=r"no HDU 'third'.*FIRST"):
        hdus["third"]


STRUCTURE = {"SIMPLE": "T", "BITPIX": "-32", "NAXIS": "2", "NAXIS1": "300", "NAXIS2": "5"}
TABLE = {
    "XTENSION": "'BINTABLE'",
    "BITPIX": "8",
    "NAXIS": "2",
    "NAXIS1": "1200",
    "NAXIS2": "1",
    "PCOUNT": "0",
    "GCOUNT": "1",
    "TFIELDS": "1",
}
FALSE_VALUES = [
    "1000000000000",
    "-1",
    "-9223372036854775808",
    "99999999999999999999999999",
    "'text'",
    "1.5",
    "T",
    "1E400",
    "",
    "10",
    "NaN",
    "(1,2)",
    "3000000000",
]


def header_with(name: str, value: str, table: bool) -> bytes:
    def cards(values: dict[str, str]) -> bytes:
        return header(*(f"{key:<8}= {value if key == name else kept:>20}" for key, kept in values.items()))

    first = {"SIMPLE": "T", "BITPIX": "8", "NAXIS": "0"}
    if not table:
        return cards(STRUCTURE) + bytes(-(-6000 // 2880) * 2880)
    return (
        header(*(f"{key:<8}= {kept:>20}" for key, kept in first.items()))
        + cards({**TABLE, "TTYPE1": "'A'", "TFORM1": "'300E'"})
        + bytes(2880)
    )


@pytest.mark.parametrize("table", [False, True], ids=["image", "table"])
def test_no_false_value_in_a_header_costs_much_memory(table: bool) -> None:
    for name in [*(TABLE if table else STRUCTURE), *(["TFORM1", "TTYPE1"] if table else [])]:
        for value in [*FALSE_VALUES, "'999999999E'", "'1PE(999999999)'", "'1000000000000E'", "'0A'"]:
            data = header_with(name, value, table)
            tracemalloc.start()
            refusal: Refused | None = None
            try:
                everything(data)
            except Refused as refused:
                refusal = refused
            assert refusal is None or refusal.reason in {"truncated", "bad_header", "not_fits"}, (name, value)
            assert tracemalloc.get_traced_memory()[1] < 64 << 20, (name, value)
            tracemalloc.stop()


def test_each_false_value_has_its_reason() -> None:
    assert reason(header_with("NAXIS1", "1000000000000", False)) == "truncated"
    assert reason(header_with("NAXIS1", "-300", False)) == "bad_header"
    assert reason(header_with("NAXIS1", "'text'", False)) == "bad_header"
    assert reason(header_with("NAXIS", "10", False)) == "bad_header"
    assert reason(header_with("BITPIX", "7", False)) == "bad_header"
    assert reason(header_with("PCOUNT", "1000000000", True)) == "truncated"
    assert reason(header_with("TFIELDS", "1000000000", True)) == "bad_header"
    assert reason(header_with("TFORM1", "'301E'", True)) == "bad_header"
    assert reason(header_with("TFORM1", "'words'", True)) == "bad_header"
    assert reason(image("BITPIX  = 8", "NAXIS   = 0", "OBJECT  = 'Sírius'")) == "bad_header"
    assert reason(header("SIMPLE  = T", "BITPIX  = 8").replace(b"END", b"   ")) == "truncated"
    assert reason(b"SIMPLE  = T".ljust(3 << 20)) == "bad_header"
    assert reason(b"\x89PNG\r\n\x1a\n") == "not_fits"
    assert reason(zlib.compress(b"SIMPLE")) == "not_fits"


def test_a_file_of_ten_thousand_headers_is_refused() -> None:
    data = (
        image("BITPIX  = 8", "NAXIS   = 0")
        + header("XTENSION= 'IMAGE'", "BITPIX  = 8", "NAXIS   = 0") * 10_000
    )
    with pytest.raises(Refused, match="more than 1000 HDUs"):
        everything(data)


def test_rows_of_variable_length_may_not_claim_the_heap_many_times_over() -> None:
    column = astropy_fits.Column("A", "PE()", array=np.array([np.ones(4)] * 6, dtype=object))
    table = astropy_fits.BinTableHDU.from_columns([column])
    data = bytearray(fits_bytes(astropy_fits.PrimaryHDU(), table))
    start = 5760
    for row in range(6):
        data[start + 8 * row : start + 8 * row + 4] = (24).to_bytes(4, "big")
    assert reason(bytes(data)) == "bad_header"
