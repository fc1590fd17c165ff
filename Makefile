# Everything that sets the project up, runs it and checks it.
#   make demo     fresh environment, the main job on the default model, prints where its page is
#   make test     fresh environment, whole suite
#   make check    ruff, mypy, import contract and suite in the environment at hand
#   make lint     the first three of these
#   make sanitize tests of the compiled kernels under the address and undefined-behaviour sanitizers
#   make fuzz     damaged matrices and folders, many of them, each in a process that may die
#   make docs     the generated pages, docs/systems and docs/layouts.md
PYTHON ?= python3
OUT ?= frontier-out
PYTEST_ARGS ?= -n 2 --dist loadfile

# A fresh environment in $(VENV) with the project, its $(EXTRAS) and the versions last tested.
install = echo "Installing into $(VENV) ..." && $(PYTHON) -m venv --clear $(VENV) && \
	$(VENV)/bin/python -m pip install -qq --constraint constraints.txt ".[$(EXTRAS)]"

.PHONY: demo test check lint suite sanitize fuzz docs clean

demo: VENV = .venv-demo
demo: EXTRAS = lm,report
demo:
	@$(install)
	$(VENV)/bin/gossamer frontier smollm2 --out $(OUT)
	@echo "The page: $(abspath $(OUT))/frontier.html"

test: VENV = .venv-test
test: EXTRAS = lm,report,test
test:
	@$(install)
	$(MAKE) --no-print-directory suite PYTHON=$(VENV)/bin/python

check: lint suite

lint:
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy
	$(PYTHON) -c "from importlinter.cli import lint_imports_command as run; run()"

# One thread a process: the suite's matrices are small, and two processes share the cores.
suite:
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest $(PYTEST_ARGS)

# -S keeps an editable install, which would come first, out of the way.
sanitize:
	rm -rf build/sanitize
	$(PYTHON) -m pip install -qq --no-deps --no-build-isolation --target build/sanitize \
		-C cmake.define.GOSSAMER_SANITIZE=ON -C build-dir=build/sanitize-objects .
	LD_PRELOAD="$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libstdc++.so)" \
		ASAN_OPTIONS=detect_leaks=0 OMP_NUM_THREADS=2 \
		PYTHONPATH=build/sanitize:$$($(PYTHON) -c "import sysconfig; print(sysconfig.get_path('purelib'))") \
		$(PYTHON) -S -m pytest -q -n 0 -x tests/ops $(SANITIZE_ARGS)

fuzz:
	OMP_NUM_THREADS=1 $(PYTHON) -m tests.faults.fuzz $(FUZZ_ARGS)

docs:
	$(PYTHON) -m gossamer.cards.render docs/systems
	$(PYTHON) -m gossamer.ops.coverage docs/layouts.md

clean:
	rm -rf .venv-demo .venv-test build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
