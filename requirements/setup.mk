# How the environment is made, wherever it is made: included by the Makefile, run alone by docker/Dockerfile.
# What a layer of the image is built from must not change with every command that the Makefile gains.
SHELL    := /bin/bash
PY       ?= $(shell command -v python3.11 || command -v python3)
VENV     := .venv
BIN      := $(VENV)/bin
READY    := $(VENV)/.ready
READY_DEMO := $(VENV)/.ready-demo
# cpu, cuda, or auto: what this machine has. A folder of wheels in PIP_FIND_LINKS goes before any index
TORCH_BACKEND ?= auto

.PHONY: setup
setup: $(READY)

# Everything by its hash, uv and what builds packages too; nothing that no file names (--no-deps). Compiled at once, some
# 50 seconds of a core: where Python may not write its caches (another's environment, PYTHONDONTWRITEBYTECODE), each of
# the many processes that Ray starts would compile them for itself, 1 to 2 seconds
export UV_COMPILE_BYTECODE ?= 1
INSTALL = $(BIN)/uv pip install -q --python $(BIN)/python --no-deps --require-hashes \
  --build-constraint requirements/build.txt

$(READY): $(wildcard requirements/*.txt)
	@test -n "$(PY)" || { echo "python3.11 is needed with its venv module (Debian: apt-get install python3-venv)"; exit 1; }
	@$(PY) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' || \
	  { echo "$(PY) is $$($(PY) -V): Python 3.11 or 3.12 is needed, e.g. make PY=/path/to/python3.11"; exit 1; }
	@echo "setup: $(VENV), from requirements/lock.txt"
	@test -x $(BIN)/python || $(PY) -m venv $(VENV)
	@$(BIN)/pip install -q --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@$(INSTALL) -r requirements/lock.txt
	@backend='$(TORCH_BACKEND)'; \
	  if [ $$backend = auto ]; then \
	    if command -v nvidia-smi >/dev/null || [ $$(uname -s) != Linux ]; then backend=cuda; else backend=cpu; fi; fi; \
	  case $$backend in \
	    cuda) $(INSTALL) -r requirements/torch.txt ;; \
	    cpu) $(INSTALL) -r requirements/torch-cpu.txt \
	        $(if $(PIP_FIND_LINKS),--find-links '$(PIP_FIND_LINKS)',--torch-backend=cpu) || \
	      { echo "setup: the CPU build of torch cannot be had here; taking the one with CUDA"; \
	        $(INSTALL) -r requirements/torch.txt; } ;; \
	    *) echo "TORCH_BACKEND=$$backend: cpu, cuda or auto"; exit 2 ;; esac
	@touch $@

# gradio, the browser's driver, what checks docker/: needed by the page and the tests, not by curation or training
$(READY_DEMO): $(READY) requirements/demo.txt
	@echo "setup: $(VENV), from requirements/demo.txt"
	@$(INSTALL) -r requirements/demo.txt
	@touch $@
