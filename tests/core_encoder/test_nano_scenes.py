"""The scenes and captions of the bundled model: what is drawn is what is said."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nano_training.descriptions import pair_description, partial_description, relation_description

from core_encoder.nano.captions import (
    Description,
    Mention,
    full_description,
    holds,
    write,
)
from core_encoder.nano.scenes import (
    COLOURS,
    HELD_OUT_PAIRS,
    PLACES,
    SHAPES,
    SIDE_PX,
    SIZES,
    Scene,
    SceneObject,
    draw_canvas,
    draw_scene,
    random_scene,
)
from core_encoder.nano.wording import LANGUAGES

objects = st.builds(
    SceneObject,
    shape=st.sampled_from(SHAPES),
    colour=st.sampled_from(COLOURS),
    size=st.sampled_from(SIZES),
    place=st.sampled_from(PLACES),
)
seeds = st.integers(0, 2**32 - 1)

RED_CIRCLE = SceneObject(shape="circle", colour="red", size="small", place="top left")
BLUE_STAR = SceneObject(shape="star", colour="blue", size="large", place="right")


def test_a_seed_draws_the_same_pixels_every_time_and_another_seed_others():
    scene = Scene(objects=(RED_CIRCLE, BLUE_STAR))
    first, again, other = (draw_scene(scene, seed=seed).pixels for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@given(item=objects, seed=seeds)
def test_an_object_lies_at_its_place_and_touches_the_edge_with_a_tip_at_most(item, seed):
    owner = draw_scene(Scene(objects=(item,)), seed=seed).owner
    rows, columns = np.nonzero(owner == 0)
    assert len(rows) > 30
    edge = {0, SIDE_PX - 1}
    assert sum(row in edge or column in edge for row, column in zip(rows.tolist(), columns.tolist(), strict=True)) <= 12
    # The middle of its extent, not of its mass: a moon's mass is off its middle.
    middle_row, middle_column = (rows.min() + rows.max()) / 2, (columns.min() + columns.max()) / 2
    assert 3 * int(middle_row * 3 // SIDE_PX) + int(middle_column * 3 // SIDE_PX) == PLACES.index(item.place)


@given(item=objects, seed=seeds)
def test_a_large_object_covers_clearly_more_than_a_small_one(item, seed):
    small, large = (
        (draw_scene(Scene(objects=(replace(item, size=size),)), seed=seed).owner == 0).sum() for size in SIZES
    )
    assert large > 1.8 * small


@pytest.mark.parametrize("colour", COLOURS)
def test_an_object_has_its_colour_and_no_other(colour):
    nearest = set()
    means = {}
    for name in COLOURS:
        drawing = draw_scene(Scene(objects=(replace(BLUE_STAR, shape="square", colour=name),)), seed=3)
        means[name] = drawing.pixels[drawing.owner == 0].astype(float).mean(axis=0)
    for seed in range(5):
        drawing = draw_scene(Scene(objects=(replace(BLUE_STAR, shape="square", colour=colour),)), seed=seed)
        mean = drawing.pixels[drawing.owner == 0].astype(float).mean(axis=0)
        nearest.add(min(means, key=lambda name: float(np.abs(means[name] - mean).sum())))
    assert nearest == {colour}


def test_no_two_shapes_look_alike():
    masks = [
        draw_scene(Scene(objects=(replace(BLUE_STAR, shape=shape, place="centre"),)), seed=5).owner == 0
        for shape in SHAPES
    ]
    for index, mask in enumerate(masks):
        for other in masks[:index]:
            assert (mask & other).sum() / (mask | other).sum() < 0.9


def test_one_attribute_changes_and_every_pixel_elsewhere_stays():
    scenes = [Scene(objects=(RED_CIRCLE, replace(BLUE_STAR, shape=shape))) for shape in ("star", "heart")]
    first, second = (draw_scene(scene, seed=8).pixels for scene in scenes)
    different = (first != second).any(axis=2)
    assert different.any()
    assert not different[:, : SIDE_PX // 2].any()


@given(item=objects, seed=seeds)
def test_the_object_of_a_canvas_lies_inside_one_tile(item, seed):
    drawing = draw_canvas(item, seed=seed, tiles_per_side=3)
    assert drawing.pixels.shape == (3 * SIDE_PX, 3 * SIDE_PX, 3)
    rows, columns = np.nonzero(drawing.owner == 0)
    assert len({*zip(rows // SIDE_PX, columns // SIDE_PX, strict=True)}) == 1


def test_a_picture_can_be_drawn_larger_with_the_same_layout():
    scene = Scene(objects=(RED_CIRCLE, BLUE_STAR))
    small, large = draw_scene(scene, seed=4), draw_scene(scene, seed=4, side_px=4 * SIDE_PX)
    assert large.image.size == (4 * SIDE_PX, 4 * SIDE_PX)
    for index in range(2):
        assert (large.owner == index).mean() == pytest.approx((small.owner == index).mean(), rel=0.5)


def test_every_shape_and_every_colour_is_held_out_at_least_once():
    assert {shape for shape, _ in HELD_OUT_PAIRS} == set(SHAPES)
    assert {colour for _, colour in HELD_OUT_PAIRS} == set(COLOURS)
    assert len(HELD_OUT_PAIRS) == 10


@given(seed=seeds, count=st.integers(0, 3), data=st.data())
def test_a_random_scene_has_as_many_held_out_pairs_as_asked(seed, count, data):
    wanted = data.draw(st.integers(0, count))
    scene = random_scene(np.random.default_rng(seed), num_objects=count, num_held_out=wanted)
    assert len(scene.objects) == len({item.place for item in scene.objects}) == count
    assert sum(item.held_out for item in scene.objects) == wanted


@given(seed=seeds, count=st.integers(1, 3))
def test_every_description_is_true_of_the_scene_that_it_was_made_from(seed, count):
    rng = np.random.default_rng(seed)
    scene = random_scene(rng, num_objects=count)
    made = [full_description(scene), partial_description(scene, rng)]
    if count > 1:
        made += [pair_description(scene, rng), relation_description(scene, rng)]
    for description in made:
        assert description.mentions
        assert description.fits(scene)


@given(seed=seeds, count=st.integers(1, 3), data=st.data())
def test_a_full_description_is_false_of_a_scene_with_one_attribute_changed(seed, count, data):
    scene = random_scene(np.random.default_rng(seed), num_objects=count)
    name, values = data.draw(
        st.sampled_from([("shape", SHAPES), ("colour", COLOURS), ("size", SIZES), ("place", PLACES)])
    )
    index = data.draw(st.integers(0, count - 1))
    value = data.draw(st.sampled_from([value for value in values if value != getattr(scene.objects[index], name)]))
    changed = list(scene.objects)
    changed[index] = replace(changed[index], **{name: value})
    assert not full_description(scene).fits(Scene(objects=tuple(changed)))


@given(seed=seeds)
def test_a_relation_is_false_when_the_two_objects_change_places(seed):
    rng = np.random.default_rng(seed)
    scene = random_scene(rng, num_objects=2)
    first, second = scene.objects
    swapped = Scene(objects=(replace(first, place=second.place), replace(second, place=first.place)))
    assert not relation_description(scene, rng).fits(swapped)


def test_an_open_description_fits_more_scenes_and_an_empty_one_only_the_empty_scene():
    scene = Scene(objects=(RED_CIRCLE, BLUE_STAR))
    assert Description(mentions=(Mention(colour="red"),)).fits(scene)
    assert not Description(mentions=(Mention(colour="red"), Mention(shape="circle"))).fits(scene)
    assert Description().fits(Scene())
    assert not Description().fits(scene)


def test_a_relation_looks_at_its_own_axis_only():
    assert holds("left of", "bottom left", "top")
    assert holds("above", "top", "bottom left")
    assert not holds("left of", "top left", "bottom left")


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        ("en", "a small red circle at the top left and a large blue star on the right"),
        ("de", "ein kleiner roter Kreis oben links und ein großer blauer Stern rechts"),
        ("fr", "un petit cercle rouge en haut à gauche et une grande étoile bleue à droite"),
        ("es", "un círculo rojo pequeño arriba a la izquierda y una estrella azul grande a la derecha"),
        ("zh", "一个小的红色圆形在左上角和一个大的蓝色星形在右边"),
    ],
)
def test_a_full_caption_reads_as_its_language_is_written(language, expected):
    assert write(full_description(Scene(objects=(RED_CIRCLE, BLUE_STAR))), language) == expected


@pytest.mark.parametrize(
    ("language", "expected"),
    [
        ("en", "an orange arrow left of a white diamond"),
        ("de", "ein orange Pfeil links von einer weißen Raute"),
        ("fr", "une flèche orange à gauche d'un losange blanc"),
        ("es", "una flecha naranja a la izquierda de un rombo blanco"),
        ("zh", "一个橙色箭头在一个白色菱形的左边"),
    ],
)
def test_a_relation_inflects_its_second_object(language, expected):
    mentions = (Mention(shape="arrow", colour="orange"), Mention(shape="diamond", colour="white"))
    assert write(Description(mentions=mentions, relation="left of"), language) == expected


def test_three_objects_are_listed_with_one_last_and():
    mentions = (Mention(shape="ring"), Mention(colour="pink"), Mention(shape="moon", place="centre"))
    assert write(Description(mentions=mentions), "en") == "a ring, a pink shape and a moon in the centre"


@given(seed=seeds)
def test_the_usual_wording_is_one_of_the_varied_ones(seed):
    rng = np.random.default_rng(seed)
    description = partial_description(random_scene(rng, num_objects=1), rng)
    for language in LANGUAGES:
        varied = {write(description, language, np.random.default_rng(i)) for i in range(60)}
        assert write(description, language) in varied
