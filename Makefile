# make demo: STA at work end to end.  make test: the tests.  make gallery: the pictures of the docs.
# Each sets up .venv by itself.
PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# Processes that share the tests out, file by file, with a thread each for torch.
JOBS ?= 2
# torchcodec finds PyAV's FFmpeg there.
FFMPEG := .venv/ffmpeg
WITH_FFMPEG := LD_LIBRARY_PATH=$(CURDIR)/$(FFMPEG)$${LD_LIBRARY_PATH:+:$$LD_LIBRARY_PATH}
PYTEST := OMP_NUM_THREADS=1 $(WITH_FFMPEG) \
	$(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile

.PHONY: demo test test-slow test-gpu lint gallery clean

demo: .venv/.installed
	$(BIN)/vidprune demo --output demo-output

test: .venv/.tested
	$(PYTEST) -m "not slow and not gpu"

test-slow: .venv/.tested
	$(PYTEST) -m "slow and not gpu"

test-gpu: .venv/.tested
	$(WITH_FFMPEG) $(BIN)/python -m pytest -m gpu

lint: .venv/.tested
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

gallery: .venv/.tested
	$(BIN)/python docs/gallery.py

.venv/.installed: pyproject.toml requirements/run.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "vidprune needs Python 3.11 or later; try make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(INSTALL) --requirement requirements/run.txt
	$(INSTALL) --no-deps --editable .
	touch $@

.venv/.tested: .venv/.installed requirements/test.txt
	$(INSTALL) --requirement requirements/test.txt
	$(BIN)/python tests/link_ffmpeg.py $(FFMPEG)
	touch $@

clean:
	rm -rf .venv build dist demo-output
