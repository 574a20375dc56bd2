# make run    sets everything up and shows pods of three nodes talking
# make test   sets everything up and runs the tests
.DEFAULT_GOAL := help
.PHONY: help setup setup-dev run test lint bench soak fuzz proto docs clean
PYTHON := .venv/bin/python
PYTEST := $(PYTHON) -m pytest

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

setup: ## .venv with what tulle needs to run
	@packaging/setup/setup.sh run

setup-dev: ## .venv with what the tests and linters need too, and an etcd and a promtool that are not installed
	@packaging/setup/setup.sh dev
	@packaging/etcd/fetch.sh
	@packaging/etcd/witness.sh
	@packaging/prometheus/fetch.sh

run: setup ## three nodes with two pods each, talking
	@.venv/bin/tulle lab demo

test: setup-dev ## all tests that fit into a quarter of an hour
	timeout --signal=INT --kill-after=60 2700 $(PYTEST) -n 3 --dist loadfile -m "not soak" $(ARGS)

lint: setup-dev ## ruff, mypy --strict, the layer rules
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports

bench: setup-dev ## benchmarks: ratios taken in one run
	$(PYTHON) -m benchmarks $(ARGS)

soak: setup-dev ## the long tests
	$(PYTEST) -m soak --timeout 7200 -o faulthandler_timeout=7300 $(ARGS)

fuzz: setup-dev ## every parser that reads strangers' bytes, FUZZ_S seconds each (default 60)
	$(PYTHON) tests/fuzz/run.py --seconds $(or $(FUZZ_S),60) $(ARGS)

proto: setup-dev ## regenerate the etcd messages
	$(PYTHON) -m grpc_tools.protoc -Iplugins --python_out=plugins --pyi_out=plugins tulle_etcd/messages.proto

docs: setup-dev ## what is made from the code: docs/api.md, openapi.json and metrics.md
	$(PYTHON) -m tulle.node.methods docs
	$(PYTHON) -m tulle.node.metrics docs/metrics.md

clean: ## everything that make made
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .benchmarks dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
