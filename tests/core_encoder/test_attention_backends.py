"""Which attention kernel is chosen, and that each is called as its library wants it.

The CUDA kernels cannot run on the machines that run these tests: stand-ins with the libraries' signatures and meaning
take their place, and the result must be that of SDPA.
"""

import inspect
import sys
import types

import pytest
import torch
import torch.nn.functional as F

from core_encoder import ConfigError
from core_encoder.alibi import alibi_slopes
from core_encoder.torch.attention import AlibiBias, Packing, choose_backend, packed_attention
from tests.late import late

varlen = late("torch.nn.attention.varlen")

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
LENGTHS = [5, 3, 3, 1]


@pytest.fixture
def modern_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (9, 0))


@pytest.fixture
def xformers(monkeypatch):
    package, ops, fmha = (types.ModuleType(name) for name in ("xformers", "xformers.ops", "xformers.ops.fmha"))
    package.__spec__ = types.SimpleNamespace(name="xformers")  # type: ignore[assignment]  # find_spec looks at it

    class BlockDiagonalMask:
        def __init__(self, lengths):
            self.lengths = lengths

        @classmethod
        def from_seqlens(cls, q_seqlen, kv_seqlen=None):
            assert all(type(length) is int for length in q_seqlen)
            assert kv_seqlen is None
            return cls(q_seqlen)

    def memory_efficient_attention(query, key, value, attn_bias=None):
        assert query.shape[0] == 1, "a block diagonal mask needs a batch of one"
        return by_text(query[0], key[0], value[0], attn_bias.lengths)[None]

    fmha.attn_bias = types.SimpleNamespace(BlockDiagonalMask=BlockDiagonalMask)  # type: ignore[attr-defined]
    fmha.memory_efficient_attention = memory_efficient_attention  # type: ignore[attr-defined]
    ops.fmha = fmha  # type: ignore[attr-defined]
    for module in (package, ops, fmha):
        monkeypatch.setitem(sys.modules, module.__name__, module)


def by_text(q, k, v, lengths):
    """(N, H, d) of packed texts -> (N, H, d), one text after the other."""
    parts = zip(q.split(lengths), k.split(lengths), v.split(lengths), strict=True)
    return torch.cat(
        [F.scaled_dot_product_attention(*(x.transpose(0, 1) for x in part)).transpose(0, 1) for part in parts]
    )


@pytest.mark.usefixtures("modern_gpu")
def test_a_modern_gpu_in_16_bits_gets_varlen():
    assert choose_backend("auto", CUDA, torch.bfloat16, biased=False, head_width=64) == "varlen"


@pytest.mark.usefixtures("modern_gpu")
@pytest.mark.parametrize(
    ("device", "dtype", "biased", "width", "reason"),
    [
        (CPU, torch.bfloat16, False, 64, "needs CUDA"),
        (CUDA, torch.float32, False, 64, "needs 16-bit floats"),
        (CUDA, torch.bfloat16, True, 64, "ALiBi"),
        (CUDA, torch.bfloat16, False, 12, "this model's have 12"),
        (CUDA, torch.bfloat16, False, 264, "this model's have 264"),
    ],
)
def test_where_varlen_cannot_compute_it_sdpa_does_and_says_why_if_asked(device, dtype, biased, width, reason):
    assert choose_backend("auto", device, dtype, biased=biased, head_width=width) == "sdpa"
    assert choose_backend("sdpa", device, dtype, biased=biased, head_width=width) == "sdpa"
    with pytest.raises(ConfigError, match=f"`attention` is 'varlen', but .*{reason}.*; leave it at 'auto'"):
        choose_backend("varlen", device, dtype, biased=biased, head_width=width)


def test_an_old_gpu_gets_xformers_where_it_is_installed_and_sdpa_where_not(monkeypatch, request):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (7, 5))
    assert choose_backend("auto", CUDA, torch.bfloat16, biased=False, head_width=64) == "sdpa"
    with pytest.raises(ConfigError, match="xformers is not installed"):
        choose_backend("xformers", CUDA, torch.bfloat16, biased=False, head_width=64)
    request.getfixturevalue("xformers")
    assert choose_backend("auto", CUDA, torch.bfloat16, biased=False, head_width=64) == "xformers"
    assert choose_backend("auto", CUDA, torch.bfloat16, biased=True, head_width=64) == "sdpa"


@pytest.mark.usefixtures("xformers")
def test_varlen_and_xformers_are_called_with_what_they_want(monkeypatch):
    def varlen_attn(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k):
        assert cu_seq_q.dtype == cu_seq_k.dtype == torch.int32
        assert max_q == max_k == int(cu_seq_q.diff().max())
        return by_text(query, key, value, cu_seq_q.diff().tolist())

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", varlen_attn)
    q, k, v = (torch.randn(sum(LENGTHS), 4, 8) for _ in range(3))
    packing = Packing.of(LENGTHS, None, CPU)
    expected = packed_attention(q, k, v, packing, "sdpa", None)
    assert expected.shape == (sum(LENGTHS), 32)
    for backend in ("varlen", "xformers"):
        assert (packed_attention(q, k, v, packing, backend, None) - expected).abs().max() < 1e-6


def test_the_installed_varlen_has_the_parameters_that_we_give_it():
    names = list(inspect.signature(varlen().varlen_attn).parameters)
    assert names[:7] == ["query", "key", "value", "cu_seq_q", "cu_seq_k", "max_q", "max_k"]


def test_no_text_sees_another():
    q, k, v = (torch.randn(sum(LENGTHS), 4, 8) for _ in range(3))
    packing = Packing.of(LENGTHS, None, CPU)
    before = packed_attention(q, k, v, packing, "sdpa", None)
    v[5:8] += 100.0  # the second text
    changed = (packed_attention(q, k, v, packing, "sdpa", None) - before).abs().amax(dim=1) > 1e-3
    assert changed.tolist() == [False] * 5 + [True] * 3 + [False] * 4


def test_slopes_of_8_and_12_heads_are_the_published_ones():
    eight = [2.0**-k for k in range(1, 9)]
    assert alibi_slopes(8) == eight
    assert alibi_slopes(12) == pytest.approx([*eight, *(2.0 ** (-0.5 - k) for k in range(4))])


def test_a_gap_that_a_pad_token_left_lengthens_the_distances_across_it():
    packing = Packing.of([3], torch.tensor([0, 1, 3]), CPU)
    bias = AlibiBias(packing, 1, torch.float32).of(slice(0, 3), 1, slice(0, 3))
    assert (bias[0, 0] / -alibi_slopes(1)[0]).tolist() == [[0, 1, 3], [1, 0, 2], [3, 2, 0]]
