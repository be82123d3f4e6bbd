"""Puts jobs, recipes and search spaces into the installed package; all else is in pyproject.toml."""

from setuptools import find_packages, setup

SHIPPED = {"survey.jobs": "jobs", "survey.recipes": "recipes", "survey.tune": "tune"}

setup(
    packages=[*find_packages(include=["survey", "survey.*"]), *SHIPPED],
    package_dir=SHIPPED,
    package_data={"survey.recipes": ["*.yaml"], "survey.tune": ["*.yaml"]},
)
