"""Settings of a look at the latent space of predictions.

This file imports nothing heavy, so that the job reports a wrong setting at once.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, field_validator

from survey.labelling.settings import KEY_COLUMNS, Key
from survey.labelling.vote_settings import VoteCuts
from survey.settings import Settings

MapName = Literal["pca", "umap", "pacmap"]
"""A method that draws the latent space on a plane."""
GroupBy = Literal["auto", "labels", "predicted", "clusters"]
"""What the classes are whose centres outliers are far from."""

Share = Annotated[float, Field(gt=0, lt=1)]


class RowKeys(Settings):
    """How the rows of a table find their rows of predictions."""

    key: Literal["auto", "obsid", "file", "visit", "star", "position"] = Field(
        "auto",
        description="column that matches rows of the table to predictions; auto = the most exact key that "
        "matches most rows; position = the nearest within 3 arcsec",
    )
    columns: dict[str, str] = Field(
        {}, description="your names of the key columns, such as {ra: RA_deg, dec: DE_deg}"
    )
    star: str = Field(
        "auto",
        description="column that identifies the star or object; auto = source_id, designation, star, ..., "
        "where there is one",
    )

    @field_validator("columns")
    @classmethod
    def _known_names(cls, value: dict[str, str]) -> dict[str, str]:
        if unknown := [name for name in value if name not in KEY_COLUMNS]:
            raise ValueError(f"{unknown[0]}: is no key column; the key columns are {', '.join(KEY_COLUMNS)}")
        return value

    def offered(self, keys: list[Key]) -> list[Key]:
        """Those of the keys that may be used."""
        return keys if self.key == "auto" else [self.key]


class Clusters(Settings):
    """How rows are grouped by their place in the latent space."""

    method: Literal["hdbscan", "kmeans", "gmm", "none"] = Field(
        "hdbscan",
        description="hdbscan = as many clusters as are dense, other rows are in none; kmeans, gmm = every "
        "row is in one of clusters.count; none = no clusters",
    )
    count: int = Field(8, ge=2, le=1000, description="number of clusters, for kmeans and gmm")
    least: int = Field(50, ge=2, description="fewest rows of the sample in a cluster, for hdbscan")
    components: int = Field(10, ge=1, le=50, description="principal components in which clusters are found")


class Classifiers(Settings):
    """The classifiers that show what the latent space knows about labels."""

    trees: int = Field(200, ge=1, le=5000, description="trees of the random forest")
    test: Share = Field(0.3, description="share of the stars or objects that test the classifiers")
    least: int = Field(10, ge=2, description="a class of fewer stars or objects is left out")
    most: int = Field(50_000, ge=100, description="a random part of so many labelled rows is used, if more")
    seed: int = Field(0, ge=0, description="seed of the split and of the classifiers")


class Pairs(Settings):
    """How objects that two surveys have in common are found and ranked."""

    by: Literal["auto", "visit", "star", "position"] = Field(
        "auto",
        description="what makes two rows the same object; auto = what gives the most pairs, without rows of "
        "equal names that are farther apart on the sky",
    )
    radius: float = Field(3.0, gt=0, le=60, description="largest distance on the sky (arcsec)")
    most: int = Field(5000, ge=10, description="a random part of so many pairs is ranked, if more")
    rows: int = Field(
        2000, ge=50, le=10_000, description="rows of each survey whose distributions are compared"
    )


class LatentSettings(Settings):
    """Settings of a look at the latent space of predictions."""

    NOT_IN_RESULT: ClassVar[frozenset[str]] = frozenset({"predictions", "latent"})
    OUTPUT: ClassVar[str] = "latent"
    COMMON: ClassVar[tuple[str, ...]] = (
        "labels",
        "classes",
        "votes",
        "statistics",
        "like",
        "other",
        "maps",
        "sample",
        "clusters.method",
        "top",
    )

    predictions: str = Field(
        description="finished predictions that have the column latent (survey predict embeddings=true)"
    )
    latent: str = Field(description="folder or s3:// prefix of the result")
    labels: str = Field(
        "", description="table with columns of classes of any names; CSV, Parquet, FITS or VOTable"
    )
    classes: tuple[str, ...] = Field(
        (),
        strict=False,
        description="the columns of that table to learn, one question each; the first gives the classes of "
        "maps and outliers; not given = the first of class, class_name, morphology, label, f_CEMP",
    )
    votes: str = Field(
        "",
        description="table of Galaxy Zoo vote fractions; it becomes the classes `morphology` and answers to "
        "questions (round, edge_on, bar, arms, winding, bulge, merger)",
    )
    cuts: VoteCuts = Field(VoteCuts(), description="the vote fractions from which an answer counts")
    join: RowKeys = Field(RowKeys(), description="how the rows of these tables find their predictions")
    statistics: str = Field(
        "",
        description="table of other numbers of the same rows, such as shapes; the classifiers learn from "
        "these too, to compare; rows where one of them is unknown do not count",
    )
    statistics_columns: tuple[str, ...] = Field(
        (),
        strict=False,
        description="the columns of that table to use; not given = all columns of numbers but keys, "
        "given classes and votes",
    )
    like: tuple[str, ...] = Field(
        (),
        strict=False,
        description="stars, visits, obsids or files whose nearest neighbours are listed; in a recipe, an id "
        "that begins with 0 stands in quotation marks",
    )
    neighbours: int = Field(20, ge=1, le=10_000, description="nearest neighbours in each of these lists")
    other: str = Field(
        "",
        description="predictions of a second survey: the same objects in both are ranked by their distance",
    )
    pairs: Pairs = Field(Pairs(), description="how these pairs are found")
    maps: tuple[MapName, ...] = Field(
        ("pca", "umap", "pacmap"),
        strict=False,
        description="methods of the maps; umap and pacmap need a package each, and are left out if it is not "
        "there, unless they are named here",
    )
    place: Literal["neighbours", "model"] = Field(
        "neighbours",
        description="how umap and pacmap place rows outside the sample: at the mean of the nearest rows of "
        "the sample, or by the method itself, which takes minutes more for a million rows",
    )
    sample: int = Field(
        20_000, ge=200, le=200_000, description="random rows from which maps, clusters and density are made"
    )
    components: int = Field(50, ge=2, le=50, description="most principal components that are kept")
    shown: int = Field(
        5, ge=2, le=50, description="principal components of each row that the table of the map has"
    )
    scale: Literal["none", "features"] = Field(
        "none",
        description="features = divide each feature by its spread first; for members of different scales",
    )
    group: GroupBy = Field(
        "auto",
        description="classes whose centres outliers are far from; auto = labels, else predicted classes, "
        "else clusters",
    )
    clusters: Clusters = Field(Clusters(), description="how clusters are found")
    density: int = Field(
        10, ge=1, le=200, description="nearest rows of the sample whose mean distance is the density score"
    )
    top: int = Field(20, ge=1, le=100_000, description="rows in each list of outliers and of typical rows")
    classifiers: Classifiers = Field(Classifiers(), description="how classifiers are trained and tested")
    seed: int = Field(0, ge=0, description="seed of the sample, the maps and the clusters")

    @field_validator("like", mode="before")
    @classmethod
    def _numbers_as_text(cls, value: Any) -> Any:
        """An obsid is a number in the YAML of a recipe."""
        if not isinstance(value, list | tuple):
            return value
        return [str(item) if type(item) is int else item for item in value]

    @field_validator("classes")
    @classmethod
    def _check_classes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if twice := [name for number, name in enumerate(value) if name in value[:number]]:
            raise ValueError(f"{twice[0]} is given twice; give each column once")
        return value

    @field_validator("maps")
    @classmethod
    def _check_maps(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value or len(set(value)) < len(value):
            raise ValueError("none is given, or one twice; give some of [pca, umap, pacmap]")
        return value

    @property
    def has_labels(self) -> bool:
        """Whether any classes are given."""
        return bool(self.labels or self.votes)
