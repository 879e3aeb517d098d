# make install   .venv/bin/sidecar, nothing else
# make demo      the main job on embedded parts, in under a minute
# make test      everything that CI runs
# make lint      ruff and mypy alone
# make soak      the long campaigns: hours of crashes and outages
# make fuzz      the property tests with many more examples
# make fleet     the figures and the picture of docs/decisions/fleet.md
# make deb       dist/*.deb

PYTHON ?= python3
SYSTEM_PYTHON ?= /usr/bin/python3
SUDO := $(shell [ "$$(id -u)" = 0 ] || command -v sudo)
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
PYTEST := $(BIN)/python -m pytest

.DEFAULT_GOAL := install
.PHONY: install demo test lint unit soak fuzz fleet deb browser openssl logrotate constraints clean

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

# Certificates for the tests are made with the openssl command.
openssl:
	@command -v openssl >/dev/null || { $(SUDO) apt-get update -qq; $(SUDO) apt-get install -y -qq openssl; }

# Rotation is tested with Debian's logrotate.
logrotate:
	@command -v logrotate >/dev/null || [ -x /usr/sbin/logrotate ] || { \
		$(SUDO) apt-get update -qq; \
		DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -qq --no-install-recommends logrotate; }

# The status page is tested in Debian's Chromium.
browser:
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || { \
		$(SUDO) apt-get update -qq; \
		DEBIAN_FRONTEND=noninteractive $(SUDO) apt-get install -y -qq --no-install-recommends chromium chromium-driver; }

demo: install
	@$(BIN)/sidecar demo

# Two files of tests at a time; but a package that is installed would be seen by others.
test: lint browser openssl logrotate
	$(PYTEST) --numprocesses 2 --dist loadfile --ignore tests/packaging
	$(PYTEST) tests/packaging

lint: .venv/installed-test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

unit: .venv/installed-test
	$(PYTEST) tests/unit

soak: .venv/installed-test
	SIDECAR_TEST_ROUNDS=2000 $(PYTEST) tests/acceptance -k kill_9 --timeout 0

fuzz: .venv/installed-test
	HYPOTHESIS_PROFILE=fuzz $(PYTEST) tests/unit -m property --timeout 0

fleet: .venv/installed-test
	$(BIN)/python -m tests.fleet.report
	$(BIN)/python -m tests.fleet.plot docs/decisions/fleet.svg

deb: .venv/installed-test
	packaging/build-deb $(SYSTEM_PYTHON) dist

constraints:
	rm -rf build/constraints && $(PYTHON) -m venv build/constraints
	build/constraints/bin/pip install --quiet --upgrade setuptools '.[test]'
	{ head -n 1 constraints.txt; build/constraints/bin/pip freeze --all \
		| grep -vE '^(pip|bkmonitor-sidecar)( |=)'; } > build/constraints.txt
	mv build/constraints.txt constraints.txt && rm -rf build/constraints

clean:
	rm -rf .venv build dist
