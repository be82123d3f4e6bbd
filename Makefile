# All that a developer does: make demo | test | test-long | lint | format | bench | weights |
# cluster-demo | test-cluster | sbom. Each sets up .venv first, once.
# `make demo` installs what a user needs; the others add the tools of developers.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
INSTALL := $(RUN) -m pip install --quiet --no-compile --constraint constraints.txt
BASIC := $(VENV)/.ready
READY := $(VENV)/.ready-dev
# some tests wait for Ray: one process more than CPUs, at most eight
PROCESSES := $(shell $(PYTHON) -c "import os; print(min(len(os.sched_getaffinity(0)) + 1, 8))")
export RAY_USAGE_STATS_ENABLED := 0
# pip compiles nothing, so each module is compiled when it is first imported, and kept
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo demo-labels demo-mstars demo-galaxies test test-long lint format bench weights cluster-demo test-cluster sbom clean

$(BASIC): pyproject.toml setup.py constraints.txt
	@echo "setting up $(VENV): two to four minutes, once; 2.7 GB"
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(INSTALL) torch
	$(INSTALL) --editable '.[tracking]'
	touch $@

$(READY): pyproject.toml setup.py constraints.txt
	@echo "setting up $(VENV) with the tools of developers: two to four minutes, once; 3 GB"
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(INSTALL) torch
	$(INSTALL) --editable '.[dev,images,tracking,trees-cpu]'
	touch $(BASIC) $@

demo: $(BASIC)
	$(VENV)/bin/survey mock cemp out=demo/files n=4000
	$(VENV)/bin/survey ingest cemp input=demo/files store=demo/store preview=6
	$(VENV)/bin/survey train cemp store=demo/store labels=demo/files/labels.parquet run=demo/prism model=prism epochs=20
	$(VENV)/bin/survey train cemp store=demo/store labels=demo/files/labels.parquet run=demo/echelle epochs=12
	$(VENV)/bin/survey ensemble cemp runs=[demo/echelle,demo/prism] ensemble=demo/ensemble
	$(VENV)/bin/survey evaluate of=demo/ensemble
	$(VENV)/bin/survey mock cemp out=demo/new n=4000 seed=7
	$(VENV)/bin/survey predict cemp ensemble=demo/ensemble input=demo/new predictions=demo/predictions members=true
	$(VENV)/bin/survey catalog cemp predictions=demo/predictions truth=demo/new/labels.parquet catalog=demo/catalog
	$(VENV)/bin/survey report of=demo/catalog page=demo/catalog.html
	$(VENV)/bin/survey report of=demo/catalog list=cemp page=demo/vetting.html

test: $(READY)
	OMP_NUM_THREADS=1 $(RUN) -m tests.prepare
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n $(PROCESSES) --no-loadscope-reorder

test-long: $(READY)
	SURVEY_FUZZ_CASES=10000 SURVEY_KILLS=20 $(RUN) -m pytest -m "" --timeout 3000

lint: $(READY)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy --num-workers auto

format: $(READY)
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

bench: $(READY)
	$(RUN) -m benchmarks.startup
	$(RUN) -m benchmarks.ingest
	$(RUN) -m benchmarks.training
	$(RUN) -m benchmarks.science
	$(RUN) -m benchmarks.search
	$(RUN) -m benchmarks.abundances

# from catalogues of labels, with mistakes planted in them, to a training set and a training
demo-labels: $(BASIC)
	$(VENV)/bin/survey mock cemp out=demo/labels/files n=4000 extras=true
	$(VENV)/bin/survey ingest cemp input=demo/labels/files store=demo/labels/store
	$(VENV)/bin/survey labels cemp folder=demo/labels/files/archives to=demo/labels/store labels=demo/labels/labels
	$(VENV)/bin/survey train cemp store=demo/labels/store labels=demo/labels/labels/labels.parquet run=demo/labels/run model=prism epochs=15
	$(VENV)/bin/survey evaluate of=demo/labels/run

# M dwarfs: spectra and pictures to classes
demo-mstars: $(READY)
	$(VENV)/bin/survey mock mstars out=demo/mstars/files n=400
	$(VENV)/bin/survey ingest mstars input=demo/mstars/files/objects.csv store=demo/mstars/store
	$(VENV)/bin/survey train mstars store=demo/mstars/store labels=demo/mstars/files/objects.csv run=demo/mstars/run epochs=15
	$(VENV)/bin/survey evaluate mstars of=demo/mstars/run
	$(VENV)/bin/survey mock mstars out=demo/mstars/new n=200 seed=7
	$(VENV)/bin/survey predict mstars ensemble=demo/mstars/run input=demo/mstars/new/objects.csv predictions=demo/mstars/predictions
	$(VENV)/bin/survey evaluate mstars of=demo/mstars/predictions labels=demo/mstars/new/objects.csv

# galaxies in two surveys: 40 numbers of each, maps, outliers, classifiers, and pairs
demo-galaxies: $(READY)
	$(VENV)/bin/survey mock galaxies out=demo/galaxies/files n=500 image_pixels=64
	$(VENV)/bin/survey ingest galaxies input=demo/galaxies/files/decals.csv store=demo/galaxies/decals prepare.image.stretch=midtone
	$(VENV)/bin/survey ingest galaxies input=demo/galaxies/files/bass.csv store=demo/galaxies/bass prepare.image.stretch=midtone
	$(VENV)/bin/survey train galaxies store=demo/galaxies/decals labels=none run=demo/galaxies/run epochs=15
	$(VENV)/bin/survey predict galaxies ensemble=demo/galaxies/run store=demo/galaxies/decals predictions=demo/galaxies/in-decals
	$(VENV)/bin/survey predict galaxies ensemble=demo/galaxies/run store=demo/galaxies/bass predictions=demo/galaxies/in-bass
	$(VENV)/bin/survey latent galaxies predictions=demo/galaxies/in-decals labels=demo/galaxies/files/decals.csv other=demo/galaxies/in-bass latent=demo/galaxies/latent

# the ensemble that comes with the program; half an hour, needs the public sets in ../shared/data
weights: $(READY)
	$(RUN) weights/make.py

# files to catalog by `ray up` and `ray job submit`, on two hosts made of namespaces, and the same on one host; root
cluster-demo: $(READY)
	$(RUN) -m tests.cluster.demo

# the same hosts while cables, disks, drivers and the bucket fail: an hour and a half; root
test-cluster: $(READY)
	$(RUN) -m benchmarks.chaos

# what .venv holds: names, versions, licences (CycloneDX). Its tool has an environment of its own
sbom: $(BASIC)
	test -x build/sbom/bin/cyclonedx-py || $(PYTHON) -m venv build/sbom
	build/sbom/bin/pip install --quiet 'cyclonedx-bom>=7.5,<8'
	build/sbom/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
		--output-file build/sbom.json $(RUN)
	@echo "build/sbom.json"

clean:
	rm -rf demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
