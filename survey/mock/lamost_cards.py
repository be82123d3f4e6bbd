"""The cards of LAMOST headers: names and types as in the survey's files, comments of our own."""

from survey.mock.cards import Card, text

SECTION_TITLES = {
    "FILENAME": "FILE INFORMATION",
    "TELESCOP": "TELESCOPE PARAMETERS",
    "DATE-OBS": "OBSERVATION PARAMETERS",
    "SPID": "SPECTROGRAPH PARAMETERS",
    "SEEING": "WEATHER CONDITION",
    "EXTRACT": "DATA REDUCTION PARAMETERS",
    "VERSPIPE": "SPECTRA ANALYSIS RESULTS",
}


def lamost(first: list[Card], layout: str, pipeline: str) -> list[Card]:
    """The cards of a LAMOST header. `pipeline` is dr1, dr2 or new."""
    new = pipeline == "new"
    rows = [*first, ("EXTEND", "T", "may have extensions"), ("FILENAME", text(44, "filename"), "")]
    rows += [("OBSID", "%(obsid)20d", "number of this spectrum")] if new else []
    rows += [
        ("AUTHOR", "'LAMOST Pipeline'", "mock files, made by survey"),
        ("MOCK", "T", "nothing here was ever observed"),
    ]
    rows += [("DATA_V", text(12, "release"), "release that this imitates")] if new else []
    return [
        *rows,
        *_contents(layout),
        *_telescope(),
        *_target(pipeline),
        *_fibre(layout, pipeline),
        *_brightness(layout),
        *_instrument(),
    ]


def _telescope() -> list[Card]:
    """Where and when the spectrum was observed."""
    return [
        ("ORIGIN", "'NAOC-LAMOST'", "as in files of the survey"),
        ("DATE", text(19, "created"), "made, universal time"),
        ("TELESCOP", "'LAMOST  '", ""),
        ("LONGITUD", "117.58", "[deg] of the site"),
        ("LATITUDE", "40.39", "[deg] of the site"),
        ("FOCUS", "19964", "[mm]"),
        ("CAMPRO", "'NEWCAM  '", "program of the cameras"),
        ("CAMVER", "'v2.0    '", "its version"),
        ("DATE-OBS", text(19, "middle"), "middle of the exposures, UTC"),
        ("DATE-BEG", text(21, "begin"), "start, local"),
        ("DATE-END", text(21, "end"), "end, local"),
        ("LMJD", "%(lmjd)20d", "local modified Julian day"),
        ("MJD", "%(mjd)20d", "modified Julian day"),
        ("LMJMLIST", text(35, "minutes"), "local modified Julian minutes"),
        ("PLANID", text(18, "planid"), "plan"),
    ]


def _target(pipeline: str) -> list[Card]:
    new = pipeline == "new"
    return [
        ("RA", "%(ra)20.6f" if new else "%(ra)20.10f", "[deg]"),
        ("DEC", "%(dec)20.6f" if new else "%(dec)20.10f", "[deg]"),
        ("DESIG", text(30, "designation"), "name of the target"),
        ("FIBERID", "%(fiberid)20d" if pipeline != "dr2" else "'%(fiberid)-8d'", "fibre"),
        ("CELL_ID", text(8, "cell"), "fibre unit"),
        ("OBJNAME", text(16, "object"), "name in the input catalogue"),
        ("OBJTYPE", text(8, "objtype"), "kind of target"),
        ("TSOURCE" if new else "OBJSOURC", "'MOCK    '", "input catalogue"),
        ("TFROM" if new else "T_FROM", "'-       '", "target list"),
    ]


def _fibre(layout: str, pipeline: str) -> list[Card]:
    kind, mask = ("FIB_TYPE", "FIB_MASK") if layout == "lrs_table" else ("FIBERTYP", "FIBERMAS")
    rows: list[Card] = [(kind, text(8, "fibertype"), "kind of fibre")]
    if pipeline == "new":
        rows.append((mask, "%(fibermask)20d", "warnings of the fibre, 0 is good"))
    return rows


