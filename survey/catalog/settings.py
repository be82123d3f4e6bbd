"""Settings of a catalog. Everything that needs no data is checked here, and nothing heavy is imported."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationInfo, field_validator, model_validator

from survey import labels
from survey.catalog.check_settings import CempFrequency, GroundSettings, MirrorSettings
from survey.catalog.flag_settings import DEFAULT_KINDS, FlagLimits, Kind, SecondKey, flag_bits
from survey.catalog.selection_settings import SelectionBins
from survey.labelling.settings import Join
from survey.labels import CLASSES, Criterion
from survey.settings import Settings

ListName = Literal["MP", "CEMP"]
LIST_NAMES: tuple[ListName, ...] = get_args(ListName)
"""The two lists of candidates: metal-poor stars, and carbon-enhanced ones among them."""

LIST_CLASSES: dict[ListName, tuple[str, ...]] = labels.LIST_CLASSES
"""The classes that belong in each list."""

ColumnNames = Literal["survey", "lamost"]
Goal = Literal["purity", "completeness", "f1"]
Prior = Literal["validation", "estimated"] | dict[str, float]
"""The class shares of the survey: those of validation, estimated from the survey, or given by class name."""


def list_classes(name: ListName) -> list[int]:
    """The numbers of the classes that belong in a list."""
    return [CLASSES.index(class_name) for class_name in LIST_CLASSES[name]]


def inner_lists(name: ListName) -> list[ListName]:
    """The lists whose classes all belong in this list too: their candidates are candidates of this list."""
    classes = set(LIST_CLASSES[name])
    return [other for other in LIST_NAMES if set(LIST_CLASSES[other]) < classes]


def class_shares(shares: Mapping[str, float]) -> NDArray[np.float64]:
    """Shares by the names of all classes, scaled to a sum of 1."""
    others = [name for name in shares if name not in CLASSES]
    absent = [name for name in CLASSES if name not in shares]
    wrong = ""
    if others or absent:
        wrong = f"there is no class {others[0]}" if others else f"no share of {', '.join(absent)}"
    elif not all(np.isfinite(share) and share >= 0 for share in shares.values()):
        wrong = "a share is below 0 or no number"
    elif not sum(shares.values()):
        wrong = "all shares are 0"
    if wrong:
        raise ValueError(
            f"{wrong}; give each of {', '.join(CLASSES)} a share of at least 0, such as "
            "{MP: 4, CEMP: 1, NMP: 95}"
        )
    share_C = np.array([shares[name] for name in CLASSES], np.float64)
    return np.asarray(share_C / share_C.sum())


class ListGoal(Settings):
    """What a list of candidates should reach."""

    goal: Goal = Field(
        "purity",
        description="what the list should reach: a purity, a completeness, or the best F1 of the two",
    )
    level: float = Field(0.9, gt=0, le=1, description="the purity or completeness to reach")
    prior: Prior = Field(
        "estimated",
        description="class shares of the survey: validation = those of the validation stars, "
        "estimated = from the predictions themselves, or given as {MP: 4, CEMP: 1, NMP: 95}",
    )

    @property
    def words(self) -> str:
        """The goal in words."""
        return "the best F1" if self.goal == "f1" else f"a {self.goal} of {self.level:g}"

    @field_validator("prior")
    @classmethod
    def _check_prior(cls, value: Prior) -> Prior:
        if isinstance(value, dict):
            class_shares(value)
        return value


class VisitSettings(Settings):
    """How the visits of a star become one row."""

    disagree: float = Field(
        1e-3,
        gt=0,
        lt=1,
        description="visits disagree if chance makes their labels differ this much less often than this",
    )
    sure: float = Field(
        0.8,
        gt=0.5,
        lt=1,
        description="visits disagree if two give different classes, each a probability above this",
    )
    domain_limit: float = Field(
        2.0,
        ge=1,
        description="largest domain of a visit that is used, if another visit of the star is within 1",
    )


class CatalogSettings(Settings):
    """Settings of a catalog."""

    NOT_IN_RESULT: ClassVar[frozenset[str]] = frozenset({"predictions", "catalog"})

    OUTPUT: ClassVar[str] = "catalog"
    SAYS_DEFAULTS: ClassVar[bool] = True
    COMMON: ClassVar[tuple[str, ...]] = (
        "criterion",
        "mp.goal",
        "mp.level",
        "mp.prior",
        "cemp.goal",
        "cemp.level",
        "cemp.prior",
        "leave_out",
        "second_key",
        "ask",
        "known",
        "catalogue",
        "truth",
        "verdicts",
        "exports",
        "names",
    )

    predictions: str = Field(description="folder of finished predictions")
    catalog: str = Field(description="folder or s3:// prefix of the catalog")
    criterion: Criterion = Field(
        "carbon_0.7", description="criterion of carbon enhancement for the class by labels"
    )
    mp: ListGoal = Field(ListGoal(goal="f1"), description="the list of metal-poor stars")
    cemp: ListGoal = Field(ListGoal(goal="f1"), description="the list of carbon-enhanced metal-poor stars")
    visits: VisitSettings = Field(VisitSettings(), description="how the visits of a star become one row")
    limits: FlagLimits = Field(FlagLimits(), description="limits beyond which a star gets a flag")
    leave_out: tuple[str, ...] = Field(
        (),
        strict=False,
        description="flags that keep a star out of the lists, such as out_of_domain (see flags.csv); "
        "each bit of flag_bad does so anyway",
    )
    second_key: SecondKey = Field(
        "require",
        description="a star whose [Fe/H] by indices of lines contradicts the networks: flag = it only gets "
        "the flag KEYS_DISAGREE, require = it is also kept out of the lists if by its lines it is not "
        "metal-poor",
    )
    ask: tuple[Kind, ...] = Field(
        DEFAULT_KINDS,
        strict=False,
        description="kinds of stars that may be in the lists; the lists are tested for FGK only",
    )
    bins: SelectionBins = Field(SelectionBins(), description="bins of the selection function")
    frequency: CempFrequency = Field(
        CempFrequency(), description="how many metal-poor stars can be CEMP, by [Fe/H]"
    )
    ground: GroundSettings = Field(
        GroundSettings(), description="where the tested ground ends: purity and completeness are null beyond"
    )
    mirror: MirrorSettings = Field(
        MirrorSettings(), description="stars that cannot be metal-poor, to which the cut is applied as a test"
    )
    known: tuple[str, ...] = Field(
        (),
        strict=False,
        description="tables of known stars with positions: CSV, Parquet, FITS or VOTable",
    )
    radius: float = Field(
        3.0,
        gt=0,
        le=60,
        description="largest distance between a star and a known star, or a row of the catalogue (arcsec)",
    )
    catalogue: str = Field(
        "auto",
        description="table with positions, such as the survey's catalogue, "
        "whose columns are added to the nearest star; "
        "auto = the catalogue that was the input, if there was one; none = no columns",
    )
    catalogue_columns: tuple[str, ...] = Field(
        (),
        strict=False,
        description="the columns of these tables to add; not given = the Gaia source_id and all magnitudes",
    )
    truth: str = Field(
        "",
        description="table of true labels to compare the lists with; stars that a member was trained on do "
        "not count",
    )
    join: Join = Field(Join(), description="how the rows of that table find their predictions")
    verdicts: str = Field(
        "",
        description="verdicts of people to add to the lists: the table of survey report merge=[FILE, ...]",
    )
    exports: tuple[Literal["votable", "fits", "csv"], ...] = Field(
        ("votable", "fits", "csv"),
        strict=False,
        description="formats of the lists of candidates in addition to Parquet",
    )
    names: ColumnNames = Field(
        "survey",
        description="names of the columns of exported lists (VOTable, FITS, CSV): ours, "
        "or those of LAMOST's catalogues where these have the column (columns.csv shows both)",
    )
    next_best: int = Field(
        100,
        ge=0,
        description="most stars in each list of the next best candidates: so many below the threshold, "
        "and so many that flags exclude",
    )
    rows_per_file: int = Field(500_000, ge=1000, description="most stars in one file of the HATS catalog")
    margin: float = Field(
        10.0,
        ge=0,
        le=3600,
        description="width of the margin around each tile, whose stars are kept with the tile (arcsec); "
        "0 = no margin",
    )

    @model_validator(mode="before")
    @classmethod
    def _check_levels(cls, values: Any) -> Any:
        """A level alone would be ignored: the lists go for the best F1 if nothing else is given."""
        for name in ("mp", "cemp"):
            given = values.get(name) if isinstance(values, dict) else None
            default: ListGoal = cls.model_fields[name].default
            if isinstance(given, dict) and given.get("goal", default.goal) == "f1":
                level = given.get("level", default.level)
                if "level" in given and ("goal" not in given or level != default.level):
                    raise ValueError(
                        f"{name}.level: {level}: the best F1 has no level; give {name}.goal=purity or "
                        f"{name}.goal=completeness too"
                    )
        return values

    @field_validator("catalogue_columns")
    @classmethod
    def _check_catalogue_columns(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if value and info.data.get("catalogue") == "none":
            raise ValueError("catalogue=none adds no columns; give catalogue=TABLE, or not both")
        return value

    @field_validator("leave_out")
    @classmethod
    def _check_leave_out(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        flag_bits(value)
        return value

    @property
    def goals(self) -> dict[ListName, ListGoal]:
        """The goal of each list."""
        return {"MP": self.mp, "CEMP": self.cemp}
