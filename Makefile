# Everything runs in .venv, which the first call makes with the first of these that is new enough;
# PYTHON=/path/to/python says which to use instead.
PYTHON ?=
CANDIDATES = $(or $(PYTHON),python3.14 python3.13 python3.12 python3)
BIN := .venv/bin

# Debian ships Python without ensurepip, and `python -m venv` then fails half-way.
NEW_ENOUGH := -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 12))'
FIND_PYTHON = for python in $(CANDIDATES); do "$$python" $(NEW_ENOUGH) && echo "$$python" && break; done
FOUND_PYTHON = $(shell { $(FIND_PYTHON); } 2>/dev/null)
NO_PYTHON = aura-jax needs Python 3.12 or newer with venv and ensurepip, but finds none under "$(CANDIDATES)": \
	install one (on Debian and Ubuntu python3.12 and python3.12-venv) or set PYTHON=/path/to/python

# .venv/runs is written last and holds the folder that the package was installed from. A .venv from
# an interrupted installation, another folder or a Python that is too old or gone is made again.
COMPLETE := $(shell { [ "$$(cat .venv/runs)" = '$(CURDIR)' ] && $(BIN)/python $(NEW_ENOUGH) \
	&& $(BIN)/python -m pip --version && $(BIN)/uv --version; } >/dev/null 2>&1 && echo yes)
# Python compiles a module when it is first imported. pip would compile all 20,000 of PyTorch and the
# others one after the other, for two minutes, and few of them are ever imported.
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
# The extras are up to 7 GB, which uv unpacks in a fifth of pip's time. Unlike pip it reads no
# pip.conf: behind a mirror, set UV_DEFAULT_INDEX.
UV := uv==0.13.9
UV_INSTALL := $(BIN)/uv pip install --quiet --editable
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-web docs x64 plans check clean incomplete

demo: .venv/runs
	mkdir -p out
	$(BIN)/python examples/flip_a_photograph.py --out out/demo.png

test: .venv/tests
	$(BIN)/python -m pytest -q -n 2 --dist worksteal

# The site, in out/docs. The Python of all pages runs, since any change of the library may break it,
# and every warning is an error.
docs: .venv/docs
	$(BIN)/python -m sphinx -E -W -q -j 2 docs out/docs

# The page of `aura-jax demo` in a headless Chromium, which is not installed here: on Debian,
# `apt-get install chromium`. AURA_CHROMIUM names another one.
test-web: .venv/tests
	$(BIN)/python -m pytest -q tests/web/demo_page.py

# Plans of single layers for TPUs and NVIDIA GPUs, which need not be here.
plans: .venv/plans/complete
	.venv/plans/bin/python -m pytest -q tests/plans/layers.py

# JAX's 64-bit mode must change no result: the tests of the model, its training and its files.
x64: .venv/tests
	JAX_ENABLE_X64=1 $(BIN)/python -m pytest -q -n auto $(foreach name,layers symmetry inference \
		losses objective train_step codec codec_use rewrites attention discriminator parity checkpoint \
		equivariance equivariance_measure evaluation quality photo_latents latents cache_reading cache_verify \
		run_loop run_folder latent_file config,tests/test_$(name).py)

check: .venv/tests
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright

# The library alone; the demo needs no PyTorch.
.venv/runs: pyproject.toml $(if $(COMPLETE),,incomplete)
	$(if $(COMPLETE),rm $@,$(call make_venv,$(or $(FOUND_PYTHON),$(error $(NO_PYTHON)))))
	$(PIP_INSTALL) $(UV) --editable .
	echo '$(CURDIR)' > $@

make_venv = rm -rf .venv && $(1) -m venv .venv

# With PyTorch (about 5 GB), against which the tests hold the port.
.venv/tests: .venv/runs
	$(call add_extra,test)

# With Sphinx, and with PyTorch, which some pages use.
.venv/docs: .venv/runs
	$(call add_extra,docs)

# .venv/runs keeps its time, so that what another target has added need not be added again.
define add_extra
mv .venv/runs .venv/incomplete
$(UV_INSTALL) '.[$(1)]' --python $(BIN)/python
mv .venv/incomplete .venv/runs
touch $@
endef

# With the compilers for TPUs and NVIDIA GPUs (about 2 GB), in an environment of its own: where JAX's
# CUDA plugin finds no GPU, it prints a traceback whenever JAX starts (jax 0.12).
.venv/plans/complete: .venv/runs
	$(BIN)/python -m venv --clear .venv/plans
	$(UV_INSTALL) '.[plans,train]' beartype pytest --python .venv/plans/bin/python
	touch $@

clean:
	rm -rf .venv out
