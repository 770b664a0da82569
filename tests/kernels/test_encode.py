"""K1 alone: activations over the dictionary, and the group maxima by which the selection skips."""

import pytest
import torch

from tiller.kernels.encode import Tile, encode_tile
from tiller.kernels.reference import activate, encode_pre, input_affine
from tiller.kernels.steerer import Steerer
from tiller.kernels.workspace import Workspace, group_size, num_groups

from ..formulas import ACTIVATIONS, INPUT_NORMS, Program, make_sae  # noqa: TID252
from .steered import DEVICE, exact_sae, exact_tokens, poison_workspace, table_of

SMALL, LARGE = Tile(16, 32, 32, 4, 2), Tile(32, 64, 32, 4, 2)


def encode(x, sae, tile, queue=None, start=0, scratch=None):
    """f [n, F] and group maxima of tokens x [n, d], listed in the order `queue`."""
    num, d_model = x.shape
    sae = sae.to(DEVICE, x.dtype if DEVICE.type == "cuda" else None)
    space = Workspace({"sae": sae}, 1, d_model, num, 1, 0, x.dtype, DEVICE, *([scratch] if scratch else []))
    poison_workspace(space)
    encoder = Steerer({"sae": sae}, table_of([Program([[]])], 1, d_model), space).encoders[0]
    order = torch.arange(num) if queue is None else queue
    own = space.saes["sae"]
    own.queue[0] = len(order)
    own.queue[1 : 1 + len(order)] = order
    space.x_queue[: len(order)] = x[order].to(DEVICE)
    affine = input_affine(x.float(), sae)
    if affine is not None:
        own.moments[:, 1:] = torch.cat(affine, dim=1).to(DEVICE)
    encoder.encode(start, len(order) - start, tile)
    groups = num_groups(sae.d_sae, space.k["sae"])
    rows = encoder.chunk
    f = space.f[: rows * sae.d_sae].view(rows, -1).cpu()
    return f, space.group_max[: rows * groups].view(rows, -1).cpu(), group_size(sae.d_sae, space.k["sae"])


def expected(x, sae):
    pre = encode_pre(x.float(), sae)
    return pre.relu() if sae.activation == "topk" else activate(pre, sae)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_integer_sums_are_exact(activation, dtype):
    sae, x = exact_sae(activation, 600, 72), exact_tokens(37, 72, dtype)
    f, group_max, size = encode(x, sae, SMALL)
    assert torch.equal(f, expected(x, sae)) and (f > 0).any()
    padded = torch.nn.functional.pad(f, (0, -600 % size))
    assert torch.equal(group_max, padded.view(37, -1, size).amax(-1))


@pytest.mark.parametrize("input_norm", INPUT_NORMS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_input_normalisation_happens_in_the_epilogue(activation, input_norm):
    sae = make_sae(activation, input_norm, d_model=72, d_sae=600)
    x = 5.0 + torch.randn(20, 72, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(encode(x, sae, SMALL)[0], expected(x, sae), atol=3e-4, rtol=3e-5)


def test_zero_is_never_negative():
    """-0.0 has the largest bits of all; TopK reads bits."""
    sae = exact_sae("topk", 64, 16)
    sae.b_enc.fill_(-0.0)
    f, group_max, _ = encode(torch.zeros(3, 16), sae, SMALL)
    assert not f.view(torch.int32).any() and not group_max.view(torch.int32).any()


def test_only_listed_tokens_are_encoded():
    sae, x = exact_sae("relu", 600, 40), exact_tokens(20, 40)
    queue = torch.tensor([7, 3, 19])
    f, _, _ = encode(x, sae, SMALL, queue)
    assert torch.equal(f[:3], expected(x[queue], sae))
    assert f[3:].isnan().all()


def test_a_chunk_starts_where_the_last_one_ended():
    sae, x = exact_sae("relu", 600, 40), exact_tokens(20, 40)
    f, _, _ = encode(x, sae, SMALL, start=5, scratch=4 * 600 * 8)
    assert torch.equal(f, expected(x[5:13], sae))


@pytest.mark.parametrize("num", [1, 33])
def test_the_tile_does_not_show(num):
    """Tiles differ in width only; each activation is summed in one order."""
    sae, x = make_sae("relu", d_model=136, d_sae=600), torch.randn(num, 136)
    if DEVICE.type == "cuda":
        sae, x = make_sae("relu", d_model=1000, d_sae=5000), torch.randn(num, 1000).bfloat16()
        tiles = [encode_tile(1, 131072), encode_tile(200, 131072), encode_tile(1, 5000), encode_tile(200, 5000)]
    else:
        tiles = [SMALL, LARGE]
    first, *others = [encode(x, sae, tile)[0] for tile in tiles]
    assert all(torch.equal(first, other) for other in others)


def test_tiles_depend_on_shapes_alone_and_cover_whole_groups():
    for num in (1, 64, 65, 8192):
        for d_sae in (1, 64, 576, 5000, 16384, 65536, 131072, 1 << 20):
            tile = encode_tile(num, d_sae)
            assert tile == encode_tile(num, d_sae)
            assert tile.depth == encode_tile(1, 131072).depth
            for k in (1, 33, 64, 4096):
                assert tile.features % group_size(d_sae, k) == 0


@pytest.mark.parametrize("agree", [True, False])
def test_where_tiles_sum_differently_all_batches_use_the_first(monkeypatch, agree):
    sae = make_sae("topk", d_model=40, d_sae=200).to(DEVICE)
    space = Workspace({"sae": sae}, 1, 40, 80, 1, 0, torch.float32, DEVICE)
    encoder = Steerer({"sae": sae}, table_of([Program([[]])], 1, 40), space).encoders[0]
    encode = encoder.encode

    def other_sums(start, num, tile):
        encode(start, num, tile)
        space.f[0] += float(tile != encode_tile(1, 200))

    if not agree:
        monkeypatch.setattr(encoder, "encode", other_sums)
    encoder.settle_tile()
    assert encoder.tile(80) == encode_tile(80 if agree else 1, 200)
    assert encode_tile(80, 200) != encode_tile(1, 200)
    assert not space.saes["sae"].queue[0]
