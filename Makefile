# Everything here sets itself up: a pinned uv from pip, a virtual environment in .venv from requirements.lock with
# hashes, then skinkit itself. The stamp is written last, so an interrupted set-up is simply done again.
.DEFAULT_GOAL := help
SHELL := /bin/sh
PYTHON ?= $(shell command -v python3.11 || command -v python3)
UV_VERSION := 0.13.8
UV := .tools/uv-$(UV_VERSION)/bin/uv
READY := .venv/.ready
RUN := .venv/bin/
PAD ?= PAD-UFES-20
MASKS ?= --masks-of SamuelJ-hub/2025-FYP-Final=MIT
export UV_HTTP_TIMEOUT ?= 300
TRY := try() { for wait in 2 10 30 0; do "$$@" && return 0; [ $$wait = 0 ] || { echo "retrying in $$wait s: $$*" >&2; sleep $$wait; }; done; return 1; }; try

.PHONY: help setup demo test test-all test-wheel lint format bench bench-scale release-models lock wheelhouse container sbom site clean

help:  ## this list
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(READY)  ## the virtual environment, nothing else

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11) and f"found: Python {sys.version.split()[0]}; expected: 3.11; fix: make PYTHON=/path/to/python3.11")'
	@$(TRY) $(PYTHON) -m pip install --quiet --disable-pip-version-check --root-user-action ignore --target .tools/uv-$(UV_VERSION) uv==$(UV_VERSION)

$(READY): $(UV) requirements.lock pyproject.toml
	@rm -f $(READY)
	@test -x $(RUN)python || $(UV) venv --quiet --python $(PYTHON) .venv
	@echo "installing the locked environment into .venv (torch is several GB: this can take minutes)"
	@$(TRY) $(UV) pip sync --quiet --python .venv --require-hashes requirements.lock
	@$(TRY) $(UV) pip install --quiet --python .venv --no-deps --no-build-isolation --editable .
	@touch $(READY)

demo: $(READY)  ## draw phantom lesions, train and run everything on them (some minutes)
	$(RUN)skinkit demo

test: $(READY)  ## the tests (slow ones left out)
	$(RUN)pytest -n 2 --dist worksteal -m "not slow and not gpu"

test-all: $(READY)  ## every test this machine can run
	$(RUN)pytest -n 2

test-wheel: $(UV)  ## the wheel, installed by pip in an empty environment of the newest other Python there is, tests itself
	@rm -rf .tools/wheel && $(UV) build --quiet --wheel --out-dir .tools/wheel
	@for version in 3.13 3.12; do \
		python=$$($(UV) python find --no-python-downloads $$version 2>/dev/null || \
			ls "$$(pyenv root 2>/dev/null)"/versions/$$version.*/bin/python 2>/dev/null | head -n 1); \
		[ -z "$$python" ] || break; \
	done; \
	if [ -z "$$python" ]; then echo "NO OTHER PYTHON: the wheel is not tested on Python 3.12 or 3.13" >&2; exit 0; fi; \
	"$$python" -m venv .tools/wheel/venv && .tools/wheel/venv/bin/pip install --quiet --disable-pip-version-check --no-compile .tools/wheel/*.whl \
	&& cd .tools/wheel && env -u PYTHONPATH venv/bin/skinkit selftest

lint: $(READY)  ## ruff and mypy, strict
	$(RUN)ruff check .
	$(RUN)ruff format --check .
	$(RUN)mypy

format: $(READY)  ## ruff format and its safe fixes
	$(RUN)ruff check --fix .
	$(RUN)ruff format .

bench: $(READY)  ## speed, as ratios measured in one run
	$(RUN)python bench/radiomics.py
	$(RUN)python bench/networks.py
	$(RUN)python bench/quality.py

bench-scale: $(READY)  ## time and memory at 1,000, 10,000 and 100,000 cases (an hour)
	$(RUN)python bench/scale.py

release-models: $(READY)  ## train a U-Net and the ensemble on PAD-UFES-20 (PAD=FOLDER) and pack them into dist/
	$(RUN)python examples/release_models.py $(PAD) $(MASKS)

lock: $(UV)  ## requirements.lock from pyproject.toml
	$(UV) pip compile pyproject.toml --all-extras --group dev --generate-hashes --python-version 3.11 --quiet \
		--custom-compile-command "make lock" --output-file requirements.lock

wheelhouse:  ## everything for a machine without internet: VARIANT=tables, cpu (with TORCH_INDEX=...) or cuda
	@$(PYTHON) tools/wheelhouse.py $(or $(VARIANT),tables) $(if $(TORCH_INDEX),--torch-index $(TORCH_INDEX)) --to wheelhouse

container:  ## the image of the Dockerfile from wheelhouse/, built and tried out; BASE=debootstrap makes its base here
	@$(PYTHON) tools/container.py $(if $(filter debootstrap,$(BASE)),--debootstrap,$(if $(BASE),--base $(BASE)))

sbom: $(UV)  ## what wheelhouse/ holds, as a bill of materials and with all licences, into dist/
	@$(PYTHON) tools/sbom.py $(UV)

site: $(READY)  ## the documentation site, into .site/html
	$(RUN)python tools/site.py

clean:  ## remove the environment and caches
	rm -rf .venv .tools .mypy_cache .ruff_cache .pytest_cache .hypothesis
