"""Under TRITON_INTERPRET=1: what the benchmark times on a GPU, apart from the time. Prints the parts that were right."""

import torch

from tiller.bench.check import check, expected_of
from tiller.bench.contenders import Kernels, TopKGather
from tiller.bench.counts import Shape, stages_of
from tiller.bench.operations import OPERATIONS
from tiller.bench.stages import stages
from tiller.bench.workload import Dictionaries, Work

TOKENS, D_SAE, D_MODEL, K = 7, 640, 48, 8


def main() -> None:
    data = Dictionaries(D_SAE, D_MODEL, K, torch.bfloat16, torch.device("cpu"))
    stream = data.stream(TOKENS)
    for operation in OPERATIONS:
        shape = Shape(TOKENS, D_SAE, D_MODEL, K, 2)
        work = Work(operation, shape, data.own[operation.activation], data.full[operation.activation], *stream, 16)
        kernels, expected = Kernels(work, copies=2), expected_of(work)
        check(kernels, "tiller", expected)
        whole, parts = kernels.x, stages(kernels, list(stages_of(operation, shape)))
        for stage in parts.values():
            for name in ("values", "named", "moments"):
                assert getattr(kernels.space.saes["default"], name).isfinite().all()
            stage.prepare()
            stage.run()
        assert torch.equal(kernels.x, whole), "the stages one after the other are the op"
        assert operation.idle or not torch.equal(whole, work.x), "the op changes something"
        print(operation.name, *(f"{name}:{len(stage.calls)}" for name, stage in parts.items()), sep=", ")
        if operation.name == "TopK replacement":
            check(TopKGather(work, kernels), "topk+gather", expected)
            check(kernels, "tiller", expected)
            active = (stream[0] + stream[1]).float() @ data.full["topk"].W_enc.T + data.full["topk"].b_enc
            share = (active > data.full["threshold"].threshold).sum(1).float().mean()
            print(f"{share:.1f} of {K} active")


if __name__ == "__main__":
    main()
