"""Sources are found, and their shards have names that say what they are made of."""

import dataclasses
import os
import tarfile

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jclip_connectors.bulk import Columns, find_shards
from jclip_connectors.bulk.embedding import first_rows
from jclip_connectors.bulk.items import check_parts, read_items
from jclip_connectors.bulk.source_names import expand_braces
from jclip_connectors.config import EmbeddingConfig
from jclip_connectors.errors import EmbedInputError
from tests.bulk.sources import picture, pictures_parquet, pictures_tar, write_tar

CONFIG = EmbeddingConfig(model="hash", revision="1", dimensions=8)
ANY = Columns()


def items_of(shard, columns=ANY):
    return list(read_items(shard, columns, most_bytes=2**20))


def name(shard, config=CONFIG, columns=ANY):
    return shard.name(config.fingerprint(), columns)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("s3://b/{08..11}.tar", ["s3://b/08.tar", "s3://b/09.tar", "s3://b/10.tar", "s3://b/11.tar"]),
        ("{1..3}", ["1", "2", "3"]),
        ("{2..1}{a,b}", ["2a", "2b", "1a", "1b"]),
        ("{a}/{}", ["{a}/{}"]),
        ("plain", ["plain"]),
    ],
)
def test_ranges_and_choices_in_braces(pattern, names):
    assert expand_braces(pattern) == names


def test_a_name_is_stable_and_changes_with_size_time_configuration_and_columns(tmp_path):
    path = pictures_tar(tmp_path / "a.tar", 2)
    (shard,) = find_shards([path])
    assert name(shard) == name(find_shards([str(path)])[0])
    os.utime(path, (1, 1))
    (later,) = find_shards([path])
    pictures_tar(path, 3)
    os.utime(path, (1, 1))
    (larger,) = find_shards([path])
    others = [
        name(later),
        name(larger),
        name(shard, dataclasses.replace(CONFIG, dimensions=4)),
        name(shard, columns=Columns(key="__key__")),
        name(shard, columns=Columns(images="png")),
        name(dataclasses.replace(shard, limit=1)),
    ]
    assert len({name(shard), *others}) == 7


def test_one_file_that_two_sources_have_is_one_shard(tmp_path):
    pictures_tar(tmp_path / "a.tar", 1)
    assert len(find_shards([tmp_path / "a.tar", tmp_path, f"{tmp_path}/*.tar", f"{tmp_path}/{{a,a}}.tar"])) == 1


def test_a_large_parquet_file_is_cut_between_row_groups_and_each_row_keeps_its_number(tmp_path, monkeypatch):
    monkeypatch.setattr("jclip_connectors.bulk.shards.ROWS", 4)
    path = pictures_parquet(tmp_path / "a.parquet", [picture(at, 4) for at in range(11)], row_group_size=3)
    shards = find_shards([path])
    assert [(shard.groups, shard.rows) for shard in shards] == [((0, 2), 6), ((2, 4), 5)]
    assert [item.key for shard in shards for item in items_of(shard)] == [str(at) for at in range(11)]
    assert len({name(shard) for shard in shards}) == 2


def test_a_folder_has_its_tar_files_parquet_files_and_pictures_without_what_is_hidden_or_made_here(tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    pictures_tar(tmp_path / "in" / "a.tar", 1)
    (tmp_path / "in" / "deep" / "b.JPG").write_bytes(picture(1))
    (tmp_path / "in" / "deep" / ".c.jpg").write_bytes(picture(2))
    (tmp_path / "in" / ".git").mkdir()
    (tmp_path / "in" / ".git" / "d.jpg").write_bytes(picture(3))
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    out = tmp_path / "in" / "out"
    out.mkdir()
    pictures_tar(out / "not this.tar", 1)
    tar, files = find_shards([tmp_path / "in"], out=out)
    assert (tar.kind, files.kind) == ("tar", "files")
    assert files.paths == (str(tmp_path / "in" / "deep" / "b.JPG"),)
    assert len(find_shards([out / "not this.tar"], out=out)) == 1  # it is named


def test_a_link_that_leads_back_to_its_folder_is_not_followed(tmp_path):
    (tmp_path / "a.png").write_bytes(picture(1))
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "gone.png").symlink_to(tmp_path / "nothing")
    (files,) = find_shards([tmp_path])
    assert [path for path in files.paths if path.endswith("a.png")] == [str(tmp_path / "a.png")]


