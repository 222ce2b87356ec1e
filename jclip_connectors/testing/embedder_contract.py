"""The suite that every embedder passes: subclass it and give `embedder`, `tiled_embedder`."""

import numpy as np
import pytest
from PIL import Image

from jclip_connectors.errors import EmbedInputError, PartialFailureError

TEXTS = ["a red circle", "", "ein grünes Quadrat", "a red circle " * 40, "🚲"]


def picture(seed, size=(90, 60)):
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(noise)


class EmbedderContract:
    """Give fixtures `embedder` and `tiled_embedder`: one model without and with tiling, `dimensions` set, unit rows."""

    @pytest.fixture
    def images(self, tmp_path):
        """One picture in every form that an embedder takes."""
        path = tmp_path / "picture.png"
        picture(0).save(path)
        return [str(path), path, path.read_bytes(), picture(0), np.asarray(picture(0))]

    def test_texts_become_rows_of_unit_length_in_their_order(self, embedder):
        rows = embedder.embed_texts(TEXTS)
        assert rows.shape == (len(TEXTS), embedder.dimensions)
        assert rows.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
        np.testing.assert_allclose(rows[::-1], embedder.embed_texts(TEXTS[::-1]), atol=1e-5)

    def test_nothing_becomes_no_rows(self, embedder, tiled_embedder):
        assert embedder.embed_texts([]).shape == (0, embedder.dimensions)
        assert embedder.embed_images([]).shape == (0, embedder.dimensions)
        assert tiled_embedder.embed_image_tiles([]) == []

    def test_a_query_becomes_one_vector(self, embedder):
        query = embedder.embed_query("a red circle")
        assert query.shape == (embedder.dimensions,)
        assert query.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(query), 1, atol=1e-5)

    def test_several_queries_become_the_rows_that_each_becomes(self, embedder):
        texts = ["a red circle", "a blue square"]
        rows = embedder.embed_queries(texts)
        assert rows.shape == (2, embedder.dimensions)
        for text, row in zip(texts, rows, strict=True):
            np.testing.assert_allclose(row, embedder.embed_query(text), atol=1e-5)
        assert embedder.embed_queries([]).shape == (0, embedder.dimensions)

    def test_an_image_has_one_vector_in_whatever_form_it_comes(self, embedder, images):
        rows = embedder.embed_images(images)
        assert rows.shape == (len(images), embedder.dimensions)
        assert rows.dtype == np.float32
        np.testing.assert_allclose(rows, np.repeat(rows[:1], len(images), axis=0), atol=1e-5)
        assert rows[0] @ embedder.embed_images([picture(1)])[0] < 1 - 1e-4

    def test_tiles_start_with_the_whole_image(self, embedder, tiled_embedder):
        wide = picture(2, (200, 100))
        (tiles,) = tiled_embedder.embed_image_tiles([wide])
        assert tiles.vectors.shape == (len(tiles.boxes), embedder.dimensions)
        assert tiles.vectors.dtype == np.float32
        assert tiles.boxes.dtype == np.int64
        assert tiles.boxes[0].tolist() == [0, 0, 200, 100]
        assert len(tiles.boxes) > 1
        np.testing.assert_allclose(tiles.vectors[0], embedder.embed_images([wide])[0], atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(tiles.vectors, axis=1), 1, atol=1e-5)

    @pytest.mark.parametrize("method", ["embed_images", "embed_image_tiles"])
    def test_bad_images_are_named_and_the_good_ones_kept(self, embedder, tiled_embedder, tmp_path, method):
        bad = tmp_path / "bad.jpg"
        bad.write_bytes(b"\xff\xd8\xff" + b"nothing" * 20)
        good = [picture(i) for i in range(20)]
        given = [tmp_path / "nope.png", *good[:10], bad, *good[10:], b"no image"]
        embed = getattr(embedder if method == "embed_images" else tiled_embedder, method)
        with pytest.raises(PartialFailureError, match=r"3 of 23 images failed: 0: the image [^i]") as caught:
            embed(given)
        assert sorted(caught.value.failed) == [0, 11, 22]
        assert all(isinstance(error, EmbedInputError) for error in caught.value.failed.values())
        assert sorted(caught.value.kept) == [*range(1, 11), *range(12, 22)]
        for found, expected in zip(caught.value.kept.values(), embed(good), strict=True):
            if method == "embed_image_tiles":
                np.testing.assert_allclose(found.vectors, expected.vectors, atol=1e-5)
            else:
                np.testing.assert_allclose(found, expected, atol=1e-5)

    def test_one_item_is_not_a_list(self, embedder, tiled_embedder, tmp_path):
        with pytest.raises(EmbedInputError, match="texts"):
            embedder.embed_texts("a red circle")
        for one in (str(tmp_path), tmp_path, b"bytes"):
            for embed in (embedder.embed_images, tiled_embedder.embed_image_tiles):
                with pytest.raises(EmbedInputError, match=r"write \[image\]"):
                    embed(one)

    def test_what_is_no_text_is_refused_by_position(self, embedder):
        with pytest.raises(EmbedInputError, match="1"):
            embedder.embed_texts(["a", 3])
        with pytest.raises(EmbedInputError):
            embedder.embed_query(None)

    def test_tiles_need_a_configuration_with_tiling(self, embedder):
        with pytest.raises(EmbedInputError, match="`tiling`"):
            embedder.embed_image_tiles([picture(0)])

    def test_the_dimensions_are_those_of_the_configuration(self, embedder):
        assert embedder.config.dimensions == embedder.dimensions
