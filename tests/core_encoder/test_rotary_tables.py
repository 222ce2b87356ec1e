"""The tables of rotary positions: made once for a device, never among the weights, and exact for the class token."""

import pytest
import torch

from core_encoder.config import read_config
from core_encoder.torch import text_tower
from core_encoder.torch.loading import load_model
from core_encoder.torch.tables import PositionTable
from core_encoder.torch.vision_tower import rope_table, rotate_interleaved
from tests.checkpoints import V2_TINY

CPU = torch.device("cpu")


@pytest.fixture
def model():
    return load_model(V2_TINY, read_config(V2_TINY), device=CPU, dtype=torch.float32)


def text(model, length):
    with torch.inference_mode():
        return model.text(torch.full((length,), 5), [length])


def pixels(model):
    side = model.config.vision.image_size
    return torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))


def test_a_table_is_made_once_and_again_only_for_more_positions_or_another_device():
    asked = []

    def make(rows):
        asked.append(rows)
        return torch.zeros(rows, 2)

    table = PositionTable(make)
    assert table.on(CPU, 4) is table.on(CPU, 4) is table.on(CPU, 3)
    assert len(table.on(CPU, 5)) == 5
    assert table.on(torch.device("meta"), 5).device.type == "meta"
    assert asked == [4, 5, 5]


def test_the_text_tower_computes_cosines_once_for_many_texts(model, monkeypatch):
    made, original = [], text_tower.rotary_table

    def count(positions, *others):
        made.append(len(positions))
        return original(positions, *others)

    monkeypatch.setattr(text_tower, "rotary_table", count)
    for length in (3, 200, 512, 3, 700):
        text(model, length)
    assert made == [512, 1024]


def test_a_position_has_the_same_angles_in_a_small_and_in_a_grown_table(model):
    small = text(model, 30)
    text(model, 3000)
    assert torch.equal(text(model, 30), small)


def test_tables_are_no_part_of_the_weights_and_are_made_outside_of_inference_mode(model):
    names = set(model.state_dict())
    text(model, 5)
    with torch.inference_mode():
        model.vision(pixels(model))
    assert set(model.state_dict()) == names
    assert not list(model.buffers())
    model.requires_grad_(requires_grad=True)
    (model.text(torch.full((5,), 5), [5]).sum() + model.vision(pixels(model)).sum()).backward()
    assert model.vision.class_token.grad is not None


def test_a_default_device_of_the_host_does_not_reach_a_table():
    table = PositionTable(torch.zeros)
    with torch.device("meta"):
        assert table.on(CPU, 4).device == CPU


def test_the_class_token_is_not_rotated_to_the_last_bit_and_patches_are_as_the_formula_says():
    table = rope_table(3, 16.0, 8)  # (10, 4, 2)
    x = torch.randn(2, 10, 2, 5, 8)
    cos, sin = table[1:, None, None].unbind(-1)
    even, odd = x[:, 1:, ..., 0::2], x[:, 1:, ..., 1::2]
    expected = torch.stack((even * cos - odd * sin, odd * cos + even * sin), dim=-1).flatten(-2)
    rotated = rotate_interleaved(x, table)
    assert torch.equal(rotated[:, 0], x[:, 0])
    assert (rotated[:, 1:] - expected).abs().max() < 1e-6
    rounded = rotate_interleaved(x.bfloat16(), table)
    assert rounded.dtype == torch.bfloat16
    assert torch.equal(rounded[:, 0], x.bfloat16()[:, 0])
    assert (rounded[:, 1:] - expected).abs().max() < 0.05
