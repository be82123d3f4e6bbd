# All that a developer does: make demo | test | test-long | lint | format | bench. Each sets up .venv first, once.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready
export RAY_USAGE_STATS_ENABLED := 0

.PHONY: demo test test-long lint format bench clean

$(READY): pyproject.toml constraints.txt
	@echo "setting up $(VENV): some minutes, once"
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --constraint constraints.txt torch
	$(RUN) -m pip install --quiet --constraint constraints.txt --editable '.[dev,tracking,trees-cpu]'
	touch $@

demo: $(READY)
	$(RUN) jobs/mock.py recipes/cemp.yaml out=demo/files n=4000
	$(RUN) jobs/ingest.py recipes/cemp.yaml input=demo/files store=demo/store preview=6
	$(RUN) jobs/train.py recipes/cemp.yaml store=demo/store labels=demo/files/labels.parquet run=demo/prism model=prism epochs=20
	$(RUN) jobs/train.py recipes/cemp.yaml store=demo/store labels=demo/files/labels.parquet run=demo/echelle epochs=12
	$(RUN) jobs/ensemble.py recipes/cemp.yaml runs=[demo/echelle,demo/prism] members=[] ensemble=demo/ensemble
	$(RUN) jobs/evaluate.py of=demo/ensemble
	$(RUN) jobs/mock.py recipes/cemp.yaml out=demo/new n=4000 seed=7
	$(RUN) jobs/predict.py recipes/cemp.yaml ensemble=demo/ensemble input=demo/new predictions=demo/predictions
	$(RUN) jobs/catalog.py recipes/cemp.yaml predictions=demo/predictions truth=demo/new/labels.parquet catalog=demo/catalog

test: $(READY)
	$(RUN) -m pytest -n auto --maxprocesses 8 --dist loadfile

test-long: $(READY)
	SURVEY_FUZZ_CASES=10000 SURVEY_KILLS=20 $(RUN) -m pytest -m "" --timeout 3000

lint: $(READY)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

format: $(READY)
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

bench: $(READY)
	$(RUN) benchmarks/startup.py
	$(RUN) benchmarks/ingest.py
	$(RUN) benchmarks/training.py
	$(RUN) benchmarks/science.py
	$(RUN) benchmarks/search.py
	$(RUN) benchmarks/abundances.py

clean:
	rm -rf demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