def _instrument() -> list[Card]:
    """Spectrograph, weather and reduction."""
    return [
        ("OBS_TYPE", "'OBJ     '", "object, not a lamp"),
        ("OBSCOMM", "'Science '", ""),
        ("RADECSYS", "'FK5     '", ""),
        ("EQUINOX", "2000.00", "[yr]"),
        ("SPID", "%(spid)20d", "spectrograph"),
        ("SPRA", "%(ra)20.4f", "[deg] its middle"),
        ("SPDEC", "%(dec)20.4f", "[deg] its middle"),
        ("SLIT_MOD", "'x2/3    '", "slit"),
        ("SEEING", "%(seeing)20.2f", "[arcsec]"),
        ("MOONPHA", "%(moon)20.2f", "[day] since new moon"),
        ("TEMP_AIR", "%(air)20.2f", "[deg]"),
        ("HUMIDITY", "0.40", ""),
        ("WINDS", "2.10", "[m/s]"),
        ("EXTRACT", "'aperture'", ""),
        ("LAMPLIST", "'lamphgcdne.dat'", ""),
        ("SKYLIST", "'skylines.dat'", ""),
        ("NEXP", "3", "exposures"),
        ("NEXP_B", "3", "blue exposures"),
        ("NEXP_R", "3", "red exposures"),
        ("EXPTIME", "1800.00", "[s]"),
        ("SFLATTEN", "T", "super flat"),
        ("PCASKYSB", "T", "sky subtracted by components"),
        ("NSKIES", "20", "sky fibres"),
        ("NSTD", "4", "standard stars"),
        ("HELIO", "T", "heliocentric"),
        ("HELIO_RV", "%(helio)20.5f", "[km/s]"),
        ("VACUUM", "T", "wavelengths in vacuum"),
    ]


def _contents(layout: str) -> list[Card]:
    if layout == "mrs":
        return [("N_EXTEN", "9", "extensions"), ("EXTNAME", "'Information'", "")]
    if layout == "lrs_table":
        return [("N_EXTEN", "2", "extensions"), ("NORM", "1", "has a normalised spectrum")]
    kinds = {
        "lrs_image": "Flux, Inverse, Wavelength, Andmask, Ormask",
        "lrs_image_subcont": "Flux Inverse Subcontinuum Andmask Ormask",
    }
    return [("N_EXTEN", "1", "extensions"), ("EXTEN0", f"'{kinds[layout]}'", "rows")]


def _brightness(layout: str) -> list[Card]:
    if layout == "lrs_table":
        return [(f"MAG_PS_{band}", f"%(mag_{band.lower()})20.2f", "[mag]") for band in "GRI"]
    cards: list[Card] = [("MAGTYPE", "'gri     '", "bands")]
    cards += [
        (f"MAG{number}", f"%(mag_{band})20.2f", f"[mag] {band}") for number, band in enumerate("gri", 1)
    ]
    return cards + [(f"MAG{number}", "99.00", "not known") for number in (4, 5, 6, 7)]


def log_grid() -> list[Card]:
    """The cards of log-linear wavelengths. The step is a slot."""
    return [
        ("NWORDER", "2", "coefficients"),
        ("WFITTYPE", "'LOG-LINEAR'", ""),
        ("COEFF0", "3.5682", "log10 of the first wavelength"),
        ("COEFF1", "%(step)20.20s", "log10 step"),
        ("CRVAL1", "3.5682", "the same for the axis"),
        ("CD1_1", "%(step)20.20s", ""),
        ("CRPIX1", "1", ""),
        ("CTYPE1", "'LINEAR  '", ""),
        ("DC-FLAG", "1", "logarithmic"),
    ]


def results(version: str, ratio: str) -> list[Card]:
    """The results of the pipeline. `ratio` is the beginning of the names of the signal to noise."""
    return [
        ("VERSPIPE", f"'{version:<8}'", "pipeline that this imitates"),
        ("CLASS", "'STAR    '", ""),
        ("SUBCLASS", text(8, "subclass"), ""),
        ("Z", "%(z_survey)20.8f", "redshift"),
        ("Z_ERR", "%(z_err)20.8f", "its error"),
        *(
            (f"{ratio}{band.upper()}", f"%(snr_{band})20.2f", f"signal to noise in {band}")
            for band in "ugriz"
        ),
    ]
