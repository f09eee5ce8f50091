# `make help` lists what there is. Environments are made once, under $(VENV), and brought up to date when
# pyproject.toml or constraints.txt change.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=

# Since 1.29 ONNX Runtime reports on its use unless it is told not to.
export ORT_DISABLE_TELEMETRY := 1

SERVE := $(VENV)/serve
DEV := $(VENV)/dev
GPU := $(VENV)/gpu
FRESH := $(VENV)/fresh
MODELS := code-language digit-in-clutter digit-motion

.DELETE_ON_ERROR:
.PHONY: help serve test test-slow test-gpu load lint format image-test demo bundles agreement judge pictures screenshots constraints clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo 'ARGS="..." hands options on: make serve ARGS="--port 9000", make test ARGS="-k fused"'

serve: $(SERVE)/.installed ## Serve the built-in models on http://127.0.0.1:8000
	$(SERVE)/bin/regard serve $(ARGS)

test: $(DEV)/.installed ## Run the tests
	$(DEV)/bin/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(ARGS)

test-slow: $(DEV)/.installed ## Run the tests at real model sizes
	$(DEV)/bin/python -m pytest -m slow $(ARGS)

test-gpu: $(GPU)/.installed ## Run the end-to-end tests on the first CUDA device
	REGARD_DEVICE=cuda:0 $(GPU)/bin/python -m pytest tests/end_to_end $(ARGS)

load: $(DEV)/.installed ## Measure and try a server under load, in about twenty minutes
	$(DEV)/bin/python -m pytest -m load tests/load $(ARGS)

lint: $(DEV)/.installed ## Check style, types and import rules
	$(DEV)/bin/ruff check
	$(DEV)/bin/ruff format --check
	$(DEV)/bin/mypy
	$(DEV)/bin/lint-imports

format: $(DEV)/.installed ## Bring the code into the house style
	$(DEV)/bin/ruff check --fix
	$(DEV)/bin/ruff format

image-test: ## Build the container image without a Docker engine, and try it (root, Debian)
	$(PYTHON) tests/image/run.py $(ARGS)

demo: $(DEV)/.installed ## Train the three built-in models again
	set -e; for model in $(subst -,_,$(MODELS)); do \
		$(DEV)/bin/python -m models.demo.$$model.recipe; done

bundles: $(DEV)/.installed ## Export the weights of the three built-in models again
	rm -rf .cache/bundles
	set -e; for model in $(subst -,_,$(MODELS)); do \
		$(DEV)/bin/regard export models/demo/$$model/weights --out .cache/bundles; done
	set -e; for model in $(MODELS); do \
		rm -rf service/demo/$$model; mv .cache/bundles/$$model service/demo/; done

agreement: $(DEV)/.installed ## Compare fp16 and int8 of the three built-in models with fp32
	rm -rf .cache/agreement
	$(DEV)/bin/python -m models.demo.held_out --out .cache/agreement/data
	set -e; for precision in fp16 int8; do for model in $(MODELS); do \
		repository=.cache/agreement/$$precision; \
		data=$$(test $$model-$$precision != digit-in-clutter-int8 || echo --data .cache/agreement/data/calibration); \
		$(DEV)/bin/regard export models/demo/$$(echo $$model | tr - _)/weights --out $$repository \
			--precision $$precision $$data; \
		$(DEV)/bin/regard compare $$repository/$$model/1 service/demo/$$model/1 \
			.cache/agreement/data/$$model --json $$repository/$$model.json; \
	done; done

judge: $(DEV)/.installed ## Judge the maps of the three built-in models, in about a quarter of an hour
	rm -rf .cache/judge
	$(DEV)/bin/python -m models.demo.held_out --out .cache/judge/data --count 200
	set -e; for model in $(MODELS); do \
		data=.cache/judge/data/$$model; test $$model != code-language || data=$$data.jsonl; \
		$(DEV)/bin/regard evaluate service/demo/$$model/1 $$data --limit 100 --out .cache/judge/$$model; done
	$(DEV)/bin/python -m models.demo.judged .cache/judge

pictures: $(DEV)/.installed ## Draw the pictures of the README again
	$(DEV)/bin/regard predict examples/snippet.rs --maps .cache/pictures/text > /dev/null
	$(DEV)/bin/regard predict examples/digit-2.png --maps .cache/pictures/image --size 384 > /dev/null
	$(DEV)/bin/regard predict examples/blink.mp4 --maps .cache/pictures/video --size 384 > /dev/null
	mkdir -p docs/images
	for map in text/rollout.svg text/cls.svg image/cam.png image/spatial.png image/channel.png \
		video/rollout.webp video/importance.png video/message.png; do \
		cp .cache/pictures/$$map docs/images/$$(echo $$map | tr / -); done

screenshots: $(DEV)/.installed ## Take the pictures of the page for the README again (needs chromium)
	$(DEV)/bin/python -m tests.browser.screenshots docs/images

constraints: $(FRESH)/.installed ## Write constraints.txt anew, with the newest versions that fit
	tools='$(FRESH)/bin/python -m pip freeze --exclude-editable'; \
	{ sed '/^[^#]/d' constraints.txt; \
	  $$tools | sed -e 's/+.*//' -e '/^nvidia-/d' -e '/^cuda-/d' -e '/^triton/d'; \
	  $$tools | sed -n 's/^onnxruntime==/onnxruntime-gpu==/p'; } > $(FRESH)/constraints.txt
	mv $(FRESH)/constraints.txt constraints.txt

clean: ## Remove environments, caches and what was built; downloads stay in .cache
	rm -rf $(SERVE) $(DEV) $(GPU) $(FRESH) *.egg-info clients/python/*.egg-info build dist .pytest_cache \
		.mypy_cache .ruff_cache .import_linter_cache
	find service models export clients tests -name __pycache__ -prune -exec rm -rf {} +

$(SERVE)/.installed: INSTALL = -c constraints.txt -e '.[cpu]'
$(DEV)/.installed: INSTALL = -c constraints.txt -e '.[cpu,dev]' -e clients/python
$(GPU)/.installed: INSTALL = -c constraints.txt -e '.[gpu,dev]' -e clients/python
$(DEV)/.installed $(GPU)/.installed: clients/python/pyproject.toml
$(SERVE)/.installed $(DEV)/.installed $(GPU)/.installed: pyproject.toml constraints.txt
	test -x $(@D)/bin/pip || $(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet $(INSTALL)
	touch $@

# Without constraints, and never updated: what pip would choose today.
$(FRESH)/.installed: FORCE
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install --quiet -e '.[cpu,dev]'
	touch $@

FORCE:
