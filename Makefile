# make provision   take this host to a verified, routed local AI stack
# make test        run every test
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help provision status down worker test lint bench soak clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 22

.venv/.ready: uv.lock pyproject.toml deployments/bootstrap.sh
	@bash deployments/bootstrap.sh

provision: .venv/.ready ## set this host up, and check it
	@.venv/bin/pmoves provision $(PROFILE)

status: .venv/.ready ## what runs
	@.venv/bin/pmoves status

down: .venv/.ready ## stop everything that was started
	@.venv/bin/pmoves down

worker: .venv/.ready ## register the Prefect deployments and start a worker here
	@.venv/bin/pmoves worker

test: .venv/.ready ## fast tests and real ones
	@.venv/bin/pytest

lint: .venv/.ready ## format, rules, types
	@.venv/bin/ruff format --check . && .venv/bin/ruff check . && .venv/bin/mypy

bench: .venv/.ready ## measure; prints tables, asserts nothing
	@.venv/bin/python -m tests.benchmarks

soak: .venv/.ready ## pull under random faults for ten minutes; a failure prints its seed
	@.venv/bin/python -m tests.soak

clean: ## remove what make created here (state and weights stay)
	@rm -rf .venv .tools .pytest_cache .mypy_cache .ruff_cache
