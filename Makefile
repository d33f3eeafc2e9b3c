# The Python to build with; tools/setup_env.py looks for another one if this one does not fit.
PYTHON ?= python3
BIN := $(if $(filter Windows_NT,$(OS)),.venv/Scripts,.venv/bin)

.DEFAULT_GOAL := help
.PHONY: help setup demo lab test lint notebooks bench lock clean

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

test: lint ## run every check: lint, types, unit tests, every notebook as it is and with its exercises solved
	$(BIN)/python tools/notebooks.py check
	$(BIN)/pytest --cov
	$(BIN)/python tools/notebooks.py solved --to build/solved
	$(BIN)/pytest --nbmake notebooks/*.ipynb build/solved/*.ipynb

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

notebooks: setup ## make the notebooks anew from notebooks/source, and the result in the README
	$(BIN)/python tools/notebooks.py build
	$(BIN)/python tools/result.py

bench: setup ## measure side by side: the pipeline's steps, and our client against others, also for long
	$(BIN)/python benchmarks/retrieval.py
	mkdir -p build
	$(BIN)/python benchmarks/clients.py --figure build/clients.svg
	$(BIN)/python benchmarks/endurance.py

# uv reads the override that leaves torch out from pyproject.toml, but only if no other settings file is named.
lock: setup ## remake requirements.lock from pyproject.toml (newest versions: make lock ARGS=--upgrade)
	cp requirements.lock requirements.lock.new
	env -u UV_CONFIG_FILE $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --all-extras \
	  --generate-hashes --no-header --no-emit-index-url --no-emit-find-links --system-certs $(ARGS) \
	  pyproject.toml -o requirements.lock.new
	@if grep -nE '://|^--|^ *-[^-]|^(torch|sentence-transformers)==' requirements.lock.new; then \
	  echo "The new lock is not taken: an address, an option or torch is in it." >&2; \
	  rm requirements.lock.new; exit 1; \
	fi
	mv requirements.lock.new requirements.lock

clean: ## remove .venv and everything else that these commands made, except the notebooks
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis .jupyter_cache .virtual_documents
	find . -name .git -prune -o \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +
