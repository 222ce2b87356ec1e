"""The parts of the example that trains the bundled model, and a training of a few steps."""

import hashlib
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from evaluate_nano import Bar, Figure
from hypothesis import given
from hypothesis import strategies as st
from nano_training.caption_batches import caption_batch, fit_matrix
from nano_training.checkpoint_files import PATCH_PX, build_tokenizer, model_config, write_checkpoint
from nano_training.descriptions import pair_description, partial_description, relation_description, wordings
from nano_training.losses import contrastive_loss
from nano_training.optimiser import orthogonalised, rate_at
from nano_training.probes import attribute_probe, gallery, swap_probe
from nano_training.scene_groups import coded_objects, draw_pictures, patch_owners, scene_group, swapped_scenes
from train_nano import Recipe, new_trainer, normalised, train

from core_encoder import JinaClipEncoder, nano
from core_encoder.nano.captions import full_description
from core_encoder.nano.scenes import SIDE_PX, Scene, draw_scene, random_scene
from core_encoder.nano.wording import LANGUAGES

seeds = st.integers(0, 2**32 - 1)


def descriptions_of(scene, rng):
    made = [full_description(scene), partial_description(scene, rng)] if scene.objects else []
    return made + ([pair_description(scene, rng), relation_description(scene, rng)] if len(scene.objects) > 1 else [])


@given(seed=seeds)
def test_a_group_has_four_different_scenes_and_no_pair_that_is_held_out(seed):
    group = scene_group(np.random.default_rng(seed))
    assert len(set(group)) == 4
    assert not any(scene.held_out for scene in group)


def test_swapped_scenes_exchange_one_thing_each():
    scene = random_scene(np.random.default_rng(0), num_objects=3)
    (first, second, third), *others = [scene.objects for scene in swapped_scenes(scene)]
    for name, (one, two, rest) in zip(("place", "colour", "shape"), others, strict=True):
        assert (getattr(one, name), getattr(two, name)) == (getattr(second, name), getattr(first, name))
        assert rest == third
    assert [one.size for one, _, _ in others] == [first.size] * 3


@given(seed=seeds)
def test_the_fit_matrix_agrees_with_the_descriptions(seed):
    rng = np.random.default_rng(seed)
    scenes = [*scene_group(rng), *scene_group(rng), Scene()]
    descriptions = [d for scene in scenes for d in descriptions_of(scene, rng)] + [full_description(Scene())]
    expected = [[description.fits(scene) for scene in scenes] for description in descriptions]
    assert fit_matrix(descriptions, np.stack([coded_objects(scene) for scene in scenes])).tolist() == expected


def test_a_caption_batch_gives_every_text_back_in_its_place():
    tokenizer = build_tokenizer()
    rng = np.random.default_rng(1)
    scenes = [scene for _ in range(4) for scene in scene_group(rng)]
    objects = np.stack([coded_objects(scene) for scene in scenes])
    batch = caption_batch(scenes, objects, tokenizer, rng)
    starts = np.concatenate(([0], np.cumsum(batch.lengths)))
    rows = [batch.input_ids[start:end] for start, end in itertools.pairwise(starts)]
    assert batch.lengths == sorted(batch.lengths)
    assert sorted(batch.order.tolist()) == list(range(4 * len(scenes)))
    assert batch.fits[torch.arange(2 * len(scenes)), torch.arange(2 * len(scenes)) % len(scenes)].all()
    assert batch.same.diagonal().all()
    # One description in two languages names the same objects: the empty scene aside, they end alike.
    assert all(rows[index][-1] == 2 for index in batch.order.tolist())


def test_every_word_of_the_captions_is_one_token():
    tokenizer = build_tokenizer()
    for language in LANGUAGES:
        for text in wordings(language):
            tokens = tokenizer.encode(text, add_special_tokens=False).tokens
            assert "<unk>" not in tokens
            assert not any(token.startswith("##") for token in tokens)
    assert tokenizer.encode("a red circle").ids[0] == 0
    assert tokenizer.encode("a red circle").ids[-1] == 2
    assert tokenizer.encode("Ein ROTER Kreis").ids == tokenizer.encode("ein roter kreis").ids


def test_a_patch_is_owned_by_the_object_that_covers_it():
    drawing = draw_scene(random_scene(np.random.default_rng(2), num_objects=3), seed=2)
    owners = patch_owners(drawing.owner, PATCH_PX)
    assert owners.shape == ((SIDE_PX // PATCH_PX) ** 2,)
    assert set(owners.tolist()) == {-1, 0, 1, 2}
    patch = drawing.owner[:PATCH_PX, :PATCH_PX]
    assert owners[0] == -1 or (patch == owners[0]).mean() >= 0.15


def test_orthogonalised_matrices_have_singular_values_near_one():
    matrices = torch.randn(3, 16, 40, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalised(matrices))
    assert 0.6 < values.min() < values.max() < 1.3


def test_the_rate_rises_stays_and_falls_to_nothing():
    rates = [rate_at(step, 100, warm_up=10, decay_share=0.5) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[10:50] == [1.0] * 40
    assert rates[75] == pytest.approx(0.5)
    assert rates[100] == 0


def test_a_text_that_fits_another_picture_is_no_negative_for_it():
    images = torch.eye(4)
    texts = torch.eye(4)
    texts[1] = images[0]  # text 1 looks like picture 0
    scale = torch.tensor(10.0)
    own = torch.eye(4, dtype=torch.bool)
    both = own.clone()
    both[1, 0] = True
    strict = contrastive_loss(images, texts, own, scale, {4: 1.0})
    assert contrastive_loss(images, texts, both, scale, {4: 1.0}) < strict
    assert contrastive_loss(images, images, own, scale, {4: 1.0}) < strict


@pytest.mark.slow
def test_a_few_steps_lower_the_loss_and_the_checkpoint_loads(tmp_path):
    recipe = Recipe(steps=12, groups=16, batch_size=32, warm_up=2)
    pictures = draw_pictures(recipe.groups, patch_px=PATCH_PX, seed=3, processes=1)
    tokenizer = build_tokenizer()
    trainer = new_trainer(recipe, tokenizer)
    losses = [step["contrast"] for step in train(recipe, pictures, trainer, tokenizer)]
    assert np.mean(losses[-3:]) < np.mean(losses[:3]) - 0.1

    write_checkpoint(tmp_path, trainer.model, tokenizer)
    encoder = JinaClipEncoder.load(tmp_path, device="cpu", precision="fp32")
    with torch.inference_mode():
        expected = torch.nn.functional.normalize(trainer.model.vision(normalised(pictures.pixels[:4])))
    found = encoder.encode_image(list(pictures.pixels[:4]))
    assert np.abs(found - expected.numpy()).max() < 5e-3  # half precision on disk
    assert encoder.encode_text(["a red circle"]).shape == (1, 128)
    assert encoder.matryoshka_dims == (16, 32, 64, 128)


def test_drawing_depends_on_the_seed_and_not_on_the_processes():
    one, two = (draw_pictures(3, patch_px=PATCH_PX, seed=5, processes=processes) for processes in (1, 2))
    assert np.array_equal(one.pixels, two.pixels)
    assert one.scenes == two.scenes


def test_a_figure_says_which_of_its_bars_are_reached():
    values = dict.fromkeys(LANGUAGES, 0.93) | {"zh": 0.8}
    english = Bar(kind="must", value=0.9, languages=("en",))
    everywhere = Bar(kind="hope", value=0.9)
    figure = Figure(name="recall", values=values, bars=(english, everywhere))
    assert figure.missed() == [everywhere]
    assert figure.row().endswith("| must >= 0.90 (en), hope >= 0.90 | reached, **missed** |")
    assert Bar(kind="must", value=0.25, at_most=True).reached(dict.fromkeys(LANGUAGES, 0.2))
    assert not Bar(kind="must", value=0.25, at_most=True).reached(values)


def test_the_bundled_weights_are_the_ones_that_the_revision_names():
    folder = Path(nano.__file__).parent
    assert hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()[:12] == nano.REVISION
    config = model_config(build_tokenizer())
    assert config.embedding_dim == 128
    assert (folder / "tokenizer.json").read_text(encoding="utf-8").strip() == build_tokenizer().to_str(pretty=True)


@pytest.mark.slow
def test_the_bundled_model_finds_scenes_that_it_was_never_trained_on():
    encoder = JinaClipEncoder.load("nano", device="cpu")
    found = gallery(encoder, seed=11)
    for language in LANGUAGES:
        assert found.recall(language, from_text=True).at_5 > 0.9
    for probe in (attribute_probe(encoder, "shape", seed=11, count=45), swap_probe(encoder, seed=11, count=60)):
        for choices in probe.values():
            assert min(choices.of_picture, choices.of_text) > 0.75
