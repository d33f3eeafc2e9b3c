# The Python to build with; tools/setup_env.py looks for another one if this one does not fit.
PYTHON ?= python3
BIN := $(if $(filter Windows_NT,$(OS)),.venv/Scripts,.venv/bin)

SIDE := $(BIN)/python tools/side_env.py
BEYOND := build/envs/beyond/$(notdir $(BIN))
PATHS := $(BIN)/python tools/notebooks.py paths

.DEFAULT_GOAL := help
.PHONY: help setup extras demo lab test test-services test-extras clients floors copied upstream lint notebooks book test-browser bench soak lock clean

help: ## show this help
	@awk -F ':[^#]*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile

setup: ## make .venv with everything the course needs (the other targets do it by themselves)
	@for python in $(PYTHON) python3.13 python3.12 python3.11; do \
	  command -v "$$python" >/dev/null || continue; \
	  "$$python" tools/setup_env.py; code=$$?; \
	  if [ $$code -ne 126 ] && [ $$code -ne 127 ]; then exit $$code; fi; \
	done; \
	echo "Set-up: no Python was found that runs. Install Python 3.11, 3.12 or 3.13 (python.org/downloads)," >&2; \
	echo "or name one that you have: make setup PYTHON=/path/to/python3.12" >&2; exit 1

demo: setup ## rerank every test question in the terminal and print what it gained
	$(BIN)/python -m nvrerank_helpers demo

lab: setup ## open the course in JupyterLab (for its options: make lab ARGS="--port 9000")
	$(BIN)/python tools/lab.py $(ARGS)

extras: setup ## add to .venv what notebooks 08 and later need
	$(BIN)/python tools/extras.py

test: lint ## run every check: lint, types, unit tests, every notebook as it is and with its exercises solved
	$(BIN)/python tools/notebooks.py check
	$(BIN)/pytest --cov -n 2 --dist loadfile
	$(BIN)/python tools/notebooks.py solved --no-extras --to build/solved
	$(BIN)/pytest --nbmake -n 2 $$($(PATHS) --no-extras) build/solved/*.ipynb

test-services: setup ## run every notebook against a stand-in that plays the catalog, with a key, and as your own NIM
	$(BIN)/python tools/services.py $$($(PATHS) --no-extras)
	$(SIDE) beyond
	$(BEYOND)/python tools/services.py $$($(PATHS) --extras)

# What needs more than the course does runs in environments of its own, in build/envs, from the locks in locks/.
test-extras: clients ## the tests of the extras and of notebooks 08 and later, of cross-encoders (torch), and more clients
	$(SIDE) beyond
	$(BEYOND)/python -m pytest tests/beyond tests/test_nim_standin_pictures.py tests/openapi tests/notebooks/test_copy_this.py
	$(BIN)/python tools/notebooks.py solved --extras --to build/solved-extras
	$(BEYOND)/python -m pytest --nbmake -n 2 $$($(PATHS) --extras) build/solved-extras/*.ipynb
	$(SIDE) cross-encoder
	build/envs/cross-encoder/$(notdir $(BIN))/python -m pytest tests/cross_encoder

clients: setup ## try the stand-in with Haystack's and LiteLLM's clients
	$(SIDE) clients
	build/envs/clients/$(notdir $(BIN))/python -m pytest -c tests/clients/pytest.ini tests/clients

floors: setup ## the connector's tests with the lowest versions it allows; are there wheels for each Python it allows?
	$(SIDE) floors
	build/envs/floors/$(notdir $(BIN))/python -m pytest tests/connector
	$(BIN)/python tools/wheels.py

copied: setup ## the connector's tests on a copy of its folder under another name, without the rest of the project
	$(SIDE) connector
	build/envs/connector/$(notdir $(BIN))/python tools/copied.py

upstream: setup ## LlamaIndex's tests of its NVIDIARerank on ours, from a folder of yours: make upstream TESTS=folder
	@test -n "$(TESTS)" || { echo "Pass the folder of LlamaIndex's tests of its NVIDIARerank, from a checkout of its repository:" >&2; \
	  echo "make upstream TESTS=llama_index/llama-index-integrations/postprocessor/llama-index-postprocessor-nvidia-rerank/tests" >&2; \
	  exit 2; }
	$(SIDE) upstream
	build/envs/upstream/$(notdir $(BIN))/python tools/upstream/run.py "$(TESTS)" $(ARGS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@# deptry has a line for each extra that isn't installed: shown only if it finds something
	@found=$$($(BIN)/deptry --no-ansi nvrerank_helpers/connector 2>&1) || { echo "$$found"; exit 1; }; echo "$$found" | tail -n 1

notebooks: setup ## make the notebooks anew from notebooks/source, and the result in the README
	$(SIDE) beyond
	$(BIN)/python tools/notebooks.py build --no-extras
	$(BEYOND)/python tools/notebooks.py build --extras
	$(BIN)/python tools/result.py

book: setup ## make the course as a web site in build/book, and check its links
	$(SIDE) book
	build/envs/book/$(notdir $(BIN))/python tools/book.py

test-browser: book ## open the notebooks and the web site in Debian's chromium; pictures are in build/browser
	build/envs/book/$(notdir $(BIN))/python -m pytest tests/test_book.py tests/browser

bench: setup ## measure side by side: the pipeline's steps, our client against others, also for long and in bulk
	$(BIN)/python benchmarks/retrieval.py
	mkdir -p build
	$(BIN)/python benchmarks/clients.py --figure build/clients.svg
	$(BIN)/python benchmarks/deadlines.py
	$(BIN)/python benchmarks/endurance.py
	$(SIDE) beyond
	$(BEYOND)/python benchmarks/bulk.py

soak: setup ## half an hour of mixed load on the stand-in, with faults (for less: make soak ARGS="--minutes 1")
	$(BIN)/python benchmarks/soak.py $(ARGS)

lock: setup ## remake requirements.lock and locks/ from pyproject.toml (newest versions: make lock ARGS=--upgrade)
	$(BIN)/python tools/lock.py $(ARGS)

clean: ## remove .venv and everything else that these commands made, except the notebooks
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .jupyter_cache .virtual_documents
	find . -name .git -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +
