"""Settings of the label table: how its rows are joined to a store, and how its stars are split.

This file imports nothing heavy, so that a job reports a wrong setting at once.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from survey import labels
from survey.settings import Settings

Key = Literal["obsid", "file", "visit", "star", "position"]
"""What a row of the table and a spectrum of the store are matched by."""

KEY_COLUMNS = ("obsid", "file", "visit", "ra", "dec")
"""The key columns that `columns` may name, besides the labels and their errors."""

PARTS = ("train", "validation", "test")
"""The parts of a split. A part is stored as its number here; -1 means that a spectrum is in no part."""

NO_CLASS = frozenset(
    {"-9999", "-9999.0", "-9999.00", "NULL", "Null", "null", "nan", "NaN", "NAN", "None", "N/A", "--", "*"}
)
"""Words that cannot name a class, because in a table they mean that there is no value."""

Range = Annotated[tuple[float, float], Field(strict=False)]


def label_or_key(name: str) -> str:
    """The usual name of a label, of its error (`e_FeH`) or of a key column; another name is an error."""
    if name in KEY_COLUMNS:
        return name
    prefix, base = ("e_", name[2:]) if name.startswith("e_") else ("", name)
    return prefix + labels.label(base).name


class Join(Settings):
    """The table of labels, and how its rows are joined to the spectra of the store."""

    table: str = Field(
        "", description="path of the label table: CSV, Parquet, FITS or VOTable; local or s3://"
    )
    key: Literal["auto", "obsid", "file", "visit", "star", "position"] = Field(
        "auto",
        description="column that matches rows to spectra; auto = the most exact key that matches most rows",
    )
    columns: dict[str, str] = Field(
        {},
        description="your names of columns, such as {FeH: my_feh, e_FeH: my_err}; "
        "also for obsid, file, visit, ra and dec",
    )
    classes: str = Field(
        "auto",
        description="column of the classes, by number or name (0 or MP, 1 or CEMP, 2 or NMP); "
        "none = no classes; auto = the column f_CEMP or class, else computed from FeH and CFe",
    )
    class_names: tuple[str, ...] = Field(
        labels.CLASSES,
        strict=False,
        min_length=2,
        max_length=100,
        description="names of the classes in their order, such as [M0, M1, M2, M3, M4]; rows of other "
        "classes have none",
    )
    criterion: labels.Criterion = Field(
        "carbon_0.7", description="criterion of carbon enhancement for classes computed from FeH and CFe"
    )
    where: dict[str, Range] = Field(
        {},
        description="keep only values inside [low, high]; "
        "for labels, for columns of the table and for columns of the store",
    )
    star: str = Field(
        "auto",
        description="column that identifies the star; "
        "auto = gaia_source_id, source_id, designation, star, ..., where there is one",
    )
    identity: bool = Field(
        True, description="compute a missing CFe, CH or FeH from the other two (CFe = CH - FeH)"
    )

    @field_validator("columns")
    @classmethod
    def _known_names(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value:
            label_or_key(name)
        return value

    @field_validator("class_names")
    @classmethod
    def _different_names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len({name.upper() for name in value}) < len(value) or not all(map(str.strip, value)):
            raise ValueError("has a name twice, or an empty one; give different names, such as [M0, M1]")
        if missing := [name for name in value if name.strip() in NO_CLASS]:
            raise ValueError(
                f"has {missing[0]!r}, which in a table means that there is no value; give the class another "
                "name, in the table too"
            )
        return value

    @field_validator("where")
    @classmethod
    def _low_before_high(cls, value: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        for name, (low, high) in value.items():
            if low > high:
                raise ValueError(f"{name}: the range [{low:g}, {high:g}] is empty; give [low, high]")
        return value


class Split(Settings):
    """How stars are split into training, validation and test."""

    parts: tuple[float, float, float] = Field(
        (0.7, 0.1, 0.2), strict=False, description="shares of train, validation and test"
    )
    by: Literal["star"] = Field("star", description="unit of the split: all visits of a star stay together")
    seed: int = Field(0, ge=0, description="seed of the split")
    stratify: bool = Field(
        False, description="give every class its exact share in every part; for rare classes"
    )
    folds: int | None = Field(
        None, ge=2, description="number of folds of a cross-validation; null = a single split"
    )
    fold: int = Field(0, ge=0, description="with folds: the fold that is the test part")
    validation: float = Field(
        0.1, ge=0, lt=1, description="with folds: share of validation in the other folds"
    )
    column: str | None = Field(
        None,
        description="column of the label table that holds train, validation or test; "
        "replaces the settings above",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if min(self.parts) < 0 or abs(sum(self.parts) - 1) > 1e-6 or self.parts[0] == 0:
            raise ValueError(
                f"parts: {self.parts} are not shares; give three numbers that sum to 1, the first above 0"
            )
        if self.folds is not None and self.fold >= self.folds:
            raise ValueError(
                f"fold: {self.fold} of {self.folds} does not exist; give a number from 0 to {self.folds - 1}"
            )
        return self

    def filled_parts(self) -> list[str]:
        """The parts that must hold stars under these settings."""
        if self.column is not None:
            return list(PARTS[:2])
        shares = self.parts if self.folds is None else (1.0, self.validation, 1.0)
        return [name for name, share in zip(PARTS, shares, strict=True) if share > 0]
