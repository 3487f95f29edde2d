"""Pretraining on one's own videos: which recipe, which span, what a second start does, and what is said before."""

from pathlib import Path

import numpy as np
import pytest

import ssl_video as sv
from ssl_video.apps.compare import compare_runs
from ssl_video.cli import main
from ssl_video.cli.pretrain_command import configure
from ssl_video.config import save_yaml
from ssl_video.datasets.base import Video, VideoSet
from ssl_video.datasets.synthetic import SyntheticConfig, synthesize
from ssl_video.errors import UserError
from ssl_video.pretexts.base import PRETEXTS
from ssl_video.pretrain_config import PretrainConfig, changed, recipe_of
from ssl_video.pretraining import untrained
from ssl_video.recipes import load_recipe, small_recipe
from ssl_video.run import Run
from ssl_video.train import extras, pace
from ssl_video.train.distributed import Ranks
from ssl_video.train.span import fit_span, long_enough, remedy, shorter_spans
from ssl_video.video.info import VideoInfo
from tests.listings import write

QUICK = {"steps": 2, "batch_size": 2, "workers": 0, "cache": "none", "held_out": 0, "device": "cpu"}
TINY = {"pretext.short_side": 32, "pretext.crop": 32, "pretext.min_size": 32, "pretext.max_size": 32}


def flags(options: dict) -> list[str]:
    return [w for name, value in options.items() for w in (f"--{name.replace('_', '-')}", str(value))]


LINE = flags(QUICK | TINY)


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> Path:
    """Eight videos of 60 frames: too few for the small recipe of speediness as it stands, which needs 95."""
    folder = tmp_path_factory.mktemp("videos")
    synthesize(folder, SyntheticConfig(size=40, frames=60, train=8, test=0), workers=1)
    return folder


@pytest.fixture(scope="module")
def run(videos, tmp_path_factory) -> Run:
    out = tmp_path_factory.mktemp("runs") / "run"
    assert main(["pretrain", "--data", str(videos), "--out", str(out), *LINE]) == 0
    return Run(out)


def of_lengths(*frames: int) -> VideoSet:
    infos = (VideoInfo(n, 25.0, 64, 64, n / 25, "h264") for n in frames)
    return VideoSet("drawn", tuple(Video(f"/{n}.mp4", info=info) for n, info in enumerate(infos)))


def small(name: str):
    return untrained(PretrainConfig.from_mapping(load_recipe(f"{name}:small")))


@pytest.mark.parametrize("name", PRETEXTS.names())
def test_the_small_recipe_of_the_pretext_is_the_default_of_command_and_python(name):
    expected = PretrainConfig.from_mapping({**small_recipe(name), "data": "videos"})
    assert configure(["--data", "videos", "--pretext", name]).config == expected
    assert PretrainConfig.from_mapping(changed(recipe_of(name, None), {"data": "videos"})) == expected


def test_the_papers_setting_is_asked_for_by_name():
    paper = PretrainConfig.from_mapping(load_recipe("clip_order:paper"))
    for words in (["--config", "clip_order:paper"], ["--pretext", "clip_order", "--config", "paper"]):
        assert configure(words).config == paper
    assert paper.pretext.options["frames"] == 16 and paper.training.epochs == 300


def test_the_bare_command_is_the_embedded_default():
    assert configure([]).config == PretrainConfig.from_mapping(load_recipe("default"))


@pytest.mark.parametrize(("old", "new"), [("clip_order-small", "clip_order:small"), ("speednet", "speediness:paper")])
def test_former_names_of_recipes_go_on_working_with_a_word(old, new):
    with pytest.warns(FutureWarning, match=f"The recipe {old} is called {new} now"):
        assert load_recipe(old) == load_recipe(new)
    assert load_recipe("small") == load_recipe("speediness") == load_recipe("speediness:small")


def test_a_recipe_of_another_pretext_is_a_sentence():
    with pytest.raises(UserError, match="clip_order:paper is a recipe of clip_order, not of speediness"):
        configure(["--config", "clip_order:paper", "--pretext", "speediness"])


