"""The command line as users meet it: help, exit codes, one-line errors, and a tiny run end to end."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import save_file

from dynamix import checkpoint, cli, storage, trainer
from dynamix.config import change, tiny, to_json
from dynamix.data.mannequins import worlds
from dynamix.experiments import starts
from dynamix.experiments.bench import measure
from dynamix.experiments.datasets import METRICS, score


def dynamix(*arguments, cache=None, **variables):
    """`python -m dynamix ...` in a process of its own."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "120", "NO_COLOR": "1"} | variables
    if cache is not None:
        environment["DYNAMIX_CACHE"] = str(cache)
    command = [sys.executable, "-m", "dynamix", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=300)


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """A cache of worlds, a folder of worlds written by the command, and a run of one epoch on the latter."""
    home = tmp_path_factory.mktemp("cli")
    written = dynamix(
        "worlds", "--profile", "tiny", "--worlds", "plaza", "videos", "hall", "--out", home / "data"
    )
    assert written.returncode == 0, written.stderr
    assert written.stdout.split() == [str(home / "data" / name) for name in ("plaza", "videos", "hall")]
    trained = dynamix(
        "train", "--profile", "tiny", "--epochs", 1, "--data", home / "data", "--out", home / "run"
    )
    assert trained.returncode == 0, trained.stderr
    (home / "train.txt").write_text(trained.stdout + trained.stderr)
    return home


@pytest.fixture
def call(monkeypatch, capsys):
    """The command in this process: (exit code, stdout, stderr), as `sys.exit` would leave them."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["dynamix", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as exit:
            code = 1 if isinstance(exit.code, str) else exit.code or 0
            if isinstance(exit.code, str):
                print(exit.code, file=sys.stderr)
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    return run


def assert_one_line(code, err, *words):
    assert code == 1
    assert err.startswith("dynamix: ") and err.count("\n") == 1, err
    assert all(str(word) in err for word in words), err


# ---- help


def defaults(command):
    return {
        field.name: field.default
        for field in dataclasses.fields(command)
        if field.default is not dataclasses.MISSING
    }


def test_help_lists_every_command():
    shown = dynamix("--help")
    assert shown.returncode == 0 and shown.stderr == ""
    assert shown.stdout.startswith("usage: dynamix ") and all(name in shown.stdout for name in cli.COMMANDS)


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_of_each_command_shows_its_defaults(name):
    shown = dynamix(name, "--help")
    assert shown.returncode == 0 and shown.stderr == ""
    text = " ".join(shown.stdout.replace("│", " ").split())
    for option, value in defaults(cli.COMMANDS[name]).items():
        about = text.split(" --" + option.replace("_", "-") + " ")[-1].split(" --")[0]
        value = " ".join(map(str, value)) if isinstance(value, tuple) else value
        assert f"(default: {value}" in about, option


def test_help_is_quick():
    """Nothing heavy is imported before a command runs."""
    code = "import sys, dynamix.cli; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


WRONG_USAGE = [
    (),
    ("fly",),
    ("check",),
    ("export", "runs/x"),
    ("train", "--epochs", "many", "--out", "x"),
    ("demo", "--profile", "huge"),
]


@pytest.mark.parametrize("arguments", WRONG_USAGE)
def test_usage_errors(call, arguments):
    code, _, err = call(*arguments)
    assert code == 2 and "Traceback" not in err


# ---- errors


def test_an_error_is_one_line_and_exit_code_1(tmp_path):
    failed = dynamix("worlds", "--worlds", "atlantis", "--out", tmp_path / "w")
    assert_one_line(failed.returncode, failed.stderr, "unknown world 'atlantis'", "plaza", "videos")
    assert failed.stdout == "" and not (tmp_path / "w").exists()


def test_a_typo_in_a_setting_names_its_choices(tmp_path):
    failed = dynamix("train", "--out", tmp_path / "run", "--set", "opt.name=sdg")
    assert_one_line(failed.returncode, failed.stderr, "--set opt.name=sdg", "sgd, adamw, adam")


def test_debug_shows_the_traceback(tmp_path):
    failed = dynamix("evaluate", tmp_path / "nowhere", "--debug")
    assert failed.returncode == 1
    assert "Traceback" in failed.stderr and "FileNotFoundError" in failed.stderr


def test_debug_anywhere(call, tmp_path):
    with pytest.raises(FileNotFoundError):
        call("--debug", "evaluate", tmp_path / "nowhere")


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["evaluate", "TMP/nowhere"], ["no checkpoint at", "TMP/nowhere", "dynamix train"]),
        (["train", "--out", "TMP/run", "--profile", "huge"], ["unknown profile 'huge'", "tiny, mini"]),
        (["worlds", "--out", "TMP/w", "--profile", "huge"], ["unknown profile 'huge'"]),
        (["train", "--out", "TMP/run", "--epochs", "0"], ["epochs must be at least 1"]),
        (
            ["train", "--out", "TMP/run", "--set", "rm.tau_remove=0.7"],
            ["tau_remove (0.7) exceeds"],
        ),
        (["train", "--out", "TMP/run", "--set", "rm.tau=1"], ["--set rm.tau=1", "section.field=value"]),
        (["train", "--out", "TMP/run", "--sources", "mars"], ["unknown dataset 'mars'", "plaza"]),
        (["train", "--out", "TMP/run", "--sources", "market1501"], ["'market1501'", "--data"]),
        (["train", "--out", "TMP/run", "--protocol", "x"], ["unknown protocol 'x'", "cross-msmt17-merged"]),
        (["train", "--out", "TMP/run", "--weights", "TMP/w.pth"], ["TMP/w.pth"]),
        (["check", "TMP/none"], ["TMP/none"]),
        (["search", "TMP/none", "--gallery", "TMP/d"], ["--gallery", "--query"]),
        (["export", "TMP/none", "--out", "TMP/run"], ["no checkpoint at", "TMP/none"]),
        (["train", "--out", "TMP/run", "--data", "TMP/none"], ["TMP/none"]),
        (
            ["train", "--out", "TMP/run", "--data", "TMP/none", "--sources", "mars"],
            ["unknown dataset 'mars'"],
        ),
    ],
)
def test_errors_name_the_setting_or_file(call, tmp_path, arguments, words):
    (tmp_path / "d").mkdir()

    def swap(text):
        return text.replace("TMP", str(tmp_path))

    code, _, err = call(*map(swap, arguments))
    assert_one_line(code, err, *map(swap, words))
    assert not (tmp_path / "run").exists()  # nothing half-made is left


@pytest.fixture
def idle(monkeypatch, tmp_path):
    """Commands that begin to work fail in a way that is no error of the user's."""
    monkeypatch.setenv("DYNAMIX_CACHE", str(tmp_path / "cache"))
    for module, name in (
        (worlds, "_publish"),
        (trainer, "train"),
        (measure, "machine"),
        (starts, "_trained"),
    ):
        monkeypatch.setattr(module, name, lambda *_, **__: pytest.fail("began to work"))


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["train", "--out", "FILE/run"], ["FILE is no folder", "FILE/run"]),
        (["train", "--out", "FILE"], ["cannot write", "FILE is no folder"]),
        (["train", "--out", "TMP/blocked"], ["TMP/blocked/result.json is a folder", "name a file"]),
        (["demo", "--out", "FILE/demo"], ["FILE is no folder"]),
        (["demo", "--out", "TMP/demo", "--runs", "FILE"], ["FILE is no folder"]),
        (["demo", "--out", "TMP/demo", "--record", "TMP"], ["TMP is a folder", "name a file"]),
        (["worlds", "--out", "FILE"], ["cannot write", "FILE is no folder"]),
        (["worlds", "--out", "FILE/below"], ["cannot write", "FILE is no folder"]),
        (["pretrain", "--profile", "tiny", "--out", "FILE"], ["cannot write", "FILE is no folder"]),
        (["reproduce", "table8", "--profile", "tiny", "--runs", "FILE"], ["FILE is no folder"]),
        (["report", "--out", "FILE/report.html"], ["cannot write FILE/report.html", "FILE is no folder"]),
        (["report", "--out", "TMP"], ["TMP is a folder", "TMP/report.html"]),
        (["bench", "--quick", "--json", "FILE/a.json"], ["cannot write FILE/a.json"]),
        (["bench", "--quick", "--figure", "FILE/a.png"], ["cannot write FILE/a.png"]),
        (["evaluate", "TMP", "--json", "TMP"], ["TMP is a folder", "name a file"]),
        (["evaluate", "TMP", "--json", "FILE/a.json"], ["cannot write FILE/a.json"]),
    ],
)
def test_places_are_looked_at_before_any_work(call, idle, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "blocked" / "result.json").mkdir(parents=True)

    def swap(text):
        return text.replace("FILE", str(tmp_path / "file")).replace("TMP", str(tmp_path))

    code, _, err = call(*map(swap, arguments))
    assert_one_line(code, err, *map(swap, words))
    assert names(tmp_path) == {"file", "blocked"} and (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["demo", "--seeds", "0", "-1"], ["--seeds", "at least 0", "-1"]),
        (["demo", "--seeds"], ["--seeds is empty"]),
        (["demo", "--jobs", "0"], ["--jobs", "at least 1", "got 0"]),
        (["train", "--seed", "-3"], ["--seed", "at least 0", "got -3"]),
        (["train", "--epochs", "0"], ["--epochs", "at least 1", "got 0"]),
        (["reproduce", "table8", "--seeds", "0"], ["--seeds", "at least 1", "got 0"]),
        (["reproduce", "table8", "--seeds", "-2"], ["--seeds", "at least 1", "got -2"]),
        (["reproduce", "table8", "--jobs", "-1"], ["--jobs", "at least 1", "got -1"]),
        (["reproduce", "table8", "--rows", "hard", "softer"], ["--rows", "'softer'", "'soft'"]),
        (["bench", "--ranks", "1", "0"], ["--ranks", "0 ranks", "1, 2, 4, 8"]),
        (["bench", "--link", "0"], ["--link", "positive", "got 0"]),
        (["bench", "--link", "nan"], ["--link", "positive", "got nan"]),
        (["bench", "--link", "inf"], ["--link", "finite", "got inf"]),
    ],
)
def test_numbers_out_of_range_are_refused_before_any_work(
    call, idle, tmp_path, monkeypatch, arguments, words
):
    monkeypatch.chdir(tmp_path)
    code, out, err = call(*arguments)
    assert_one_line(code, err, *words)
    assert out == "" and names(tmp_path) == set()


