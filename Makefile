# Everything these targets install or cache stays below this directory.
PYTHON ?= python3
FLAGS ?=
MINUTES ?= 5
RUN := .venv/bin/python
export XDG_CACHE_HOME := $(CURDIR)/.cache
export XDG_CONFIG_HOME := $(CURDIR)/.cache/config

.PHONY: compare hospitals test test-oldest test-page test-federation docs check fuzz install clean

compare: install  ## the paper's Section 5 on the embedded images; FLAGS="--dataset=mnist …" for more
	$(RUN) -m launch.compare $(FLAGS)

HOSPITALS := --agents=examples/hospitals/agents.csv --measurements=results/hospitals/measure --validate --currency=EUR --overwrite

hospitals: install  ## what four hospitals' records are worth to each other, who shares, who pays, and whether that holds
	$(RUN) -m launch.measure --federation=examples/hospitals --validate --overwrite --workdir=results/hospitals/measure
	$(RUN) -m launch.equilibrium $(HOSPITALS) --workdir=results/hospitals/equilibrium
	$(RUN) -m launch.mechanism $(HOSPITALS) --workdir=results/hospitals/mechanism

test: install  ## lint, format check and every test
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m pytest

test-oldest: .venv-oldest/installed  ## every test, with the lowest versions that setup.py names
	.venv-oldest/bin/python -m pytest

# As constraints, so that pip reads from setup.py what is needed; what that needs in turn is the newest that fits.
# Some have wheels for Python 3.11 and 3.12 alone.
.venv-oldest/installed: setup.py
	$(PYTHON) -m venv .venv-oldest
	grep -o '"[a-zA-Z][a-zA-Z0-9_-]*>=[0-9.]*"' setup.py | tr -d '"' | sed 's/>=/==/' > .venv-oldest/lowest.txt
	.venv-oldest/bin/python -m pip install --quiet --constraint .venv-oldest/lowest.txt --editable ".[test]"
	touch $@

test-page: .venv-page/installed  ## the page of a run in headless Chromium, which must be installed
	@command -v chromium chromium-browser google-chrome > /dev/null || { echo "there is no Chromium: install it, on Debian with apt-get install chromium"; exit 1; }
	.venv-page/bin/python -m pytest -n 0 tests/page/in_browser.py

test-federation: .venv-federation/installed  ## a federation between real processes, with a kill, by NVFlare
	.venv-federation/bin/python -m pytest -n 0 tests/federation/between_processes.py

.venv-federation/installed: setup.py
	$(PYTHON) -m venv .venv-federation
	.venv-federation/bin/python -m pip install --quiet --editable ".[test,federation]"
	touch $@

.venv-page/installed: setup.py
	$(PYTHON) -m venv .venv-page
	.venv-page/bin/python -m pip install --quiet --editable ".[test,page]"
	touch $@

# Tests of notebooks write their pages, so after `make test` they are there.
NOTEBOOKS := $(wildcard notebooks/*.ipynb)
PAGES := $(NOTEBOOKS:notebooks/%.ipynb=build/notebooks/%.md)
$(PAGES) &: $(NOTEBOOKS) tests/notebooks_test.py $(shell find fedgame launch -name '*.py') .venv/installed
	$(RUN) -m pytest --dist load -k it_runs tests/notebooks_test.py

# Zensical keeps its cache in .cache beside its settings, and does not see that docstrings have changed: so it works on
# a copy, of which nothing was there before. It reads fedgame, and imports nothing. In the copy, what links to a notebook
# links to the page of its run.
docs: .venv-docs/installed $(PAGES)  ## the site, into site/; a warning, or a link that leads nowhere, is an error
	rm -rf build/docs site && mkdir -p build/docs
	cp -r .ci docs fedgame zensical.toml build/docs
	mkdir build/docs/docs/notebooks
	cp -r $(PAGES) $(PAGES:.md=) $(NOTEBOOKS) build/docs/docs/notebooks
	sed 's|](../notebooks/\([a-z_]*\).ipynb)|](notebooks/\1.md)|g' docs/notebooks.md > build/docs/docs/notebooks.md
	cd build/docs && ../../.venv-docs/bin/zensical build --strict > log.txt 2>&1 || { cat log.txt; exit 1; }
	@! grep griffe: build/docs/log.txt  # docstrings that do not fit what they document
	.venv-docs/bin/python .ci/check_site.py build/docs/site
	mv build/docs/site site

.venv-docs/installed: setup.py
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet $$(sed -n 's/^ *"docs": \[\(.*\)\].*/\1/p' setup.py | tr -d '",')
	touch $@

check: install  ## lint, and the tests that a change most likely breaks
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m pytest --dist load $$($(RUN) tests/of_change.py)

fuzz: install  ## every command on spoilt files and flags, for MINUTES=5; what fails is kept in results/fuzz
	$(RUN) benchmarks/fuzz.py --minutes=$(MINUTES) $(FLAGS)

install: .venv/installed

.venv/installed: setup.py
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "fedgame needs Python 3.11 or newer; name one with: make PYTHON=python3.11 …")'
	$(PYTHON) -m venv .venv
	$(RUN) -m pip install --quiet --editable ".[test]"
	touch $@

clean:
	rm -rf .venv .venv-oldest .venv-nashopt .venv-page .venv-docs .venv-federation .cache build site