def test_sources_of_any_file_system_of_fsspec():
    fs = fsspec.filesystem("memory")
    with fs.open("/in/a.tar", "wb") as file, fsspec.open("memory://in/b.png", "wb") as other:
        other.write(picture(7))
        with tarfile.open(fileobj=file, mode="w"):
            pass
    tar, files = find_shards(["memory://in"])
    assert tar.url == "memory:///in/a.tar"
    (item,) = items_of(files)
    assert item.source == picture(7)
    fs.rm("/in", recursive=True)


def test_a_range_of_names_is_looked_up_with_one_listing(monkeypatch):
    fs = fsspec.filesystem("memory")
    for at in range(20):
        fs.pipe(f"/many/{at:03}.tar", bytes([at]) * (at + 1))
    calls = []
    info = fs.info

    def counted(path, **options):
        calls.append(path)
        return info(path, **options)

    monkeypatch.setattr(fs, "info", counted)
    shards = find_shards(["memory://many/{005..019}.tar"])
    assert [shard.state.split(" ")[0] for shard in shards] == [str(at + 1) for at in range(5, 20)]
    assert len(calls) < 5
    with pytest.raises(EmbedInputError, match=r"there is no '/many/020.tar'"):
        find_shards(["memory://many/{018..020}.tar"])
    fs.rm("/many", recursive=True)


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        (["nothing.tar"], "does not exist"),
        (["*.tar"], "has nothing to embed"),
        (["nowhere://x"], "cannot be read"),
        ("a.tar", "write a list"),
    ],
)
def test_a_source_that_is_not_there_is_refused(tmp_path, monkeypatch, sources, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(EmbedInputError, match=message):
        find_shards(sources)


def table_file(path, **columns):
    pq.write_table(pa.table(columns), path)
    return path


@pytest.mark.parametrize(
    ("columns", "chosen", "message"),
    [
        ({"a": [b"x"], "b": [b"y"]}, Columns(), r"2 columns of pictures.*a \(binary\), b \(binary\)"),
        ({"url": ["http://x/1.jpg"]}, Columns(), r"img2dataset.*url \(string\)"),
        ({"url": ["http://x/1.jpg"]}, Columns(images="url"), r"no bytes of pictures.*img2dataset.*url \(string\)"),
        ({"a": [b"x"]}, Columns(images="b"), r"no column 'b'; it has a \(binary\)"),
        ({"a": [b"x"], "n": [1]}, Columns(texts="n"), r"'n' of .* has no texts"),
        ({"a": [b"x"]}, Columns(metadata=("m",)), "no column 'm'"),
    ],
)
def test_what_is_unsure_is_an_error_that_lists_the_columns(tmp_path, columns, chosen, message):
    with pytest.raises(EmbedInputError, match=message):
        find_shards([table_file(tmp_path / "a.parquet", **columns)], columns=chosen)


def test_files_of_vectors_are_no_source(tmp_path):
    schema = pa.schema([pa.field("embedding", pa.binary())], metadata={"jclip.fingerprint": "{}"})
    pq.write_table(pa.table({"embedding": [b""]}, schema=schema), tmp_path / "a.parquet")
    with pytest.raises(EmbedInputError, match="is a file of vectors"):
        find_shards([tmp_path / "a.parquet"], columns=Columns())


def test_parquet_files_of_hugging_face_have_pictures_in_structs(tmp_path):
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    images = [{"bytes": picture(1), "path": None}, {"bytes": None, "path": "x.jpg"}, None]
    path = table_file(tmp_path / "a.parquet", image=pa.array(images, kind), label=[1, 2, 3])
    (shard,) = find_shards([path], columns=Columns())
    assert [item.source for item in items_of(shard)] == [picture(1), None, None]
    assert [item.error for item in items_of(shard)][
        1
    ] == "the column has no bytes of the picture, only the path 'x.jpg'"


def test_a_row_with_a_picture_and_a_text_is_two_items_with_ids_of_their_own(tmp_path):
    columns = Columns(images="image", texts="caption", key="id", metadata=("n",))
    numbers = [1.5, float("nan")]
    path = pictures_parquet(tmp_path / "a.parquet", [b"1", b"2"], caption=["one", "two"], id=[7, 8], n=numbers)
    (shard,) = find_shards([path], columns=columns)
    found = [(item.key, item.modality, item.record_id, item.source) for item in items_of(shard, columns)]
    assert found == [
        ("7", "image", "image-7", b"1"),
        ("7", "text", "text-7", "one"),
        ("8", "image", "image-8", b"2"),
        ("8", "text", "text-8", "two"),
    ]
    assert [item.metadata for item in items_of(shard, columns)][::2] == [{"n": 1.5}, {"n": None}]


def test_the_parts_of_a_sample_of_a_tar_file(tmp_path):
    (shard,) = find_shards([pictures_tar(tmp_path / "a.tar", 1)])
    columns = Columns(images="png", texts="txt", key="__key__", metadata=("json", "txt"))
    image, text = items_of(shard, columns)
    assert (image.key, image.record_id, image.source) == ("00000", "image-00000", picture(0))
    assert image.uri == f"{tmp_path}/a.tar#00000.png"
    assert image.metadata == {"number": 0, "width": 24, "txt": "caption 0"}
    assert (text.record_id, text.source) == ("text-00000", "caption 0")


def test_a_sample_without_exactly_one_picture_has_an_error(tmp_path):
    samples = [("a", {"jpg": b"1"}), ("b", {"jpg": b"1", "png": b"2"}), ("c", {"txt": b"x"}), ("d", {"png": b"3"})]
    (shard,) = find_shards([write_tar(tmp_path / "a.tar", samples)])
    errors = [item.error for item in items_of(shard)]
    assert errors[0] is None
    assert errors[3] is None
    assert "2 pictures" in errors[1]
    assert "parts are jpg, png" in errors[1]
    assert "0 pictures" in errors[2]
    check_parts(shard, Columns())
    with pytest.raises(EmbedInputError, match=r"no parts 'webp'; its first samples have the parts jpg, png, txt"):
        check_parts(shard, Columns(images="webp"))
    (unsure,) = find_shards([write_tar(tmp_path / "b.tar", [("b", {"jpg": b"1", "png": b"2"})])])
    with pytest.raises(EmbedInputError, match="2 pictures in a sample"):
        check_parts(unsure, Columns())


def test_damaged_files_give_what_can_be_read_and_an_error(tmp_path):
    whole = pictures_tar(tmp_path / "a.tar", 3).read_bytes()
    (tmp_path / "cut.tar").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "empty.tar").write_bytes(b"")
    (tmp_path / "words.parquet").write_text("no Parquet")
    write_tar(tmp_path / "none.tar", [])
    found = {
        shard.url.rpartition("/")[2]: [item.error for item in items_of(shard)] for shard in find_shards([tmp_path])
    }
    assert found["a.tar"] == [None] * 3
    assert found["cut.tar"][0] is None
    assert "damaged" in found["cut.tar"][-1]
    assert len(found["empty.tar"]) == len(found["words.parquet"]) == 1
    assert found["none.tar"] == ["the tar file has nothing to embed: no files with a suffix"]


def test_the_first_rows_cut_a_shard(tmp_path):
    pictures_tar(tmp_path / "a.tar", 3)
    pictures_parquet(tmp_path / "b.parquet", [picture(at) for at in range(5)])
    shards = find_shards([tmp_path])
    assert [len(items_of(shard)) for shard in first_rows(shards, 2)] == [2]
    assert [len(items_of(shard)) for shard in first_rows(shards, 3)] == [3]
    assert first_rows(shards, 3) == shards[:1]
    assert [len(items_of(shard)) for shard in first_rows(shards, 5)] == [3, 2]
    assert first_rows(shards, 99) == shards
