# Two commands do all: `make quickstart` trains, condenses, exports and measures; `make test` passes the tests.
PYTHON ?= python3
VENV ?= .venv
EPOCHS ?= 20
TESTS ?= tests
WORKERS ?= 2
REPOSITORY := $(CURDIR)

PACKED := setup.py README.md $(shell find keras_condense scripts -type f -not -name '*.pyc')
# of these pages without the notice of another program, which mkdocs-material prints
MKDOCS = NO_MKDOCS_2_WARNING=1 TF_CPP_MIN_LOG_LEVEL=3 $(VENV)/bin/mkdocs

.PHONY: quick quickstart test lint readme blocks tables docs serve install benchmarks

install: $(VENV)/installed

# a wheel, not the source folder: what is tested is what users get. Made anew when anything that goes into it changed,
# a file that is gone included: its folder is then newer.
$(VENV)/installed: $(VENV)/requirements $(PACKED) $(shell find keras_condense -type d -not -name __pycache__)
	rm -rf build  # or what was removed from the source would still be packed
	$(VENV)/bin/pip install --quiet --force-reinstall --no-deps .
	touch $@

$(VENV)/requirements: setup.py
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --upgrade pip wheel
	$(VENV)/bin/pip install --quiet ".[test,docs]"
	touch $@

quickstart: install
	rm -rf runs/quickstart
	$(VENV)/bin/python applications/digits/main.py --epochs $(EPOCHS) --output runs/quickstart

# from another folder, so that the installed package is imported and not the source beside it; a file's tests share
# fixtures, so that a worker gets whole files, in the order of tests/conftest.py
test: install
	cd $(VENV) && bin/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder \
		-c $(REPOSITORY)/pyproject.toml --rootdir $(REPOSITORY) \
		$(addprefix $(REPOSITORY)/,$(TESTS)) --pyargs keras_condense

# on the source, for the loop of writing code: the files and tests that take little time
quick: $(VENV)/requirements
	PYTHONPATH=$(REPOSITORY) $(VENV)/bin/python -m pytest -n $(WORKERS) --dist loadfile -m "not slow" $(TESTS) keras_condense

lint: $(VENV)/requirements
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

# the code blocks of README.md and docs/, their tables and their pictures
readme: blocks tables

blocks: install
	$(VENV)/bin/python tests/readme_blocks.py

tables: install
	$(VENV)/bin/python benchmarks/readme_tables.py --check
	$(VENV)/bin/python benchmarks/pictures.py --check

# into site/; warnings are errors, broken links among them
docs: $(VENV)/requirements
	$(MKDOCS) build --strict

# shows docs/ in a browser while it is written
serve: $(VENV)/requirements
	$(MKDOCS) serve

benchmarks: install
	$(VENV)/bin/python benchmarks/import_time.py
	$(VENV)/bin/python benchmarks/export_time.py
	$(VENV)/bin/python benchmarks/training_step.py $(if $(AUTHORS),--authors $(AUTHORS))
	$(VENV)/bin/python benchmarks/phone_networks.py imagenet $(if $(COUNTER),--counter "$(COUNTER)")
	$(VENV)/bin/python benchmarks/phone_networks.py cifar $(if $(COUNTER),--counter "$(COUNTER)")
	$(VENV)/bin/python benchmarks/phone_networks.py mobile $(if $(COUNTER),--counter "$(COUNTER)")
	$(VENV)/bin/python benchmarks/instructions_by_stage.py
	$(VENV)/bin/python benchmarks/grouped_training.py
	$(VENV)/bin/python benchmarks/learn_groups.py $(if $(COUNTER),--counter "$(COUNTER)")
	$(if $(COUNTER),$(VENV)/bin/python benchmarks/budgets.py --counter "$(COUNTER)")
	$(VENV)/bin/python benchmarks/ablation.py $(if $(DATA_DIR),--data-dir "$(DATA_DIR)")
	$(VENV)/bin/python benchmarks/memory_efficient.py
	$(if $(wildcard $(VENV)/lib/python3*/site-packages/jax),$(VENV)/bin/python benchmarks/exchange.py)
	$(VENV)/bin/python benchmarks/scaling.py
	$(if $(wildcard $(VENV)/lib/python3*/site-packages/jax),$(VENV)/bin/python benchmarks/soak.py)
	$(VENV)/bin/python benchmarks/build_time.py
	$(VENV)/bin/python benchmarks/input_pipeline.py
	$(VENV)/bin/python benchmarks/zoo.py
	$(VENV)/bin/python benchmarks/random_networks.py
	$(VENV)/bin/python benchmarks/accuracy.py $(if $(DATA_DIR),--data-dir "$(DATA_DIR)") $(if $(COUNTER),--counter "$(COUNTER)")
	$(VENV)/bin/python benchmarks/model_cards.py
	$(VENV)/bin/python benchmarks/learned_layer.py
	$(VENV)/bin/python benchmarks/readme_tables.py
	$(VENV)/bin/python benchmarks/pictures.py
