# Two commands do everything: `make book` and `make test`. Both make their own environment.

PYTHON ?= python3
# Any environment may be used in its place, e.g. VENV=$CONDA_PREFIX.
VENV ?= .venv
PROFILE ?= mini
CORES ?= 2

BIN := $(abspath $(VENV))/bin
STAMP := $(VENV)/.stamp
PEERS := .venv-peers
export PIP_DISABLE_PIP_VERSION_CHECK := 1

SNAKEMAKE := $(BIN)/snakemake --cores $(CORES)
SMOKE := _build/smoke

.DEFAULT_GOAL := book
.PHONY: book smoke test test-peers lint bench measure clean help

book: $(STAMP)  ## Build the book of PROFILE (smoke, mini, full): _build/html/index.html
	$(SNAKEMAKE) --config profile=$(PROFILE)
	@echo "The book: _build/html/index.html"

# The smoke book lives in a project folder of its own, so that it leaves the real one's results
# alone: pages are copied (times kept), everything else is a link.
smoke: $(STAMP)  ## Build the smallest book, for tests: _build/smoke/_build/html/index.html
	@mkdir -p $(SMOKE)
	@rm -rf $(SMOKE)/book
	@cp -Rp _config.yml _toc.yml book $(SMOKE)/
	@for part in lib notebooks data config workflow pyproject.toml CITATION.cff; do \
		ln -sfn ../../$$part $(SMOKE)/$$part; done
	cd $(SMOKE) && $(SNAKEMAKE) --config profile=smoke

test: $(STAMP) lint smoke  ## Lint, build the smoke book, run all tests on all cores
	$(BIN)/python -m pytest --numprocesses logical --dist loadgroup

test-peers: $(PEERS)/.stamp  ## Compare with other merging libraries, in an environment of their own
	$(abspath $(PEERS))/bin/python -m pytest -o python_files='peer_*.py' tests/peers

lint: $(STAMP)  ## Check the style of code and notebooks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

bench: $(STAMP)  ## Time and memory of every method: results/benchmarks.csv
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/run.py

measure: $(STAMP)  ## Compare notebooks, commands, files and pages with the project's limits
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/measure.py

clean:  ## Remove what was built; checkpoints and the environment stay
	rm -rf _build executed results runs .snakemake

help:  ## List the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile

# The peers see what is installed in VENV and bring only what is missing there.
$(PEERS)/.stamp: tests/peers/requirements.txt $(STAMP)
	$(BIN)/python -m venv $(PEERS)
	@echo '*' > $(PEERS)/.gitignore
	@site='import sysconfig; print(sysconfig.get_path("purelib"))'; \
		echo "import site; site.addsitedir('$$($(BIN)/python -c "$$site")')" \
			> "$$($(PEERS)/bin/python -c "$$site")/project.pth"
	$(abspath $(PEERS))/bin/python -m pip install -r tests/peers/requirements.txt
	@touch $@

# Written last: an interrupted installation is taken up again by the next call.
$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "Python >= 3.11 is needed, but $(PYTHON) is $$($(PYTHON) --version 2>&1)." \
			"Name another: make PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
		rm -rf $(VENV); \
		echo "The environment could not be made; on Debian, install python3-venv." >&2; exit 1; }
	$(BIN)/python -m pip install --editable ".[test,dev]"
	@touch $@
