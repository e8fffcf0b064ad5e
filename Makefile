PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := .[test,quickstart,data,documents]
READY := $(VENV)/.ready
TESTERS ?= 3

.PHONY: gpu static quickstart docs test test-full check lint newest bench bench-kernels bench-training bench-inference bench-data bench-tokenizers

quickstart: $(READY)
	$(BIN)/python recipes/quickstart.py

# One thread for each process, and one more of them than cores, since tests of ranks and servers wait much of their time.
# `loadfile`: a file's fixtures, such as a trained tokenizer, are made once. Files are handed out as tests/conftest.py orders them.
TEST := -m pytest --numprocesses $(TESTERS) --dist loadfile --no-loadscope-reorder
test: $(READY)
	$(BIN)/python $(TEST)

# As `test`, with the slowest tests reported and ten times the examples of each property.
test-full: $(READY)
	EXAMPLES=10 $(BIN)/python $(TEST) --durations 50

# What a developer runs before each commit: lint, imports against the layering, and the tests that take no time.
check: lint
	$(BIN)/python $(TEST) -m "not slow and not ranks"

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python

# The pages of docs/ and the reference of the library: site/index.html.
docs: $(READY)
	$(INSTALL) --editable ".[docs]"
	rm -rf $(VENV)/cache
	$(BIN)/python docs/reference.py
	$(BIN)/mkdocs build --strict --quiet

bench: bench-kernels
	$(BIN)/python recipes/bench.py

bench-kernels: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python kernels/bench.py

# What can be proven of a GPU without one: kernels compiled for it, launches, bytes and memory counted.
static: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python kernels/static.py

# What a GPU can tell, in order of worth and within ten minutes or so; PARTS="check bench" runs these. Exit code 1 without a GPU.
gpu: $(READY)
	$(BIN)/python kernels/gpu.py $(PARTS)

bench-training: $(READY)
	@short=; OMP_NUM_THREADS=1; export OMP_NUM_THREADS; \
	$(BIN)/python recipes/benches/survival.py runs/survival || short=1; \
	$(BIN)/python recipes/benches/speed.py || short=1; \
	test -z "$$short"

bench-inference: $(READY)
	@short=; OMP_NUM_THREADS=1; export OMP_NUM_THREADS; \
	for bench in inference serving fuzzing attacks; do $(BIN)/python recipes/benches/$$bench.py || short=1; done; \
	test -z "$$short"

bench-data: $(READY)
	@for bench in datasets/benches/*.py; do echo "== $$bench"; OMP_NUM_THREADS=1 $(BIN)/python $$bench || short=1; done; test -z "$$short"

bench-tokenizers: $(READY)
	@short=; OMP_NUM_THREADS=1; export OMP_NUM_THREADS; \
	$(BIN)/python tokenizers/benches/rates.py runs/rates || short=1; \
	$(BIN)/python tokenizers/benches/long_reading.py runs/rates || short=1; \
	$(BIN)/python tokenizers/benches/speakers.py runs/speakers || short=1; \
	$(BIN)/python tokenizers/benches/vocoder.py runs/vocoder || short=1; \
	for bench in encoding text_to_codes; do $(BIN)/python tokenizers/benches/$$bench.py runs/rates/ema-12.5/tokenizer || short=1; done; \
	$(BIN)/python tokenizers/benches/seed.py runs/seed || short=1; \
	$(BIN)/python tokenizers/benches/ablations.py runs/ablations || short=1; \
	$(BIN)/python tokenizers/benches/generated_codes.py runs/seed || short=1; \
	$(BIN)/python tokenizers/benches/image_encoding.py || short=1; \
	$(BIN)/python tokenizers/benches/memory.py runs/memory || short=1; \
	test -z "$$short"

# The exact set that is tested: constraints.txt. The ranges of pyproject.toml stay open for those who bring their own. uv takes half of
# pip's time for the 10 GB; its cache lies in the environment, so that files are linked and not copied, and modules are compiled as they
# are imported.
INSTALL := $(BIN)/uv pip install --quiet --python $(BIN)/python --cache-dir $(VENV)/cache --constraint constraints.txt
$(READY): pyproject.toml constraints.txt Makefile
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	$(INSTALL) --editable "$(EXTRAS)"
	rm -rf $(VENV)/cache
	touch $(READY)

# The newest of everything in an environment of its own, so that the next library that breaks something is found on purpose.
newest:
	$(PYTHON) -m venv --clear $(VENV)-newest
	$(VENV)-newest/bin/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(VENV)-newest/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager --editable "$(EXTRAS)"
	$(VENV)-newest/bin/python -m pip list --outdated
	$(VENV)-newest/bin/python $(TEST)
