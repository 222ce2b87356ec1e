import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core_encoder.errors import EmbeddingDimError
from core_encoder.matryoshka import check_dim, encode_binary, encode_int8, encode_ubinary, normalize, truncate

SEEDS = st.integers(0, 2**32 - 1)


def rows_of_any_scale(seed, dim):
    rng = np.random.default_rng(seed)
    scales = 10.0 ** rng.uniform(-30, 30, (5, 1))
    rows = rng.standard_normal((5, dim)) * scales * (rng.random((5, dim)) < 0.8)  # some zeros
    rows[0] = 0
    return rows.astype(np.float32)


def rows_within_one(seed, dim):
    rng = np.random.default_rng(seed)
    return rng.choice([0.0, -0.0, 1.0, -1.0, *rng.uniform(-1, 1, 20)], (4, dim)).astype(np.float32)


def unit_rows(count, dim, seed=0):
    return normalize(np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32))


@pytest.mark.parametrize("dim", [1, 2, 63, 64])
def test_any_number_of_dimensions_up_to_all_of_them_is_allowed(dim):
    check_dim(dim, 64)
    assert truncate(np.ones((3, 64), np.float32), dim).shape == (3, dim)


@pytest.mark.parametrize("dim", [0, -1, 65, 1.0, "8", None, True])
def test_other_dimensions_are_refused_with_what_is_allowed(dim):
    with pytest.raises(EmbeddingDimError, match="64"):
        check_dim(dim, 64)
    with pytest.raises(EmbeddingDimError, match="64"):
        truncate(np.ones((3, 64), np.float32), dim)


@settings(deadline=None)
@given(SEEDS, st.integers(1, 24))
def test_a_truncated_row_is_the_prefix_and_owns_its_memory(seed, dim):
    rows = rows_of_any_scale(seed, 24)
    cut = truncate(rows, dim)
    np.testing.assert_array_equal(cut, rows[:, :dim])
    assert not np.shares_memory(cut, rows)


@settings(deadline=None)
@given(SEEDS, st.integers(1, 24))
def test_a_normalised_prefix_is_parallel_and_of_unit_length_or_zero(seed, dim):
    cut = truncate(rows_of_any_scale(seed, 24), dim)
    unit = normalize(cut)
    assert unit.dtype == np.float32
    norms = np.linalg.norm(cut.astype(np.float64), axis=1)
    np.testing.assert_allclose(np.linalg.norm(unit.astype(np.float64), axis=1), norms > 0, atol=1e-6)
    np.testing.assert_allclose(unit * norms[:, None], cut, rtol=1e-5, atol=1e-40)


def test_truncating_before_normalising_is_not_the_same_as_after():
    rows = np.random.default_rng(0).standard_normal((4, 16)).astype(np.float32)
    assert not np.allclose(normalize(truncate(rows, 8)), truncate(normalize(rows), 8))


def test_a_row_of_zeros_stays_zero_beside_others():
    rows = np.zeros((2, 4), np.float32)
    rows[1] = 2
    np.testing.assert_array_equal(normalize(rows), [[0, 0, 0, 0], [0.5, 0.5, 0.5, 0.5]])
    assert rows[1, 0] == 2


@pytest.mark.parametrize("value", [1e-45, 1e-30, 1e30, 3e38])
def test_the_smallest_and_largest_values_have_a_direction(value):
    np.testing.assert_allclose(normalize(np.full((1, 4), value, np.float32)), 0.5, rtol=1e-6)


def test_no_rows_stay_no_rows():
    empty = np.empty((0, 16), np.float32)
    assert normalize(empty).shape == (0, 16)
    assert truncate(empty, 8).shape == (0, 8)
    assert encode_int8(empty).shape == (0, 16)
    assert encode_binary(empty).shape == encode_ubinary(empty).shape == (0, 2)


# Encodings


@settings(deadline=None)
@given(SEEDS, st.integers(1, 5))
def test_int8_comes_back_within_half_a_step(seed, num_bytes):
    rows = rows_within_one(seed, 8 * num_bytes)
    codes = encode_int8(rows)
    assert codes.dtype == np.int8
    assert codes.min() >= -127
    np.testing.assert_allclose(codes / 127, rows, atol=0.5 / 127 + 1e-6)
    np.testing.assert_array_equal(encode_int8(-rows), -codes)


def test_int8_clips_what_no_unit_row_has():
    np.testing.assert_array_equal(
        encode_int8(np.array([[1.0, -1.0, 5.0, -1e30]], np.float32)), [[127, -127, 127, -127]]
    )


def test_int8_keeps_the_order_of_inner_products():
    rows = unit_rows(200, 64)
    codes = encode_int8(rows).astype(np.int32)
    exact, approximate = rows @ rows[0], codes @ codes[0] / 127**2
    assert np.abs(exact - approximate).max() < 0.03
    assert approximate.argmax() == 0


def test_binary_has_the_first_value_in_the_highest_bit():
    rows = -np.ones((1, 16), np.float32)
    rows[0, [0, 15]] = 1
    np.testing.assert_array_equal(encode_ubinary(rows), [[0b1000_0000, 0b0000_0001]])
    np.testing.assert_array_equal(encode_binary(rows), [[0, -127]])


def test_zero_and_negative_zero_are_not_positive():
    np.testing.assert_array_equal(
        encode_ubinary(np.array([[0.0, -0.0, 1e-45, -1, 0, 0, 0, 0]], np.float32)), [[0b0010_0000]]
    )


@settings(deadline=None)
@given(SEEDS, st.integers(1, 5))
def test_bits_come_back_from_both_binary_encodings(seed, num_bytes):
    rows = rows_within_one(seed, 8 * num_bytes)
    unsigned, signed = encode_ubinary(rows), encode_binary(rows)
    assert unsigned.dtype == np.uint8
    assert signed.dtype == np.int8
    np.testing.assert_array_equal(np.unpackbits(unsigned, axis=1), rows > 0)
    np.testing.assert_array_equal(signed.astype(np.int16) + 128, unsigned)


@pytest.mark.parametrize("encode", [encode_binary, encode_ubinary])
@pytest.mark.parametrize("dim", [1, 7, 9, 100])
def test_dimensions_that_do_not_fill_bytes_are_refused(encode, dim):
    with pytest.raises(EmbeddingDimError, match=str(dim)):
        encode(np.ones((2, dim), np.float32))