def test_a_file_may_hold_both_recipes_or_one(tmp_path):
    both = write(tmp_path / "both.yaml", "small: {steps: 1}\npaper: {steps: 2}\n")
    assert [load_recipe(f"{both}{which}")["steps"] for which in ("", ":small", ":paper")] == [1, 1, 2]
    one = write(tmp_path / "one.yaml", "steps: 3\n")
    assert load_recipe(str(one)) == {"steps": 3}
    assert recipe_of("clip_order", str(one)) == {**small_recipe("clip_order"), "steps": 3}
    mixed = write(tmp_path / "mixed.yaml", "small: {steps: 1}\nsteps: 3\n")
    for name, answer in ((f"{one}:paper", "holds one recipe"), (str(mixed), "has 'steps' beside its recipes")):
        with pytest.raises(UserError, match=answer):
            load_recipe(name)


@pytest.mark.parametrize("name", PRETEXTS.names())
def test_every_pretext_can_be_shortened_and_each_step_needs_no_more_frames(name):
    objective, fps = small(name), np.array([25.0])
    needed = [objective.least_frames(fps)[0], *(other.least_frames(fps)[0] for _, other in shorter_spans(objective))]
    assert needed == sorted(needed, reverse=True) and needed[-1] < needed[0]


def test_the_span_is_shortened_no_more_than_the_videos_need():
    objective = small("clip_order")  # 32 frames, with gaps of 4
    assert fit_span(of_lengths(40, 32), objective).options == {}
    assert fit_span(of_lengths(40, 29), objective).options == {"gap": 2}
    assert fit_span(of_lengths(40, 26, 23), objective).options == {"gap": 1, "frames": 7}


def test_a_tenth_of_the_videos_does_not_shorten_the_span_for_all():
    assert fit_span(of_lengths(*[40] * 9, 28), small("clip_order")).options == {}
    assert fit_span(of_lengths(*[40] * 8, 28), small("clip_order")).options == {"gap": 2}


def test_videos_that_no_span_fits_do_not_count():
    fit = fit_span(of_lengths(28, 3), small("clip_order"))
    assert (fit.options, fit.serving) == ({"gap": 2}, 1)


def test_where_the_span_is_stated_the_message_names_the_option_that_helps():
    videos, objective = of_lengths(40, 28), small("clip_order")
    assert remedy(videos, objective) == "with --pretext.gap 2, 2 of the 2 would serve"
    assert long_enough(videos, objective).tolist() == [True, False]


def test_a_stated_span_stays_and_is_told_what_would_help(videos, tmp_path, capsys):
    assert configure(["--data", "x", "--pretext.frames", "12"]).config.fit_span is False
    assert changed(small_recipe("speediness"), {"pretext.stride": 2}).get("fit_span") is None
    words = ["pretrain", "--data", str(videos), "--out", str(tmp_path / "run"), *LINE, "--pretext.stride", "2"]
    assert main(words) == 2
    assert "with --pretext.frames 10, 8 of the 8 would serve" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_all_videos_serve_and_the_fitted_span_is_noted(run):
    noted = run.config()
    assert (noted["pretext"]["frames"], noted["pretext"]["stride"], noted["fit_span"]) == (10, 2, False)
    assert len(run.lists().training.videos) == 8


def test_a_run_is_a_recipe_data_included(run, videos, tmp_path):
    again = configure(["--config", str(run), "--out", str(tmp_path / "again")]).config
    assert again == PretrainConfig.from_mapping(run.config()) and again.data.spec == str(videos)
    assert configure(["--config", str(run), "--data", "others"]).config.data.spec == "others"


def test_a_folder_that_is_no_pretraining_is_no_recipe(tmp_path):
    with pytest.raises(UserError, match="is no run: it holds no"):
        recipe_of(None, str(tmp_path))
    save_yaml(Run(tmp_path).config_file, {"model": "random:r2plus1d_4", "options": {}})
    with pytest.raises(UserError, match="is no pretraining"):
        recipe_of(None, str(tmp_path))


def test_one_line_starts_resumes_and_finds_it_finished(videos, tmp_path, capsys):
    out = Run(tmp_path / "run")
    line = ["pretrain", "--data", str(videos), "--config", "small", "--out", str(out), *LINE, "--checkpoint-every", "1"]
    assert main([*line, "--resume", "auto"]) == 0
    out.backbone_file.unlink()  # as if it had ended between the last checkpoint and the weights
    assert main([*line, "--resume", "auto"]) == 0
    assert f"{out} is resumed after step 2." in capsys.readouterr().out
    assert main([*line, "--resume=auto"]) == 0
    assert f"{out} is finished already." in capsys.readouterr().out
    assert main([*line, "--resume", "auto", "--seed", "5"]) == 2
    assert "--seed differs" in capsys.readouterr().err
    options = {name.replace(".", "__"): value for name, value in (QUICK | TINY).items()}
    assert sv.pretrain(videos, out=out.folder, resume="auto", checkpoint_every=1, **options) == out


