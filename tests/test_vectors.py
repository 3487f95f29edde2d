"""Vectors of videos for TensorBoard's projector and for FiftyOne."""

import base64
import io
import json
import zlib

import numpy as np
import pytest
from PIL import Image

from ssl_video.api import index
from ssl_video.apps.vectors import TILE, export_vectors, load_vectors
from ssl_video.cli import main
from ssl_video.datasets.synthetic import SyntheticConfig, synthesize
from ssl_video.errors import UserError
from ssl_video.eval.features import Extraction
from ssl_video.eval.harness import ExtractionConfig, Reading, extract_on
from tests.test_cli import said

MODEL = "random:r2plus1d_4?width=2"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Drawn videos, an index and extracted features of them, as arrays and as tables."""
    folder = tmp_path_factory.mktemp("vectors")
    synthesize(folder / "drawn", SyntheticConfig(train=6, test=2, size=32, frames=16), workers=1)
    index(str(folder / "drawn"), MODEL, folder / "index", progress=False)
    pytest.importorskip("pyarrow")
    for form in ("npy", "parquet"):
        config = ExtractionConfig(
            str(folder / "drawn"), folder / form, Extraction(2), reading=Reading(workers=0), format=form
        )
        extract_on(MODEL, config)
    return folder


def table(path) -> list[list[str]]:
    return [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_projector_gets_a_row_a_video_with_its_name_and_a_picture(made, tmp_path, capsys):
    assert main(["export", "--model", str(made / "npy"), "--format", "projector", "--out", str(tmp_path / "p")]) == 0
    assert "8 videos" in capsys.readouterr().out
    vectors, metadata = table(tmp_path / "p" / "vectors.tsv"), table(tmp_path / "p" / "metadata.tsv")
    assert metadata[0] == ["name", "path", "label", "split"] and len(metadata) == 1 + len(vectors) == 9
    expected = load_vectors(made / "npy").vectors_ND
    assert np.allclose(np.array(vectors, float), expected, rtol=1e-5, atol=1e-6)
    assert [row[3] for row in metadata[1:]] == ["train"] * 6 + ["test"] * 2
    assert all(row[1].split("/")[-2:] == [row[2], row[0]] for row in metadata[1:])
    sheet = np.array(Image.open(tmp_path / "p" / "sprite.png"))
    assert sheet.shape == (3 * TILE, 3 * TILE, 3) and (sheet[-TILE:, -TILE:] == 128).all()
    assert (sheet[:TILE, :TILE] != 128).any()


def test_tensorboard_reads_the_projectors_configuration(made, tmp_path):
    config = pytest.importorskip("tensorboard.plugins.projector")
    from google.protobuf import text_format

    export_vectors(load_vectors(made / "index"), tmp_path / "p", "projector")
    parsed = text_format.Parse((tmp_path / "p" / "projector_config.pbtxt").read_text(), config.ProjectorConfig())
    (embedding,) = parsed.embeddings
    assert all((tmp_path / "p" / name).is_file() for name in (embedding.tensor_path, embedding.metadata_path))
    assert list(embedding.sprite.single_image_dim) == [TILE, TILE]


def test_a_video_that_is_gone_and_a_name_with_a_tab_leave_the_rows_as_they_are(made, tmp_path):
    vectors = load_vectors(made / "index")
    odd = type(vectors)(
        ("/gone/a\tb\udcff.mp4", *vectors.paths[1:]), vectors.labels, vectors.splits, vectors.vectors_ND
    )
    export_vectors(odd, tmp_path / "p", "projector")
    assert table(tmp_path / "p" / "metadata.tsv")[1][:2] == ["a\\tb\\xff.mp4", "/gone/a\\tb\\xff.mp4"]
    assert (np.array(Image.open(tmp_path / "p" / "sprite.png"))[:TILE, :TILE] == 128).all()


@pytest.mark.parametrize("source", ["npy", "parquet", "index"])
def test_a_data_set_for_fiftyone_has_paths_labels_and_embeddings(made, tmp_path, source):
    vectors = load_vectors(made / source)
    assert main(["export", "--model", str(made / source), "--format", "fiftyone", "--out", str(tmp_path / "d")]) == 0
    samples = json.loads((tmp_path / "d" / "samples.json").read_text())["samples"]
    assert "version" not in json.loads((tmp_path / "d" / "metadata.json").read_text())
    for sample, path, labels, vector in zip(samples, vectors.paths, vectors.labels, vectors.vectors_ND, strict=True):
        packed = base64.b64decode(sample["embedding"]["$binary"]["base64"])
        assert (np.load(io.BytesIO(zlib.decompress(packed))) == vector).all()
        assert sample["filepath"] == path and (tmp_path / "d" / sample["frames"]).is_file()
        assert sample["ground_truth"] == {"_cls": "Classification", "label": labels[0]}


def test_arrays_and_tables_of_features_give_the_same_vectors(made):
    arrays, tables = load_vectors(made / "npy"), load_vectors(made / "parquet")
    assert arrays.paths == tables.paths and arrays.labels == tables.labels
    assert (arrays.vectors_ND == tables.vectors_ND).all()


def test_several_labels_of_a_video_are_classifications(made, tmp_path):
    vectors = load_vectors(made / "npy")
    several = type(vectors)(vectors.paths, (("a", "b"),) * 8, vectors.splits, vectors.vectors_ND)
    export_vectors(several, tmp_path / "d", "fiftyone")
    sample = json.loads((tmp_path / "d" / "samples.json").read_text())["samples"][0]
    assert [c["label"] for c in sample["ground_truth"]["classifications"]] == ["a", "b"]


def test_what_holds_no_vectors_is_refused_and_a_folder_in_use_stays_as_it_is(made, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("kept")
    for source, out, answer in (
        (made / "drawn", tmp_path / "new", "is no index and holds no features"),
        (made / "npy", tmp_path / "full", "is not empty; choose another --out"),
    ):
        assert answer in said(capsys, "export", "--model", str(source), "--format", "projector", "--out", str(out))
    assert (tmp_path / "full" / "mine").read_text() == "kept" and not (tmp_path / "new").exists()


def test_features_that_are_not_finished_are_refused(made, tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "about.json").write_text((made / "npy" / "train" / "about.json").read_text())
    with pytest.raises(UserError, match=r"lacks 00000\.json: it was not finished"):
        load_vectors(tmp_path)


def test_an_export_that_fails_leaves_nothing_behind(made, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ssl_video.apps.vectors._sprite", full)
    with pytest.raises(OSError, match="No space"):
        export_vectors(load_vectors(made / "index"), tmp_path / "p", "projector")
    assert list(tmp_path.iterdir()) == []
