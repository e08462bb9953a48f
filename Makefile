# make demo      train the two networks of the demo, print its table, write its pictures
# make test      checks and the quick tests;  make test-all: the slow ones too
# make bench     measure against eager and compiled PyTorch
# make format    rewrite the sources in the one style
# make clean     remove what was built and drawn (the tools in .venv stay)
# make help      print this
#
# PYTHON=python3.12     the interpreter to make .venv from, default python3. A torch >= 2.13 that it
#                       has is used; where it has none, torch==2.13.0 is installed into .venv.
# TORCH="torch==2.14.1" installs that one in any case
# ARGS="-k mse"         more arguments for pytest, the benchmarks or the demo

PYTHON ?= python3
TORCH ?=
ARGS ?=

# A checkout builds the CUDA kernels for the GPUs of this machine, or for one architecture where
# there is none; a package (pip install .) is built for all that setup.py names.
GPUS := $(shell nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null \
  | grep -x '[0-9]*\.[0-9]*' | sort -u | paste -sd ';' -)
export TORCH_CUDA_ARCH_LIST ?= $(or $(GPUS),9.0+PTX)

PY := .venv/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --quiet
PYTEST := OMP_NUM_THREADS=1 $(PY) -m pytest
CXX_FILES = find csrc tests -name '*.[ch]' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh'

# One line: the folder of a torch >= 2.13 that $(PYTHON) sees, or nothing.
FIND_TORCH := import importlib.util as u, importlib.metadata as m, os; s = u.find_spec("torch"); \
  v = m.version("torch").split(".")[:2] if s else ["0", "0"]; \
  print(os.path.dirname(os.path.dirname(s.origin)) if [int(i) for i in v] >= [2, 13] else "")
# One line: the requirements of the extra "dev" and of those that it names, without torch.
LIST_TOOLS := import re, tomllib; e = tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]; \
  own = [r for r in e["dev"] if r.startswith("fusedloss")]; names = re.findall(r"\w+", own[0])[1:]; \
  print(*sorted({r for n in ["dev", *names] for r in e[n]} - set(own)), sep="\n")

SITE := import sysconfig; print(sysconfig.get_path("purelib"))

.PHONY: demo test test-all bench format clean help build check always

# Threads that wait without spinning: beside other work two that spin share one core's time.
demo: build
	OMP_WAIT_POLICY=passive $(PY) -m fusedloss.demo $(ARGS)

test: check
	$(PYTEST) -n 2 -m "not slow" $(ARGS)

test-all: check
	$(PYTEST) -n 2 $(ARGS)

bench: build
	$(PY) -m benchmarks $(ARGS)

check: build
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(CXX_FILES) | xargs .venv/bin/clang-format --dry-run --Werror

format: .venv/tools
	$(PY) -m ruff check --fix
	$(PY) -m ruff format
	$(CXX_FILES) | xargs .venv/bin/clang-format -i

# Seconds when nothing changed: ninja knows which file needs which header.
build: .venv/tools
	$(PY) setup.py --quiet build_ext --inplace
	@echo "$(CURDIR)" > "$$($(PY) -c '$(SITE)')/fusedloss-checkout.pth"

.venv/tools: .venv/torch pyproject.toml
	@$(PY) -c '$(LIST_TOOLS)' > .venv/requirements.txt
	$(PIP) install -r .venv/requirements.txt
	touch $@

# A path file makes the torch of the active environment visible in .venv, whatever kind that is.
.venv/torch: .venv/bin/python $(if $(TORCH),always)
	@found=$$($(PYTHON) -c '$(FIND_TORCH)' 2>/dev/null); \
	if [ -n "$(TORCH)" ] || [ -z "$$found" ]; then \
	  echo "torch: $(or $(TORCH),torch==2.13.0) in .venv"; \
	  $(PIP) install "$(or $(TORCH),torch==2.13.0)"; \
	else \
	  echo "torch: the one in $$found"; \
	  echo "$$found" > "$$($(PY) -c '$(SITE)')/active-environment.pth"; \
	fi
	@test -e $@ || touch $@

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "make needs Python 3.11 or newer as $(PYTHON): set PYTHON="; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
	  { echo "$(PYTHON) cannot make environments: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv .venv

help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

clean:
	rm -rf build dist *.egg-info fusedloss/*.so demo-output bench-output .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
