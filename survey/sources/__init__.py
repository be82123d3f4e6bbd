"""The surveys: one file for each. A new survey is one new file here; no other file changes.

``survey/sources/NAME.py`` is the source NAME if it defines one of two functions:

    read(hdus, name, settings) -> list[Spectrum] | None
        The spectra of a FITS file; None if the file belongs to another survey. It raises `Refused` if the
        file belongs to this survey but holds no usable spectrum. `name` is the name of the file.
    count(path, settings) -> int  and  read_rows(path, rows, settings) -> list[Spectrum | Refused]
        For files with many spectra: how many there are, and the spectra of these rows.

It also defines

    class Options(Settings)        the settings of the reader: `options: {NAME: {...}}` in a recipe
    NAMING = Naming(...)           optional: how the survey names its files, visits and stars (`naming.py`)

A recipe names the sources to use: `sources: [NAME, ...]`. Each file goes to the first of them that reads it.
"""
