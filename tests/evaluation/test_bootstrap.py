"""The paired bootstrap: how often its interval holds the truth, and known answers."""

import itertools
import math

import numpy as np
import pytest

from jclip_connectors.evaluation import bootstrap
from jclip_connectors.evaluation.bootstrap import PairedValues, holm, interval, p_value, resampled_differences, spearman
from tests.late import late

scipy_stats = late("scipy.stats")

PAIRS = 400
SIGNIFICANT = 0.05


def simulated(seed, *, queries_of_a_picture, shift):
    """Two systems that answer the same questions right or wrong; what a picture is like concerns both."""
    rng = np.random.default_rng(seed)
    pictures, (fewest, most) = 200, queries_of_a_picture
    picture = np.arange(pictures).repeat(rng.integers(fewest, most, size=pictures, endpoint=True))
    names = [f"p{at}" for at in picture]
    pairs = []
    for _ in range(PAIRS):
        hard = rng.normal(size=pictures)[picture] + 0.5 * rng.normal(size=len(picture))
        suits = 0.8 * rng.normal(size=pictures)[picture]  # how well the second system likes a picture
        first = hard + rng.normal(size=len(picture)) > 0
        second = hard + shift + suits + rng.normal(size=len(picture)) > 0
        pairs.append(PairedValues(clusters=names, first=first.astype(float), second=second.astype(float)))
    return pairs


def true_difference(shift):
    """Of the simulated systems: the second's right answers are more often by so much."""
    spread = math.sqrt(1 + 0.5**2 + 0.8**2 + 1)
    return float(scipy_stats().norm.cdf(shift / spread) - 0.5)


@pytest.mark.parametrize("queries_of_a_picture", [(1, 1), (5, 5), (1, 9)], ids=["one", "five", "one to nine"])
def test_the_interval_holds_the_truth_in_95_of_100_cases(queries_of_a_picture):
    pairs = simulated(1, queries_of_a_picture=queries_of_a_picture, shift=0.2)
    ends = [interval(differences) for differences in resampled_differences(pairs, key="simulated")]
    held = np.mean([low <= true_difference(0.2) <= high for low, high in ends])
    assert 0.93 <= held <= 0.97


def test_without_clusters_the_interval_of_captions_would_be_too_narrow():
    pairs = simulated(1, queries_of_a_picture=(5, 5), shift=0.2)
    apart = [
        PairedValues(clusters=[f"q{at}" for at in range(1000)], first=pair.first, second=pair.second) for pair in pairs
    ]
    ends = [interval(differences) for differences in resampled_differences(apart, key="simulated")]
    held = np.mean([low <= true_difference(0.2) <= high for low, high in ends])
    assert held < 0.9


def test_equal_systems_are_called_different_in_5_of_100_cases():
    pairs = simulated(2, queries_of_a_picture=(1, 5), shift=0.0)
    found = [p_value(differences) for differences in resampled_differences(pairs, key="simulated")]
    assert 0.02 <= np.mean(np.array(found) <= SIGNIFICANT) <= 0.08


@pytest.mark.parametrize("golds", [None, [0.1, 0.9, 0.4, 0.5]])
def test_equal_values_have_p_1_and_no_difference(golds):
    values = [0.0, 1.0, 0.5, 0.25]
    pair = PairedValues(clusters=list("abcd"), first=values, second=values, golds=golds)
    (differences,) = resampled_differences([pair], key="equal")
    assert not differences.any()
    assert p_value(differences) == 1.0
    assert interval(differences) == (0.0, 0.0)


def test_a_difference_in_every_query_is_shown():
    pair = PairedValues(clusters=[f"q{at}" for at in range(50)], first=[0.0] * 50, second=[1.0] * 50)
    (differences,) = resampled_differences([pair], key="sure")
    assert p_value(differences) == 0.0
    assert interval(differences) == (1.0, 1.0)


def all_draws(size):
    """How often each of `size` things is drawn, for all of the equally likely draws."""
    return [np.bincount(draw, minlength=size) for draw in itertools.product(range(size), repeat=size)]


def test_draws_are_as_likely_as_they_should_be():
    first, second = np.array([0.0, 1.0, 0.25]), np.array([1.0, 0.5, 0.25])
    pair = PairedValues(clusters=list("abc"), first=first, second=second)
    (differences,) = resampled_differences([pair], key="small")
    exact = [counts @ (second - first) / 3 for counts in all_draws(3)]
    for value in set(np.round(exact, 9)):
        expected = np.mean(np.isclose(exact, value))
        assert np.isclose(differences, value).mean() == pytest.approx(expected, abs=0.02)