def test_resume_auto_needs_a_folder_and_is_the_only_value(capsys):
    for words, answer in ((["--resume", "auto"], "needs --out"), (["--resume=yes", "--out", "x"], "given alone")):
        assert main(["pretrain", *words]) == 2
        assert answer in capsys.readouterr().err


def test_what_a_failed_start_left_does_not_block_the_next(run, videos, tmp_path, capsys):
    for resume in ([], ["--resume", "auto"]):
        left = Run(tmp_path / f"left{len(resume)}")
        left.write_config(run.config() | {"seed": 7})
        left.write_lists(run.lists())
        assert main(["pretrain", "--data", str(videos), "--out", str(left), *LINE, *resume]) == 0
        assert "ended before its first record; it is started anew" in capsys.readouterr().out
        assert left.config()["seed"] == 0


def test_a_folder_with_anything_of_value_is_no_leftover(run, tmp_path):
    begun = Run(tmp_path)
    begun.write_config(run.config())
    assert begun.leftover
    begun.records_file.write_text('{"step": 1, "loss": 1.0}\n')
    assert not begun.leftover
    begun.records_file.unlink()
    (tmp_path / "notes.txt").write_text("mine")
    assert not begun.leftover


def test_two_trainings_do_not_write_into_one_folder(tmp_path):
    with Run(tmp_path).held(), pytest.raises(UserError, match="writes into"), Run(tmp_path).held():
        pass
    with Run(tmp_path).held():
        pass