@pytest.mark.parametrize(
    "arguments",
    [["train", "--out", "TMP/run"], ["demo", "--out", "TMP/demo"], ["pretrain", "--profile", "tiny"]],
)
@pytest.mark.parametrize("place", ["file", "file/cache", "~nobody-of-this-name"])
def test_a_cache_that_cannot_be_written_names_the_remedy(call, tmp_path, monkeypatch, arguments, place):
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DYNAMIX_CACHE", place if place.startswith("~") else str(tmp_path / place))
    code, _, err = call(*(argument.replace("TMP", str(tmp_path)) for argument in arguments))
    assert_one_line(code, err, "set DYNAMIX_CACHE to a folder with room")


def test_the_home_folder_in_a_path_is_found(call, home, monkeypatch):
    """The shell leaves the ~ of --data=~/x as it is."""
    monkeypatch.setenv("HOME", str(home))
    code, out, err = call("evaluate", "~/run", "--targets", "hall", "--data=~/data", "--json=~/home.json")
    assert code == 0 and "hall" in out, err
    assert (home / "home.json").exists() and not Path("~").exists()
    asked = cli._prepared(cli.Reproduce(names=("all",), data=Path("~/a"), weights=(Path("~/b"), Path("c"))))
    assert asked.data == home / "a" and asked.weights == (home / "b", Path("c"))


def test_a_console_without_unicode(home, tmp_path):
    """Letters that it does not have are replaced: in results, progress bars, help and errors."""
    data = tmp_path / "größe"
    data.mkdir()
    (data / "hall").symlink_to(home / "data" / "hall")
    ascii_only = {
        "PYTHONIOENCODING": "ascii:strict",
        "LC_ALL": "C",
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
    }
    shown = dynamix(
        "evaluate", home / "run", "--targets", "hall", "--data", data, "--json", data / "ü.json", **ascii_only
    )
    assert shown.returncode == 0 and "?.json" in shown.stdout and (data / "ü.json").exists(), shown.stderr
    shown = dynamix("evaluate", home / "run", "--targets", "hall", "--data", data / "ä", **ascii_only)
    assert_one_line(shown.returncode, shown.stderr, "no folder")


