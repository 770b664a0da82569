# Each target makes .venv first, so that it works on a fresh machine.
.PHONY: demo test lint serve bench demo-model clean
.DELETE_ON_ERROR:

ready := .venv/ready
tiller := .venv/bin/tiller

demo: $(ready)  ## steer the embedded model inside vLLM and show that it worked
	$(tiller) demo --out runs/demo

test: $(ready) lint  ## all tests, on both model runners
	.ci/test

lint: $(ready)
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.ci/types

serve: $(ready)  ## vLLM's server with the embedded model, steered, on port 8000
	$(tiller) serve --config demo --port 8000

bench: $(ready)  ## what steering costs on this machine: bench/results/
	$(tiller) bench throughput --fresh --rounds 2
	$(tiller) bench serve --rounds 5 --scale 0.34
	$(tiller) bench kernels --fresh
	$(tiller) bench report

demo-model: $(ready)  ## make the embedded model and SAE again, from nothing (about an hour on 2 cores)
	OMP_WAIT_POLICY=PASSIVE .venv/bin/python -m tiller.evaluation.demo_model configs/demo

$(ready): pyproject.toml .ci/setup
	.ci/setup

clean:
	rm -rf .venv runs build *.egg-info
