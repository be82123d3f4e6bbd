"""The surveys: one file for each. A new survey is one new file here; no other file changes.

``survey/sources/NAME.py`` is the source NAME if it defines one of three functions:

    read(hdus, name, settings) -> list[Spectrum] | None
        The spectra of a FITS file (`fits.Hdus`); None if the file belongs to another survey. A file is
        unpacked and parsed once for all sources.
    read_bytes(data, name, settings) -> list[Spectrum] | None
        The spectra of a file of another kind, from its unpacked bytes; None if it belongs to another source.
    count(path, settings) -> int | None  and  read_rows(path, rows, settings) -> list[Spectrum | Refused]
        For a table with many spectra (HDF5, a Parquet of another shape): how many there are, None if it is
        no table of this source; and the spectra of these rows, in this order. `iterate_rows`, optional, gives
        the same one by one, so that few are in memory. `survey.files.open_file` opens a path on a disk or in
        a bucket.

`name` is the name of the file. A function raises `Refused`, with a reason of `survey.spectrum.REASONS`, if
the file belongs to this survey but holds no usable spectrum. A source also defines

    class Options(Settings)         the settings of the reader: `options: {NAME: {...}}` in a recipe
    FILES = ("*.txt", ...)          with `read_bytes` or `read_rows`: the names of its files, without .gz
    NAMING = Naming(...)            optional: how the survey names its files, visits and stars (`naming.py`)
    example() -> tuple[str, bytes]  optional: name and content of a small valid file, for the contract test

A source of images gives `ImageOfObject` in place of `Spectrum`; `images.py` is one.

A `Spectrum` has vacuum wavelengths in angstrom in rising order (`wavelengths.py` converts those in air),
flux, inverse variance, masks, and what is known of the visit (`survey.spectrum.VISIT_KEYS`).
`noise.without_errors` makes one where the file gives no errors. `ascii.py` is a complete example.

A recipe names the sources to use: `sources: [NAME, ...]`. Each file goes to the first of them that reads it.
`tests/sources/test_contract.py` runs over all files of this folder, so a new one is tested at once.
"""