@dataclasses.dataclass
class Contradicting:
    """A command that builds an impossible config."""

    def __call__(self) -> None:
        change(tiny, rm__tau_remove=0.9)


@dataclasses.dataclass
class Interrupted:
    """A command that the user stops."""

    def __call__(self) -> None:
        raise KeyboardInterrupt


def test_settings_that_contradict_each_other(call, monkeypatch):
    monkeypatch.setitem(cli.COMMANDS, "train", Contradicting)
    code, _, err = call("train")
    assert_one_line(code, err, "rm.tau_remove (0.9) exceeds rm.tau_rel (0.6)", "lower tau_remove")


def test_interrupt_says_how_to_go_on(call, monkeypatch):
    monkeypatch.setitem(cli.COMMANDS, "train", Interrupted)
    assert_one_line(*call("train")[::2], "interrupted", "same command again")


# ---- a run


def test_worlds_are_the_cached_ones(home):
    """`worlds --out` writes what the cache would hold, whole and in real layouts."""
    assert sorted(p.name for p in (home / "data").iterdir()) == ["hall", "plaza", "videos"]
    assert {"query", "bounding_box_train", "bounding_box_test", "truth.npz"} <= names(home / "data" / "hall")
    assert {"lmdb", "keys.pkl", "truth.npz"} <= names(home / "data" / "videos")


def names(folder):
    return {path.name for path in folder.iterdir()}


def test_worlds_refuse_to_overwrite(call, home):
    before = (home / "data" / "hall" / "truth.npz").stat().st_mtime_ns
    code, out, err = call(
        "worlds", "--profile", "tiny", "--worlds", "station", "hall", "--out", home / "data"
    )
    assert_one_line(code, err, home / "data" / "hall", "not empty", "remove it or choose another folder")
    assert out == "" and not (home / "data" / "station").exists()
    assert (home / "data" / "hall" / "truth.npz").stat().st_mtime_ns == before


def test_train_says_what_it_did(home):
    shown = (home / "train.txt").read_text()
    assert "640 images" in shown and "40 videos" in shown and "epoch 0: loss" in shown
    assert "30/30" in shown and f"trained: {home / 'run'}" in shown
    assert {checkpoint.NAME, "config.json", trainer.LOG} <= names(home / "run")
    assert checkpoint.load(home / "run").config == change(tiny, epochs=1)


def test_train_again_has_nothing_to_do(call, home):
    before = (home / "run" / checkpoint.NAME).stat().st_mtime_ns
    code, out, _ = call(
        "train", "--profile", "tiny", "--epochs", 1, "--data", home / "data", "--out", home / "run"
    )
    assert code == 0 and "trained:" in out
    assert (home / "run" / checkpoint.NAME).stat().st_mtime_ns == before


def test_train_refuses_a_folder_with_other_settings(call, home):
    code, _, err = call("train", "--profile", "tiny", "--data", home / "data", "--out", home / "run")
    assert_one_line(code, err, home / "run", "other settings (epochs)")


def table_of(text):
    """World -> its numbers; what matched of weights may stand before."""
    header, *lines = text[text.index("    ") :].splitlines()
    assert header.split() == ["rank-1", "rank-5", "rank-10", "mAP", "mINP", "queries", "gallery"]
    return {line.split()[0]: line.split()[1:] for line in lines}


def test_evaluate_prints_the_table(home):
    """From the benchmark in the cache; the folder written by the command holds the same images."""
    shown = dynamix("evaluate", home / "run", "--targets", "hall", cache=home / "cache")
    assert shown.returncode == 0, shown.stderr
    encoder, config = checkpoint.load_encoder(home / "run")
    scores = score(encoder, config, home / "data" / "hall", "hall", next(encoder.parameters()).device)
    percents = [f"{getattr(scores, metric):.1%}" for metric in METRICS]
    assert table_of(shown.stdout) == {"hall": [*percents, str(scores.valid_queries), str(scores.gallery)]}
    assert (home / "cache" / worlds.key("hall", config.mannequins) / "hall").is_dir()


def test_evaluate_takes_the_checkpoint_file(call, home):
    code, out, _ = call(
        "evaluate", home / "run" / checkpoint.NAME, "--targets", "hall", "--data", home / "data"
    )
    assert code == 0 and list(table_of(out)) == ["hall"]


