"""Puts jobs, recipes, search spaces and the shipped ensemble into the package; see pyproject.toml."""

from setuptools import find_packages, setup

SHIPPED = {
    "survey.jobs": "jobs",
    "survey.recipes": "recipes",
    "survey.tune": "tune",
    "survey.weights": "weights",
}

setup(
    packages=[*find_packages(include=["survey", "survey.*"]), *SHIPPED],
    package_dir=SHIPPED,
    package_data={
        "survey.label_tables": ["catalogues/*.yaml"],
        "survey.pages": ["static/*"],
        "survey.recipes": ["*.yaml"],
        "survey.tune": ["*.yaml"],
        "survey.weights": ["README.md", "cemp/**/*"],
    },
)
