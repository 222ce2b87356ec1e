"""The tables, and the sets of languages that their means are taken over."""

import pytest

from jclip_connectors.errors import EmbedInputError
from jclip_connectors.evaluation.tables import find_table, find_tables


def test_a_name_that_is_no_table_gets_the_list_of_all():
    with pytest.raises(EmbedInputError, match=r"'mscoco'.*flickr30k, coco, xm3600.*mieb, all, truncation"):
        find_tables(["flickr30k", "mscoco"])


def test_a_table_that_is_named_twice_is_computed_once():
    names = [table.name for table in find_tables(["coco", "truncation", "coco"])]
    assert names[:2] == ["coco", "flickr30k"]
    assert len(names) == len(set(names))


def test_published_means_are_over_26_and_10_languages():
    xm3600, coco = find_table("xm3600"), find_table("multilingual-coco")
    assert [len(one.languages) for one in xm3600.language_sets] == [26, 36]
    assert [len(one.languages) for one in coco.language_sets] == [10, 11]
    assert [len(one.languages) for one in find_table("xtd10").language_sets] == [11, 10, 10]
    assert set(xm3600.language_sets[0].languages) < set(xm3600.tasks[0].languages)


def test_there_are_37_sets_of_classification():
    assert len({task.name for task in find_table("classification").tasks}) == 37
