# The Python to build with; tools/environment/setup_env.py looks for another one if this one does not fit.
PYTHON ?= python3
BIN := $(if $(filter Windows_NT,$(OS)),.venv/Scripts,.venv/bin)

SIDE := $(BIN)/python -m tools.environment.side_env
ENVS := build/envs
BEYOND := $(ENVS)/beyond/$(notdir $(BIN))
PATHS := $(BIN)/python -m tools.notebook_tool paths

.DEFAULT_GOAL := help
.PHONY: help setup extras demo lab test test-services test-extras test-long clients floors copied upstream lint notebooks site test-browser bench soak lock clean

help: ## show this help
	@awk -F ':[^#]*## ' '/^## / {printf "\n%s\n", substr($$0, 4)} /^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' Makefile

## Use the course

demo: setup ## rerank every test question in the terminal and print what it gained
	$(BIN)/python -m nvrerank_helpers demo

lab: setup ## open the course in JupyterLab (with options: make lab ARGS="--port 9000")
	$(BIN)/python -m tools.lab $(ARGS)

extras: setup ## add to .venv what notebooks 08 and later need
	$(SIDE) beyond --here

setup: ## make .venv with everything the course needs (the other targets run this first)
	@for python in $(PYTHON) python3.13 python3.12 python3.11; do \
	  "$$python" -c "" 2>/dev/null && exec "$$python" -m tools.environment.setup_env; \
	done; \
	echo "Set-up: no Python was found that runs. Install Python 3.11, 3.12 or 3.13 (python.org/downloads)," >&2; \
	echo "or name one that you have: make setup PYTHON=/path/to/python3.12" >&2; exit 1

clean: ## remove .venv and everything else that these commands made, except the notebooks
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .jupyter_cache .virtual_documents
	find . -name .git -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +

## Teach the course

site: setup ## make the course as a web site in build/site, and check its links
	$(SIDE) site
	$(ENVS)/site/$(notdir $(BIN))/python -m tools.site_tool

notebooks: setup ## make the notebooks anew from notebooks/source, and the result in the README
	$(SIDE) beyond
	$(BIN)/python -m tools.notebook_tool build --no-extras
	$(BEYOND)/python -m tools.notebook_tool build --extras
	$(BIN)/python -m tools.notebook_tool.result

## Develop the package

test: lint ## lint, types, the unit tests, and notebooks 00 to 07 with their exercises solved
	$(BIN)/python -m tools.notebook_tool check
	$(BIN)/pytest --cov -n 2 --dist worksteal
	$(BIN)/python -m tools.notebook_tool solved --no-extras --to build/solved
	$(BIN)/pytest --nbmake -n 2 build/solved/*.ipynb

lint: setup ## style, types, and whether the dependencies are those that the package imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	@# deptry has a line for each extra that isn't installed: shown only if it finds something
	@found=$$($(BIN)/deptry --no-ansi nvrerank_helpers 2>&1) || { echo "$$found"; exit 1; }; echo "$$found" | tail -n 1

test-services: setup ## every notebook unsolved, with a key against a stand-in that plays the catalog, and as your own NIM
	$(SIDE) beyond
	$(BIN)/python -m tools.notebook_tool.services $$($(PATHS) --no-extras)
	$(BEYOND)/python -m tools.notebook_tool.services $$($(PATHS) --extras)

# Whatever needs more packages than the course runs in an environment in build/envs, from its lock in locks/.
test-extras: clients ## the tests of the extras, notebooks 08 and later with their exercises solved, and more clients
	$(SIDE) beyond
	$(BEYOND)/python -m pytest tests/beyond tests/nim_standin/test_ocr.py tests/nim_standin/openapi tests/notebooks/test_copy_this.py
	$(BIN)/python -m tools.notebook_tool solved --extras --to build/solved-extras
	$(BEYOND)/python -m pytest --nbmake -n 2 build/solved-extras/*.ipynb

test-browser: site ## open the notebooks and the web site in Debian's chromium; pictures are in build/browser
	$(ENVS)/site/$(notdir $(BIN))/python -m pytest tests/tools/test_site_checks.py tests/browser

# These variables make the model compute as on an older processor, so its scores differ a little.
OLDER_PROCESSOR := CT2_FORCE_CPU_ISA=GENERIC ONEDNN_MAX_CPU_ISA=AVX2

test-long: setup ## checks that a change rarely breaks: many kills, load with faults, torch, another kind of processor
	$(SIDE) beyond
	$(BIN)/pytest -m long
	$(OLDER_PROCESSOR) $(BIN)/python -m tools.notebook_tool check --rerun 00_start_here 04_hybrid_retriever
	$(BEYOND)/python -m pytest -m long tests/beyond
	$(BIN)/python benchmarks/soak.py --minutes 5
	$(SIDE) cross-encoder
	$(ENVS)/cross-encoder/$(notdir $(BIN))/python -m pytest tests/nim_standin/cross_encoder

clients: setup ## try the stand-in with Haystack's and LiteLLM's clients
	$(SIDE) clients
	$(ENVS)/clients/$(notdir $(BIN))/python -m pytest -c tests/clients/pytest.ini tests/clients

floors: setup ## the connector's tests with the lowest versions it allows; are there wheels for each Python it allows?
	$(SIDE) floors
	$(ENVS)/floors/$(notdir $(BIN))/python -m pytest tests/connector
	$(BIN)/python -m tools.environment.wheels

copied: setup ## the connector's tests on a copy of its folder under another name, without the rest of the project
	$(SIDE) connector
	$(ENVS)/connector/$(notdir $(BIN))/python -m tools.copied

upstream: setup ## LlamaIndex's tests of its NVIDIARerank on ours, from a folder of yours: make upstream TESTS=folder
	@test -n "$(TESTS)" || { echo "Pass the folder of LlamaIndex's tests of its NVIDIARerank, from a checkout of its repository:" >&2; \
	  echo "make upstream TESTS=llama_index/llama-index-integrations/postprocessor/llama-index-postprocessor-nvidia-rerank/tests" >&2; \
	  exit 2; }
	$(SIDE) upstream
	$(ENVS)/upstream/$(notdir $(BIN))/python -m tools.upstream.run "$(TESTS)" $(ARGS)

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

lock: setup ## remake locks/course.lock and locks/ from pyproject.toml (newest versions: make lock ARGS=--upgrade)
	$(BIN)/python -m tools.environment.lock $(ARGS)