def test_evaluate_unknown_targets(call, home):
    code, _, err = call("evaluate", home / "run", "--targets", "atlantis")
    assert_one_line(code, err, "unknown dataset 'atlantis'", "station")
    code, _, err = call("evaluate", home / "run", "--targets", "atlantis", "--data", home / "data")
    assert_one_line(code, err, "unknown dataset 'atlantis'")
    code, _, err = call("evaluate", home / "run", "--targets", "videos", "--data", home / "data")
    assert_one_line(code, err)


def test_damaged_checkpoint(call, home, tmp_path):
    whole = (home / "run" / checkpoint.NAME).read_bytes()
    for damaged in (whole[: len(whole) // 2], b"\0" * 100, b""):
        (tmp_path / checkpoint.NAME).write_bytes(damaged)
        code, _, err = call("evaluate", tmp_path)
        assert_one_line(code, err, tmp_path / checkpoint.NAME, "delete it and train again")


def test_checkpoint_of_another_network(call, home, tmp_path):
    """Whole, but its weights are not those of the encoder that its config asks for."""
    saved = checkpoint.load(home / "run")
    dropped = next(name for name in saved.tensors if name.startswith("momentum.") and name.endswith("weight"))
    tensors = {name: value for name, value in saved.tensors.items() if name != dropped}
    metadata = {"config": to_json(saved.config), "epoch": str(saved.epoch), "queue": json.dumps(saved.queue)}
    save_file(tensors, tmp_path / checkpoint.NAME, metadata)
    code, _, err = call("evaluate", tmp_path)
    assert_one_line(code, err, tmp_path / checkpoint.NAME, dropped.removeprefix("momentum."))


def test_damaged_data(call, home, tmp_path):
    (tmp_path / "plaza").symlink_to(home / "data" / "plaza")
    (tmp_path / "videos" / "lmdb").mkdir(parents=True)
    (tmp_path / "videos" / "keys.pkl").write_bytes((home / "data" / "videos" / "keys.pkl").read_bytes())
    (tmp_path / "videos" / "lmdb" / "data.mdb").write_bytes(b"\0" * 8192)
    code, _, err = call("train", "--profile", "tiny", "--data", tmp_path, "--out", tmp_path / "run")
    assert code == 1 and "Traceback" not in err
    assert str(Path("videos") / "lmdb") in err.splitlines()[-1]


def test_train_scores_its_targets(call, home, tmp_path):
    options = ("--profile", "tiny", "--epochs", 1, "--set", "iterations=2", "--data", home / "data")
    code, out, err = call("train", *options, "--targets", "hall", "--out", tmp_path / "run")
    assert code == 0, err
    assert "hall" in json.loads((tmp_path / "run" / "result.json").read_text())["scores"]
    code, out, _ = call("train", *options, "--targets", "hall", "--plan", "--out", tmp_path / "other")
    assert code == 0 and "1 epochs x 2 = 2 of 64 images" in out and not (tmp_path / "other").exists()


def test_targets_are_looked_at_before_training(call, home, tmp_path):
    """Absent ones, those without a gallery, and images that cannot be read."""
    for name in ("plaza", "videos"):
        (tmp_path / name).symlink_to(home / "data" / name)
    options = ("train", "--profile", "tiny", "--epochs", 1, "--data", tmp_path, "--targets", "hall")
    code, _, err = call(*options, "--out", tmp_path / "run")
    assert_one_line(code, err, "hall")
    shutil.copytree(home / "data" / "hall", tmp_path / "hall")
    victim = sorted((tmp_path / "hall" / "bounding_box_test").iterdir())[-1]
    victim.write_bytes(victim.read_bytes()[:99])
    code, _, err = call(*options, "--out", tmp_path / "run")
    assert code == 1 and str(victim) in err.splitlines()[-1]
    shutil.rmtree(victim.parent)
    code, _, err = call(*options, "--out", tmp_path / "run")
    assert_one_line(code, err, victim.parent)
    assert not (tmp_path / "run").exists()


def test_train_names_its_own_folder(call, home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ("--profile", "tiny", "--epochs", 1, "--set", "iterations=2", "--data", home / "data")
    code, out, err = call("train", *options, "--single")
    assert code == 0, err
    (made,) = (tmp_path / "runs").iterdir()
    assert made.name.startswith("tiny-") and made.name.endswith("-plaza") and str(made.name) in out


def test_protocols_are_listed(call):
    code, out, _ = call("train", "--protocol", "list")
    assert code == 0 and "cross-msmt17-merged" in out and "Table 2b" in out


def test_a_protocol_gives_what_is_not_given():
    job = cli.Train(profile="tiny", protocol="cross-market1501").job()
    assert [str(part) for part in job.sources] == ["market1501"] and job.protocol == "cross-market1501"
    assert [part.name for part in job.targets] == ["cuhk03_detected", "msmt17"]
    assert [part.name for part in job.single] == ["luperson_nl"]
    job = cli.Train(profile="tiny", protocol="cross-market1501", targets=("dukemtmc",), single=()).job()
    assert [part.name for part in job.targets] == ["dukemtmc"] and job.single == ()
    assert job.config.batch.ids_single == 0


def test_weights_choose_the_encoder(home):
    """A run's checkpoint as weights: the encoder is built as the file needs it, whatever the profile."""
    train = cli.Train(profile="gpu", weights=home / "run" / checkpoint.NAME)
    job = train.job()
    assert job.config.encoder.name == "ibn_cnn" and len(job.config.encoder.weights) == 16
    assert job.config.profile == "gpu"


def test_training_says_what_matched_of_its_weights(call, home, tmp_path):
    options = ("--profile", "tiny", "--epochs", 1, "--set", "iterations=2", "--data", home / "data")
    weights = home / "run" / checkpoint.NAME
    code, out, err = call("train", *options, "--weights", weights, "--out", tmp_path / "run")
    assert code == 0, err
    assert f"{weights}: " in out and "100.0 % of the values" in out
    kept = json.loads((tmp_path / "run" / "result.json").read_text())
    assert kept["weights"] == checkpoint.NAME and len(kept["config"]["encoder"]["weights"]) == 16


def test_evaluate_keeps_the_scores(call, home, tmp_path):
    kept = tmp_path / "scores.json"
    code, out, _ = call(
        "evaluate", home / "run", "--targets", "hall", "--data", home / "data", "--json", kept
    )
    result = json.loads(kept.read_text())
    assert (
        code == 0
        and table_of(out.rpartition("kept")[0])["hall"][0] == f"{result['scores']['hall']['rank1']:.1%}"
    )
    assert result["provenance"]["torch"]


def test_scores_are_kept_when_a_later_target_fails(call, home, tmp_path):
    """One that is absent is missed before anything is embedded; a broken image costs only its own target."""
    options = ("evaluate", home / "run", "--targets", "hall", "plaza", "--data", tmp_path)
    (tmp_path / "hall").symlink_to(home / "data" / "hall")
    code, out, err = call(*options, "--json", tmp_path / "scores.json")
    assert_one_line(code, err, "plaza")
    assert out == "" and not (tmp_path / "scores.json").exists()
    shutil.copytree(home / "data" / "plaza", tmp_path / "plaza")
    victim = next((tmp_path / "plaza" / "query").iterdir())
    victim.write_bytes(victim.read_bytes()[:99])
    code, out, err = call(*options, "--json", tmp_path / "scores.json")
    assert code == 1 and str(victim) in err.splitlines()[-1]
    assert list(table_of(out)) == ["hall"]
    assert list(json.loads((tmp_path / "scores.json").read_text())["scores"]) == ["hall"]


def test_check_tells_right_from_wrong(call, home, tmp_path):
    code, out, _ = call("check", home / "data")
    assert code == 0 and "hall (Mannequins)" in out and "3 datasets, no problems" in out
    code, out, _ = call("check", home / "data", "--json")
    assert code == 0 and len(json.loads(out)["datasets"]) == 3
    shutil.copytree(home / "data" / "hall", tmp_path / "hall")
    victim = next((tmp_path / "hall" / "query").iterdir())
    victim.write_bytes(b"")
    code, out, _ = call("check", tmp_path)
    assert code == 1 and victim.name in out


@pytest.fixture
def weights(home, tmp_path):
    """A file of weights, and one that lacks a tensor of them."""
    saved = checkpoint.load(home / "run")
    momentum = {name: value for name, value in saved.tensors.items() if name.startswith("momentum.")}
    storage.write(momentum, tmp_path / "w.safetensors", {"config": to_json(saved.config)})
    momentum.pop("momentum.body.layers.0.weight")
    storage.write(momentum, tmp_path / "lacking.safetensors", {"config": to_json(saved.config)})
    return tmp_path / "w.safetensors"


def uses(home, out):
    """The commands that take weights as they are, with their other options."""
    crops = home / "data" / "hall" / "query"
    return (
        ("evaluate", "--targets", "hall", "--data", home / "data"),
        ("search", "--gallery", crops, "--query", next(crops.iterdir()), "--out", out, "--sheets", 0),
        ("export", "--out", out, "--formats", "timm"),
    )


@pytest.mark.parametrize("which", [0, 1, 2])
def test_what_matched_is_said(call, home, weights, tmp_path, which):
    command, *options = uses(home, tmp_path / "out")[which]
    code, out, err = call(command, weights, *options)
    assert code == 0, err
    assert out.startswith(f"{weights}: a run of this package\nmatched ") and "100.0 % of the values\n" in out
    code, out, err = call(command, weights.with_name("lacking.safetensors"), *options)
    assert_one_line(code, err, "lacking.safetensors", "another network: missing body.layers.0.weight;")
    assert "allow" not in err and "--" not in err


def test_training_may_start_from_what_fits(call, home, weights, tmp_path):
    lacking = weights.with_name("lacking.safetensors")
    train = ("train", "--profile", "tiny", "--epochs", 1, "--set", "iterations=2", "--data", home / "data")
    train = (*train, "--weights", lacking, "--out", tmp_path / "run")
    code, _, err = call(*train)
    assert code == 1 and "missing body.layers.0.weight;" in err.splitlines()[-1]
    assert err.splitlines()[-1].endswith(", or start from the part that fits (--allow-partial)")
    code, out, err = call(*train, "--allow-partial")
    assert code == 0, err
    words = "features are not those of these weights' own network: missing body.layers.0.weight"
    assert words in out and "missing, left as they were: body.layers.0.weight" in out


def test_search_and_export_work_on_a_run(call, home, tmp_path):
    gallery = home / "data" / "hall" / "bounding_box_test"
    query = next((home / "data" / "hall" / "query").iterdir())
    code, out, err = call(
        "search",
        home / "run",
        "--gallery",
        gallery,
        "--query",
        query,
        "--top",
        3,
        "--out",
        tmp_path / "found",
    )
    assert code == 0, err
    assert names(tmp_path / "found") == {"ranking.png", "ranking.csv"}
    assert len((tmp_path / "found" / "ranking.csv").read_text().splitlines()) == 4
    code, out, err = call("export", home / "run", "--out", tmp_path / "model", "--formats", "timm")
    assert code == 0, err
    assert names(tmp_path / "model") == {"model.safetensors", "config.json"}
    code, out, _ = call(
        "evaluate", tmp_path / "model" / "model.safetensors", "--targets", "hall", "--data", home / "data"
    )
    whole = call("evaluate", home / "run", "--targets", "hall", "--data", home / "data")[1]
    assert code == 0 and table_of(out) == table_of(whole)


def test_nothing_asked_is_an_error(call, home, tmp_path):
    assert_one_line(*call("evaluate", home / "run", "--targets")[::2], "name datasets with --targets")
    code, _, err = call("export", home / "run", "--out", tmp_path / "m", "--formats")
    assert_one_line(code, err, "--formats")
    (tmp_path / "file").write_text("")
    code, _, err = call("export", home / "run", "--out", tmp_path / "file")
    assert_one_line(code, err, tmp_path / "file", "name a folder with --out")


def test_a_warning_is_one_line(home, tmp_path):
    shutil.copytree(home / "data" / "hall", tmp_path / "hall")
    victim = next((tmp_path / "hall" / "query").iterdir())
    victim.write_bytes(b"no image")
    shown = dynamix(
        "evaluate", home / "run", "--targets", "hall", "--data", tmp_path, "--on-bad-image", "skip"
    )
    assert shown.returncode == 0
    said = [line for line in shown.stderr.splitlines() if victim.name in line]
    assert (
        len(said) == 1 and said[0].startswith("dynamix: skipped 1 unreadable") and ".py:" not in shown.stderr
    )


def test_no_single_camera_data():
    import tyro

    assert tyro.cli(cli.Train, args=["--out", "x", "--single"]).single == ()