def test_clusters_of_one_kind_are_drawn_as_often_as_if_each_had_a_name(monkeypatch):
    values = np.array([1.0, 0.0] * 100)
    pair = PairedValues(clusters=[f"q{at}" for at in range(200)], first=values, second=1 - values[::-1] * (values > 0))
    (by_kind,) = resampled_differences([pair], key="kinds")
    monkeypatch.setattr(bootstrap, "_CLUSTERS_PER_KIND", 1000)
    (by_name,) = resampled_differences([pair], key="kinds")
    assert by_kind.mean() == pytest.approx(by_name.mean(), abs=0.002)
    assert by_kind.std() == pytest.approx(by_name.std(), rel=0.05)


def test_captions_of_one_picture_are_drawn_together():
    # Within each picture one caption wins and one loses: every draw of pictures is a draw of both.
    pair = PairedValues(clusters=["a", "a", "b", "b"], first=[0.0, 1.0, 0.0, 1.0], second=[1.0, 0.0, 1.0, 0.0])
    (differences,) = resampled_differences([pair], key="pictures")
    assert not differences.any()


def test_languages_with_the_same_pictures_are_drawn_together():
    names = [f"p{at}" for at in range(100)]
    rng = np.random.default_rng(3)
    gain = rng.normal(size=100)
    zeros = np.zeros(100)
    same = [PairedValues(clusters=names, first=zeros, second=sign * gain) for sign in (1, -1)]
    assert np.abs(resampled_differences(same, key="together").sum(axis=0)).max() < 1e-9
    other = [same[0], PairedValues(clusters=[name.upper() for name in names], first=zeros, second=-gain)]
    assert np.abs(resampled_differences(other, key="apart").sum(axis=0)).max() > 0.1


def test_a_language_that_lacks_a_picture_is_drawn_with_the_others():
    first = PairedValues(clusters=["a", "b", "c"], first=[0.0, 0.0, 0.0], second=[1.0, 0.0, 0.0])
    second = PairedValues(clusters=["c"], first=[0.0], second=[0.5])
    differences = resampled_differences([first, second], key="uneven")
    assert set(np.round(differences[0], 6)) <= set(np.round([0, 1 / 3, 2 / 3, 1], 6))
    assert (differences[1] == 0.5).all()


def test_equal_seeds_give_equal_numbers():
    (pair, *_) = simulated(4, queries_of_a_picture=(1, 3), shift=0.1)
    once, again, other = (resampled_differences([pair], key="x", seed=seed) for seed in (0, 0, 1))
    assert np.array_equal(once, again)
    assert not np.array_equal(once, other)


def test_blocks_of_draws_are_the_same_draws(monkeypatch):
    rng = np.random.default_rng(5)
    names = [f"q{at}" for at in range(30)]
    pairs = [PairedValues(clusters=names, first=rng.random(30), second=rng.random(30), golds=rng.random(30))]
    pairs.append(PairedValues(clusters=names, first=rng.random(30), second=rng.random(30)))
    whole = resampled_differences(pairs, key="x", resamples=100)
    monkeypatch.setattr(bootstrap, "_BLOCK_NUMBERS", 95)
    assert np.allclose(resampled_differences(pairs, key="x", resamples=100), whole, atol=1e-9)


@pytest.mark.parametrize("levels", [4, 1000])
def test_correlations_of_a_draw_are_scipys(levels):
    rng = np.random.default_rng(6)
    values, golds = rng.integers(0, levels, 40) / levels, rng.integers(0, 6, 40) / 5
    counts = rng.multinomial(40, [1 / 40] * 40, size=20)
    found = spearman(counts.astype(float), values, golds)
    expected = [scipy_stats().spearmanr(values.repeat(count), golds.repeat(count)).statistic for count in counts]
    assert np.allclose(found, expected, atol=1e-12)


def test_the_correlation_with_a_constant_is_0():
    assert spearman(np.ones((1, 3)), [0.5, 0.5, 0.5], [0.1, 0.2, 0.3])[0] == 0


def test_correlations_are_computed_again_for_every_draw():
    rng = np.random.default_rng(7)
    golds = rng.random(60)
    first, second = golds + 0.5 * rng.normal(size=60), golds + 0.2 * rng.normal(size=60)
    pair = PairedValues(clusters=[f"q{at}" for at in range(60)], first=first, second=second, golds=golds)
    (differences,) = resampled_differences([pair], key="pairs", resamples=2000)
    a, b = pair.figures
    assert a == pytest.approx(scipy_stats().spearmanr(first, golds).statistic)
    assert interval(differences)[0] < b - a < interval(differences)[1]
    assert differences.std() > 0.01


@pytest.mark.parametrize(
    ("p_values", "corrected"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),  # the textbook's example
        ([0.5], [0.5]),
        ([0.6, 0.7], [1.0, 1.0]),
        ([0.0, 0.0, 0.2], [0.0, 0.0, 0.2]),
        ([], []),
    ],
)
def test_holms_correction(p_values, corrected):
    assert holm(p_values) == pytest.approx(corrected)