def test_a_missing_package_is_said_before_anything_is_written(videos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(extras, "find_spec", lambda _name: None)
    for package in ("tensorboard", "wandb"):
        words = ["pretrain", "--data", str(videos), "--out", str(tmp_path / "run"), *LINE, f"--{package}"]
        assert main(words) == 2
        assert f"pip install {package}" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(videos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SSL_VIDEO_CACHE", str(tmp_path / "cache"))
    assert main(["pretrain", "--data", str(videos), "--dry-run", "--epochs", "3", "--cache", "raw"]) == 0
    out = capsys.readouterr().out
    for words in ("frames: 10", "fitted to the videos: --pretext.frames 10", "7 videos would be trained on", "3 steps"):
        assert words in out
    assert not (tmp_path / "runs").exists()
    assert {p.name for p in (tmp_path / "cache").glob("*")} <= {p.name for p in (tmp_path / "cache").glob("*.sqlite*")}


def test_a_dry_run_of_the_embedded_set_draws_nothing(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SSL_VIDEO_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    assert main(["pretrain", "--dry-run"]) == 0
    assert "The embedded videos are drawn when they are first used" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_runs_are_compared_by_what_differs_and_what_came_out(run, videos, tmp_path, capsys):
    other = tmp_path / "other"
    assert main(["pretrain", "--data", str(videos), "--out", str(other), *LINE, "--optim.lr", "0.5"]) == 0
    sheet = tmp_path / "curves.png"
    assert main(["compare", str(run), str(other), "--out", str(sheet)]) == 0
    assert sheet.read_bytes().startswith(b"\x89PNG")
    said = compare_runs([run, other])
    assert said.options == {"optim.lr": ("0.002", "0.5")}
    assert said.results["steps"] == ("2", "2") and "loss" in said.results
    assert str(compare_runs([run, other])) in capsys.readouterr().out


def test_unlike_runs_are_compared_with_a_sentence(run, tmp_path):
    tuned, begun = Run(tmp_path / "tuned"), Run(tmp_path / "begun")
    tuned.write_config({"model": "random:r2plus1d_4", "options": {"epochs": 1}})
    begun.write_config(run.config() | {"pretext": {"name": "clip_order"}})
    notes = " ".join(compare_runs([run, tuned, begun]).notes)
    for words in ("different pretexts", "Some are fine-tunings", f"{begun} is not finished", "has no records yet"):
        assert words in notes


@pytest.mark.parametrize(
    ("names", "out", "answer"),
    [(["a"], None, "two runs or more"), (["a", "no"], None, "is no run"), (["a", "a"], None, "named twice"),
     (["a", "b"], "x.txt", ".png, .pdf or .svg"), (["a", "b"], "x.png", "no curve to draw")],
)  # fmt: skip
def test_what_cannot_be_compared_is_a_sentence(names, out, answer, tmp_path):
    for name in "ab":
        Run(tmp_path / name).write_config({"steps": 1})
    with pytest.raises(UserError, match=answer):
        compare_runs([tmp_path / name for name in names], out)


def test_of_several_processes_one_tells_what_all_met(monkeypatch, capsys):
    for rank, said in (("0", True), ("1", False)):
        monkeypatch.setenv("RANK", rank)
        assert main(["pretrain", "--config", "nowhere"]) == 2
        assert ("no recipe or file 'nowhere'" in capsys.readouterr().err) == said


def test_a_mistake_that_the_first_process_meets_is_raised_on_all(monkeypatch):
    ranks = Ranks(rank=1, world_size=2)
    monkeypatch.setattr(Ranks, "share", lambda *_: (None, "The folder is not empty."))
    with pytest.raises(UserError, match="The folder is not empty"):
        ranks.first_does(lambda: pytest.fail("only the first process works"))


def test_a_dry_run_says_how_long_it_would_take(videos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pace, "READING_S", 0.0)
    monkeypatch.setattr(pace, "COMPUTING_S", 0.0)
    assert main(["pretrain", "--data", str(videos), "--dry-run", "--steps", "20", "--cache", "raw"]) == 0
    assert "Estimated time on this machine: about " in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_a_dry_run_of_few_samples_makes_no_copies_as_the_training_would(videos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["pretrain", "--data", str(videos), "--dry-run", "--steps", "1", "--batch-size", "4"]) == 0
    out = capsys.readouterr().out
    assert "No copies are made (raw copies of the 8 videos" in out and "would be made in" not in out


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_more_held_out_videos_than_there_are_is_a_sentence(more, videos, tmp_path, capsys):
    words = ["pretrain", "--data", str(videos), "--held-out", "800", "--out", str(tmp_path / "run"), *more]
    assert main(words) == 2
    assert "800 of 8 videos cannot be held out" in capsys.readouterr().err


def test_a_dry_run_without_videos_says_that_it_would_be_refused(videos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["pretrain", "--data", str(videos), "--dry-run", "--config", "paper", "--backbone", "r3d_10"]) == 0
    out = capsys.readouterr().out
    assert "8 videos would be left out; with --pretext." in out
    assert "0 videos would be trained on, about 0 held out." in out and "would be refused" in out


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("stepss: 3", "The recipe FILE has no option 'stepss'"),
        ("steps: many", "recipe FILE: steps must be a whole number"),
        ("small: 3", "FILE must hold a mapping of options under 'small:'"),
        ("paper: {steps: 3}", "FILE has no recipe under 'small:', but one under 'paper:'; name it FILE:paper."),
    ],
)
def test_a_wrong_recipe_is_told_by_its_file(text, words, tmp_path, capsys):
    file = write(tmp_path / "mine.yaml", text)
    assert main(["pretrain", "--data", "videos", "--config", str(file)]) == 2
    assert words.replace("FILE", str(file)) in capsys.readouterr().err


def test_a_recipe_without_a_name_is_a_sentence(capsys):
    assert main(["pretrain", "--data", "videos", "--config", ""]) == 2
    assert "--config needs a name" in capsys.readouterr().err


def test_another_word_behind_resume_is_a_sentence(tmp_path, capsys):
    assert main(["pretrain", "--out", str(tmp_path), "--resume", "maybe"]) == 2
    assert "--resume is given alone, or as --resume auto, not as '--resume maybe'" in capsys.readouterr().err


def test_minutes_become_steps_that_were_timed_here_and_the_same_line_resumes_them(
    videos, tmp_path, monkeypatch, capsys
):
    of_a_step = pace.Pace(reading_s=0.0, computing_s=3.0, workers=0, cores=1, shared=True)
    monkeypatch.setattr("ssl_video.pretraining.measure_pace", lambda *_a, **_k: of_a_step)
    line = ["pretrain", "--data", str(videos), "--out", str(tmp_path / "run"), "--resume", "auto", "--minutes", "0.15"]
    line += flags({name: value for name, value in (QUICK | TINY).items() if name != "steps"})
    assert main(line) == 0
    noted = Run(tmp_path / "run").config()
    assert (noted["steps"], noted["minutes"], noted["epochs"]) == (3, None, None)
    monkeypatch.setattr("ssl_video.pretraining.measure_pace", None)  # nothing is timed a second time
    assert main(line) == 0 and "is finished already" in capsys.readouterr().out
    assert main([*line, "--steps", "3"]) == 2 and "say one thing in two units" in capsys.readouterr().err
