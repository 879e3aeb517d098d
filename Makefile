# make install   .venv/bin/sidecar, nothing else
# make demo      the main job on embedded parts, in under a minute
# make test      everything that CI runs
# make check     the part of it that needs nothing but .venv: lint, types, and the tests without other programs
# make lint      ruff and mypy alone
# make soak      the long campaigns: hours of crashes and outages, a million lines through every rotation, and an hour of a
#                load under which memory stays flat
# make fuzz      the property tests with many more examples
# make mutants   mutants of forward, intake, queue and report, and which of them no test notices: hours; MUTANTS chooses
# make coverage  which lines the tests without other programs run
# make fleet     the figures and the picture of docs/decisions/fleet.md
# make bench     a large file through the sidecar, beside a bare loop that reads, frames, compresses and posts it
# make deb       dist/*.deb

PYTHON ?= python3
SYSTEM_PYTHON ?= /usr/bin/python3
SUDO := $(shell [ "$$(id -u)" = 0 ] || command -v sudo)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PYTEST := $(BIN)/python -m pytest

.DEFAULT_GOAL := install
.PHONY: install demo test check lint unit soak fuzz mutants coverage fleet bench deb debian-packages constraints clean

install: .venv/installed
	@echo "installed: $(BIN)/sidecar"

.venv/created: constraints.txt
	$(PYTHON) -m venv --clear .venv || { \
		$(SUDO) apt-get update -qq; $(SUDO) apt-get install -y -qq python3-venv; $(PYTHON) -m venv --clear .venv; }
	$(PIP) install -c constraints.txt setuptools
	@touch $@

.venv/installed: .venv/created pyproject.toml
	$(PIP) install --no-build-isolation -c constraints.txt -e .
	@touch $@

# With pip's own build isolation: one of the test packages comes as a source distribution only.
.venv/installed-test: .venv/installed
	$(PIP) install -c constraints.txt -e '.[test]'
	@touch $@

.venv/installed-measure: .venv/installed-test
	$(PIP) install -c constraints.txt -e '.[measure]'
	@touch $@

# What the tests need of Debian: certificates are made with openssl, rotation is tested with logrotate, and the status
# page in Chromium. Only what is missing is installed, and that is said before.
debian-packages:
	@missing=""; \
	command -v openssl >/dev/null || missing="$$missing openssl"; \
	command -v logrotate >/dev/null || [ -x /usr/sbin/logrotate ] || missing="$$missing logrotate"; \
	command -v chromium >/dev/null || missing="$$missing chromium"; \
	command -v chromedriver >/dev/null || missing="$$missing chromium-driver"; \
	[ -z "$$missing" ] || { \
		echo "the tests need Debian packages that are missing, and install them with apt-get:$$missing"; \
		$(SUDO) apt-get update -qq; \
		DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -qq --no-install-recommends $$missing; }

demo: install
	@$(BIN)/sidecar demo

# Two files of tests at a time; but a package that is installed would be seen by others.
test: debian-packages lint
	$(PYTEST) --numprocesses 2 --dist loadfile --no-loadscope-reorder --ignore tests/packaging
	$(PYTEST) tests/packaging

check: lint
	$(PYTEST) --numprocesses 2 --dist loadfile --no-loadscope-reorder -m "not debian" tests/unit tests/component tests/contract tests/project

lint: .venv/installed-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

unit: .venv/installed-test
	$(PYTEST) tests/unit

soak: .venv/installed-test
	SIDECAR_TEST_ROUNDS=2000 $(PYTEST) tests/acceptance -k kill_9 --timeout 0
	SIDECAR_CAMPAIGN_LINES=1000000 $(PYTEST) -s tests/acceptance/test_tail_campaign.py
	SIDECAR_SOAK_S=3600 $(PYTEST) tests/acceptance/test_soak.py

fuzz: .venv/installed-test
	HYPOTHESIS_PROFILE=fuzz $(PYTEST) tests/unit tests/component -m property --timeout 0

MUTANTS ?=
mutants: .venv/installed-measure
	HYPOTHESIS_PROFILE=mutants $(BIN)/mutmut run $(MUTANTS)
	$(BIN)/mutmut results | grep -v 'not checked$$' || true

# Two tests of depth die of the deeper stack that a tracer needs.
coverage: .venv/installed-measure
	$(PYTEST) --numprocesses 2 --dist loadfile -m "not debian" --cov=sidecar --cov-report=term:skip-covered \
		--deselect tests/unit/test_report_payload.py::test_whatever_its_depth_a_payload_is_kept \
		--deselect tests/unit/test_report_rules.py::test_a_field_that_nobody_looks_at_is_left_out_if_it_is_nested_too_deep \
		tests/unit tests/component tests/contract

fleet: .venv/installed-test
	$(BIN)/python -m tests.fleet.report
	$(BIN)/python -m tests.fleet.plot docs/decisions/fleet.svg

bench: .venv/installed-test
	$(BIN)/python -m tests.bench.bulk

deb: .venv/installed-test
	packaging/build-deb $(SYSTEM_PYTHON) dist

constraints:
	rm -rf build/constraints && $(PYTHON) -m venv build/constraints
	build/constraints/bin/pip install --quiet --upgrade setuptools '.[test,measure]'
	{ head -n 1 constraints.txt; build/constraints/bin/pip freeze --all \
		| grep -vE '^(pip|bkmonitor-sidecar)( |=)'; } > build/constraints.txt
	mv build/constraints.txt constraints.txt && rm -rf build/constraints

clean:
	rm -rf .venv build dist mutants
