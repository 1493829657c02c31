"""`reproduce`: runs are shared, kept, resumed and refused; a failure stays in its row."""

import dataclasses
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dynamix import checkpoint, data, encoders
from dynamix import config as settings
from dynamix.config import change, to_json
from dynamix.experiments import (
    estimate,
    everything,
    kept,
    ledger,
    measured,
    records,
    reproduce,
    run,
    starts,
    tables,
)
from dynamix.experiments.reproduce import Request
from dynamix.experiments.spec import Spec
from tests.layouts import large, luperson

QUALITY = dict.fromkeys(("precision", "recall", "f1", "v_measure", "junk_removed", "good_removed"), 0.5)
FULL, CHOSEN = "profile encoder: + RM", "tau_merge=.8 video"


def result(spec, seconds=100.0, rank1=0.5):
    """What a run of `spec` would leave."""
    scores = {world: {"rank1": rank1, "mAP": rank1 / 2, "mINP": 0.1, "queries": 4} for world in spec.score_on}
    point = {
        "epoch": 0,
        "terms": {"total": 1.23456},
        "seconds": 1.0,
        "quality_after": QUALITY,
        "scores": scores,
    }
    return {
        "key": spec.key, "name": spec.name, "profile": spec.config.profile, "seed": spec.config.seed,
        "labels": spec.labels, "start": spec.start, "sources": list(spec.sources), "scores": scores,
        "single": list(spec.single) if spec.config.batch.ids_single else [], "quality_before": QUALITY,
        "quality_after": QUALITY, "report": {"images_before": 10, "images_after": 9, "pids_before": 4,
        "pids_after": 3}, "epochs": [point], "seconds": seconds, "inference_ms": 1.0,
        "config": json.loads(to_json(spec.config)), "provenance": {"commit": "x"},
    }  # fmt: skip


@pytest.fixture
def request_of(tmp_path, monkeypatch):
    """A request whose files all lie in a folder of the test."""
    monkeypatch.setenv("DYNAMIX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(starts, "make", lambda config, **_: tmp_path)
    monkeypatch.setattr("dynamix.experiments.spec.Spec.roots", lambda spec: {})

    def make(*names, **options):
        places = {"runs": tmp_path / "runs", "results": tmp_path / "results", "out": tmp_path / "out"}
        return Request(names=names, **places, **options)

    return make


@pytest.fixture
def ran(monkeypatch):
    """Runs end at once; the list says which were asked for. Names in `ran.fails` fail."""
    asked = Asked()

    def run_all(specs, folder, **_):
        for spec in specs:
            asked.append(spec)
            failed = any(name in spec.name for name in asked.fails)
            yield spec, ValueError("no such\nthing") if failed else result(spec)

    monkeypatch.setattr(reproduce, "run_all", run_all)
    return asked


class Asked(list):
    fails: tuple[str, ...] = ()


def test_rows_of_several_tables_share_runs(request_of):
    one, both = (request_of(*names, seeds=2).ledger() for names in (("table3",), ("table3", "table10")))
    assert one.rows["table3", FULL] == both.rows["table10", CHOSEN]
    assert len(one.rows["table3", FULL]) == 2
    # All rows of Table 10 but the chosen one and the three that every ablation carries are new.
    new = {row for table, row in both.rows if table == "table10"} - {CHOSEN, *(r.name for r in checks())}
    assert len(both.entries) == len(one.entries) + 2 * len(new)


def checks():
    return [row for row in tables.table("table10").rows if row.kind in ("control", "bound")]


def test_what_has_run_is_kept_and_not_run_again(request_of, ran):
    request = request_of("table8", seeds=2)
    reproduce.run_missing(request, request.ledger())
    count = len(ran)
    assert count == len(request.ledger().entries) and not request.ledger().missing
    files = sorted(request.results.iterdir())
    assert len(files) == count and all(path.stat().st_size < 8_000 for path in files)
    files[3].unlink()
    made = request.ledger()
    assert [entry.spec.key for entry in made.missing] == [files[3].stem]
    reproduce.run_missing(request, made)
    assert len(ran) == count + 1 and sorted(request.results.iterdir()) == files


def test_more_seeds_run_only_what_is_new(request_of, ran):
    one = request_of("table8").ledger()
    reproduce.run_missing(request_of("table8"), one)
    assert {spec.config.seed for spec in ran} == {0}
    more = request_of("table8", seeds=3)
    reproduce.run_missing(more, more.ledger())
    assert len(ran) == 3 * len(one.entries)


def test_asking_for_less_does_not_hide_what_is_there(request_of, ran):
    reproduce.reproduce(request_of("table8", seeds=2))
    less = request_of("table8", seeds=1, rows=("hard",))
    count = len(ran)
    reproduce.reproduce(less)
    assert len(ran) == count
    rows = (less.out / "table8.mini.md").read_text().splitlines()
    assert all("2 seeds" in row for row in rows if row.startswith(("| hard |", "| median |", "| soft |")))
    assert not any("not run" in row for row in rows if row.startswith("|"))


def test_rows_of_different_starts_are_refused(request_of):
    request = request_of("table8", seeds=2)
    one, two = (entry.spec for entry in request.ledger().missing[:2])
    for spec, weights in ((one, "a"), (two, "b")):
        started = replace(spec, config=change(spec.config, encoder__weights=weights))
        kept.keep(spec, result(started) | {"key": spec.key}, request.results)
    with pytest.raises(ValueError, match=r"started from different pre-trained weights \(a, b\)"):
        request.ledger()


def test_two_commands_do_not_train_one_run(small_config, tmp_path, monkeypatch):
    monkeypatch.setenv("DYNAMIX_CACHE", str(tmp_path / "cache"))
    spec = Spec(name="a", config=change(small_config, epochs=1, iterations=2), score_on=("hall",))
    with run._alone(tmp_path / spec.key), pytest.raises(RuntimeError, match=f"another process .*{spec.key}"):
        run.run(spec, tmp_path)
    assert run.run(spec, tmp_path)["scores"]


def test_only_the_asked_rows(request_of):
    made = request_of("table8", rows=("median", "hard"), seeds=3).ledger()
    assert set(made.rows) == {("table8", "median"), ("table8", "hard")} and len(made.entries) == 6


def test_a_failed_run_stays_in_its_row_and_the_others_are_written(request_of, ran):
    ran.fails = ("'hard' (seed 1)",)
    request = request_of("table8", seeds=2)
    with pytest.raises(RuntimeError, match="failed: ValueError: no such"):
        reproduce.reproduce(request)
    lines = (request.out / "table8.mini.md").read_text().splitlines()
    row = next(line for line in lines if line.startswith("| hard |"))
    assert "failed" in row and "no such" in "\n".join(lines)
    assert "not run" not in next(line for line in lines if line.startswith("| median |"))
    for kind in ("csv", "png"):
        assert (request.out / f"table8.mini.{kind}").stat().st_size > 100
    ran.fails = ()  # the next time only that one runs
    reproduce.reproduce(request)
    assert ran[-1].config.seed == 1 and "hard" in ran[-1].name
    assert len(ran) == len(request.ledger().entries) + 1


def test_a_failure_is_remembered_until_the_run_succeeds(request_of, ran):
    """The report runs nothing, and a command for another row neither: both must not call it "not run"."""
    ran.fails = ("'hard' (seed 0)",)
    with pytest.raises(RuntimeError, match="failed"):
        reproduce.reproduce(request_of("table8", rows=("hard",)))
    found = reproduce.found_of(tables.table("table8"), request_of("table8").ledger())
    assert [each.why for each in found["hard"]] == ["ValueError: no such\nthing"]
    reproduce.reproduce(request_of("table8", rows=("soft",)))
    lines = (request_of().out / "table8.mini.md").read_text().splitlines()
    assert "failed" in next(line for line in lines if line.startswith("| hard |"))
    ran.fails = ()
    reproduce.reproduce(request_of("table8", rows=("hard",)))
    assert "failed" not in (request_of().out / "table8.mini.md").read_text()


@pytest.mark.parametrize("name", ["out", "results", "runs"])
def test_a_folder_that_cannot_be_written_is_named_before_training(request_of, ran, capsys, name):
    request = request_of("table8")
    getattr(request, name).write_text("a file")
    with pytest.raises(NotADirectoryError, match=f"cannot write .*{name} is no folder"):
        reproduce.reproduce(request)
    assert not ran and capsys.readouterr().out == ""
    reproduce.reproduce(request, plan=True)  # which writes nothing


def test_a_table_named_twice_is_one(request_of, ran):
    reproduce.reproduce(request_of("table8", "table8"))
    assert len(ran) == len(request_of("table8").ledger().entries)
    assert request_of("table8", "table8").ledger().rows == request_of("table8").ledger().rows


def test_settings_of_a_profile_do_not_run_in_another(request_of, tmp_path, vit_file, monkeypatch):
    monkeypatch.setattr(ledger.Present, "why_not", lambda present, spec: "")
    for request in (
        request_of("regimes", "mistakes", profile="gpu"),
        request_of("regimes", "mistakes", profile="paper", folder=tmp_path, weights=(vit_file,)),
    ):
        made = request.ledger()
        assert (
            not made.entries and "written for the tiny and mini profile" in made.why("regimes").popitem()[1]
        )
        with pytest.raises(ValueError, match="nothing of this can run here: its settings"):
            reproduce.reproduce(request)


def test_how_images_are_read_is_no_part_of_a_run(request_of):
    plain = request_of("table8").ledger()
    made = request_of("table8", reading=("workers=9", "memory_gb=0.5", "on_bad_image=skip")).ledger()
    assert list(made.entries) == list(plain.entries)
    assert {entry.spec.config.workers for entry in made.entries.values()} == {9}
    spec = made.missing[0].spec
    kept.keep(spec, result(spec), request_of().results)
    assert len(request_of("table8").ledger().missing) == len(plain.missing) - 1
    with pytest.raises(ValueError, match="--set epochs=3: .*workers, memory_gb, on_bad_image"):
        request_of("table8", reading=("epochs=3",)).ledger()


def test_the_plan_says_how_long_and_runs_nothing(request_of, ran, capsys, monkeypatch):
    monkeypatch.setattr(estimate, "runs", lambda specs: dict.fromkeys((s.key for s in specs), 7200.0))
    monkeypatch.setattr(estimate, "pretraining", lambda config: 600.0)
    request = request_of("table8", seeds=1)
    missing = len(request.ledger().missing)
    assert "--plan estimates it" in "\n".join(request.ledger().lines())
    reproduce.reproduce(request, plan=True)
    out = capsys.readouterr().out
    assert f"about {2 * missing:.1f} hours of one core" in out and not ran
    assert "~2.0 h each" in out and "~: a few steps of the encoder timed here" in out
    assert "pre-training" not in out  # its weights are shipped
    first = request.ledger().missing[0].spec
    kept.keep(first, result(first, seconds=3600.0), request.results)
    reproduce.reproduce(replace(request, jobs=2), plan=True)
    out = capsys.readouterr().out
    missing = len(request.ledger().missing)
    assert f"{missing} to run" in out and "1 are there (1.0 hours of one core)" in out and "~" not in out
    images = sum(run.images_of(entry.spec) for entry in request.ledger().missing) / run.images_of(first)
    assert f"about {images:.1f} hours of one core, {images / 2:.1f} with 2 at once" in out
    reproduce.reproduce(replace(request, names=("table8",), profile="tiny"), plan=True)
    assert "first    ~10.0 min       pre-training tiny-ibn_cnn-" in capsys.readouterr().out


def test_all_asks_one_seed_of_the_tables_at_the_end(request_of, ran, capsys, monkeypatch):
    monkeypatch.setattr(reproduce, "write_tables", lambda *_: ())
    monkeypatch.setattr(reproduce, "draw_figures", lambda *_: ())
    reproduce.reproduce(request_of("all", seeds=2))
    said = capsys.readouterr().out
    assert "of 2 seeds, one in the tables at the end:" in said and "not drawn: claims.mini.png (noise" in said
    seeds = [
        {spec.config.seed for spec in ran if spec.name.startswith(name)}
        for name in ("table8", "remix.table8")
    ]
    assert seeds == [{0, 1}, {0}]
    reproduce.reproduce(request_of("remix.table8", seeds=2))  # by its name it has the other as well
    assert ran[-1].config.seed == 1 and "remix.table8" in ran[-1].name


def test_half_a_file_is_named(request_of):
    request = request_of("table8")
    spec = request.ledger().missing[0].spec
    request.results.mkdir()
    (request.results / f"{spec.key}.json").write_text('{"key": "mini')
    with pytest.raises(ValueError, match=rf"{spec.key}.json is not a result file.*delete it"):
        request.ledger()
    (request.results / f"{spec.key}.json").write_text('{"key": 3}')
    with pytest.raises(ValueError, match=rf"{spec.key}.json is no result of a run \(key is 3\).*delete it"):
        request.ledger()


def without(name):
    return lambda result: result.pop(name)


def changed(**changes):
    return lambda result: result.update(changes)


def scored(**changes):
    return lambda result: result["scores"]["hall"].update(changes)


@pytest.mark.parametrize(
    "damage, says",
    [
        (without("scores"), "it has no scores"),
        (without("seconds"), "it has no seconds"),
        (changed(seed="a"), "seed is 'a'"),
        (changed(seed=7), "seed is 7, that of its settings 0"),
        (changed(profile="tiny"), "profile is 'tiny', that of its settings 'mini'"),
        (changed(scores=[]), r"scores is \[\]"),
        (changed(scores={"hall": 3}), "rank1 on hall is None"),
        (scored(mAP=None), "mAP on hall is None, not a share"),
        (scored(mAP=50), "mAP on hall is 50"),
        (scored(mAP=-1), "mAP on hall is -1"),
        (scored(rank1=float("nan")), "rank1 on hall is nan"),
        (changed(seconds=float("nan")), "seconds is nan"),
        (changed(seconds=True), "seconds is True"),
        (changed(start="scratch"), "start is 'scratch', its key says"),
        (changed(sources=["mars"]), "unknown dataset 'mars'"),
    ],
)
def test_what_a_result_says_wrongly_is_named(request_of, damage, says):
    request = request_of("table8")
    spec = request.ledger().missing[0].spec
    kept.keep(spec, result(spec), request.results)
    assert len(request.ledger().missing) < len(request.ledger().entries)
    path = request.results / f"{spec.key}.json"
    held = json.loads(path.read_text())
    damage(held)
    path.write_text(json.dumps(held))
    with pytest.raises(ValueError, match=f"{path.name} is no result of a run \\({says}.*delete it") as error:
        request.ledger()
    assert "\n" not in str(error.value)


def test_a_broken_line_of_a_run_is_named(tmp_path):
    (tmp_path / "quality.jsonl").write_text('{"epoch": 0}\n{"epo')
    with pytest.raises(ValueError, match=r"quality.jsonl, line 2 is not whole .*delete the folder"):
        records.read_lines(tmp_path / "quality.jsonl")
    assert records.read_lines(tmp_path / "none.jsonl") == []


def test_a_measurement_that_is_not_whole_is_named(tmp_path):
    (tmp_path / "retrieval.cpu.json").write_text('{"row": {}}')
    with pytest.raises(ValueError, match="the retrieval measurement in .* is not whole .*measure again"):
        measured.read(tables.table("retrieval"), "mini", results=tmp_path)


def test_results_of_another_version_are_refused(request_of, monkeypatch):
    request = request_of("table8")
    for entry in request.ledger().missing:
        kept.keep(entry.spec, result(entry.spec), request.results)
    assert not request.ledger().missing
    monkeypatch.setattr(settings, "PROFILE_VERSION", settings.PROFILE_VERSION + 1)
    with pytest.raises(ValueError, match="made with another version of the settings.*delete it"):
        request.ledger()


def test_a_renamed_result_is_refused(request_of):
    request = request_of("table8")
    spec, other = (entry.spec for entry in request.ledger().missing[:2])
    kept.keep(spec, result(spec), request.results)
    (request.results / f"{spec.key}.json").rename(request.results / f"{other.key}.json")
    with pytest.raises(ValueError, match=f"holds the result of {spec.key}"):
        request.ledger()


def test_a_result_without_an_asked_world_runs_again(request_of):
    request = request_of("table8")
    spec = request.ledger().missing[0].spec
    kept.keep(spec, result(replace(spec, score_on=("hall",))), request.results)
    assert spec.key in {entry.spec.key for entry in request.ledger().missing}


def test_every_kind_of_run_is_recognized_by_its_file(request_of, ran):
    """Sources, labels, start: what is kept says which run it is of, for all tables."""
    request = replace(request_of(), names=tuple(tables.TABLES))
    made = request.ledger()
    for entry in made.entries.values():
        kept.keep(entry.spec, result(entry.spec), request.results)
    assert not request.ledger().missing  # nothing refused, nothing lost
    kinds = {
        (e.spec.start, e.spec.labels, e.spec.sources, e.spec.config.method) for e in made.entries.values()
    }
    assert {kind[0] for kind in kinds} == {"scratch", "pretrained"}
    assert {kind[1] for kind in kinds} == {"tracker", "clean", "whole", "truth"}
    assert ("plaza", "campus", "station") in {kind[2] for kind in kinds}


@pytest.mark.parametrize(
    "options, names, message",
    [
        ({}, ("tabel3",), "unknown table or figure 'tabel3'; there are all, table1"),
        ({"rows": ("nope",)}, ("table8",), "no row 'nope' in table8; there are 'hard'"),
        ({"profile": "paper"}, ("table8",), "say where with --data FOLDER"),
        ({"folder": Path(".")}, ("table8",), "leave --data out"),
        ({"profile": "huge"}, ("table8",), "unknown profile 'huge'"),
        ({"seeds": 0}, ("table8",), "at least 1; got 0"),
        ({}, (), "name what to reproduce: all, table1"),
        ({}, ("all", "tabel3"), "unknown table or figure 'tabel3'"),
        ({"jobs": 0}, ("table8",), "--jobs .* at least 1; got 0"),
        ({"rows": ("hard",)}, ("figure1",), "--rows 'hard': rows are of tables"),
    ],
)
def test_bad_requests(request_of, options, names, message):
    with pytest.raises(ValueError, match=message):
        reproduce.reproduce(request_of(*names, **options), plan=True)


def test_absent_data_is_said_before_anything_runs(tmp_path, monkeypatch, vit_file):
    monkeypatch.setattr(reproduce, "run_all", lambda *a, **k: pytest.fail("ran"))
    places = {"results": tmp_path / "r", "out": tmp_path, "weights": (vit_file,)}
    request = Request(names=("table8",), profile="paper", folder=tmp_path / "none", **places)
    with pytest.raises(FileNotFoundError, match="no folder .*none"):
        reproduce.run_missing(request, request.ledger())
    (tmp_path / "some" / "elsewhere").mkdir(parents=True)
    request = replace(request, folder=tmp_path / "some")
    with pytest.raises(ValueError, match="nothing of this can run here: .*is not there .*some"):
        reproduce.reproduce(request, plan=True)


def test_rows_without_their_dataset_wait_and_the_others_do_not(request_of, ran, tmp_path, vit_file):
    """DukeMTMC is withdrawn: who has all the others still gets every row that needs none of it."""
    folder = tmp_path / "data"
    for name in ("market1501", "msmt17_merged"):
        {"market1501": large.write_market1501, "msmt17_merged": large.write_msmt17}[name](folder / name)
    luperson.write_luperson_nl(folder / "luperson_nl")
    request = request_of("table8", "table2b", profile="paper", folder=folder, weights=(vit_file,))
    made = request.ledger()
    assert ("table8", "hard") in made.rows and not made.why("table8").get("hard")
    assert "is not there" in made.why("table2b")["DynaMix to DukeMTMC-reID"]
    assert any("cuhk03_detected is not there" in line for line in made.lines())
    spec = made.missing[0].spec
    kept.keep(spec, result(spec) | {"trained_on": counts(spec)}, request.results)
    assert len(request.ledger().missing) == len(made.missing) - 1
    small = counts(spec)
    small[0]["images"] -= 1
    kept.keep(spec, result(spec) | {"trained_on": small}, request.results)
    with pytest.raises(ValueError, match=f"trained on another msmt17_merged .*images {small[0]['images']},"):
        request.ledger()


def counts(spec):
    """What a run notes of the data it trains on."""
    parts, found = [*spec.trained_on[0], *spec.trained_on[1]], []
    for part in parts:
        table = data.load(part.name, spec.folder / part.name, part.split)
        found.append(dataclasses.asdict(data.statistics(table)[0]) | {"note": table.notes[0]})
    return found


@pytest.fixture(scope="module")
def vit_file(tmp_path_factory):
    """Weights of ViT-B as they are published, made up."""
    encoder = encoders.build(tiny_vit())
    file = tmp_path_factory.mktemp("weights") / "vit.pth"
    torch.save({name.removeprefix("body."): value for name, value in encoder.state_dict().items()}, file)
    return file


def test_real_data_have_no_truth_and_start_from_given_weights(request_of, tmp_path, vit_file, monkeypatch):
    monkeypatch.setattr(ledger.Present, "why_not", lambda present, spec: "")
    file = vit_file
    request = request_of("table3", profile="paper", folder=tmp_path, weights=(file,))
    made = request.ledger()
    assert "true identities" in made.absent["table3", "true identities"]
    assert "pretrained weights of resnet50_ibn" in made.absent["table3", "ReMix, given labels"]
    specs = [entry.spec for entry in made.entries.values()]
    assert ("table3", "+ RM") in made.rows and {spec.sources for spec in specs} == {("msmt17_merged",)}
    assert {spec.weights for spec in specs} == {file} and {spec.score_on for spec in specs} == {
        ("market1501",)
    }
    assert {spec.config.encoder.weights for spec in specs} == {encoders.fingerprint(file)}
    assert any("nobody knows" in line for line in made.lines())
    assert all(spec.config.encoder.image == (256, 128) for spec in specs)  # the row's, not the file's
    assert not replace(request, names=("remix.table2a",)).ledger().entries  # no start without a file
    with pytest.raises(ValueError, match="both hold weights of vit_base"):
        replace(request, weights=(file, file)).ledger()
    kept.keep(specs[0], result(specs[0]), request.results)  # and such a result is recognized
    assert len(request.ledger().missing) == len(specs) - 1


def tiny_vit():
    """ViT-B, on images of one patch."""
    return change(settings.paper, encoder__image=(16, 16)).encoder


def test_names_of_a_request():
    every, figures = reproduce.named(["all"])
    assert set(every) == set(tables.TABLES) and len(every) == len(set(every)) and every[0] == "table3"
    assert "figure4" in figures
    assert reproduce.named(["table8", "figure1"]) == (("table8",), ("figure1",))


def test_a_run_again_gives_the_same_digits(small_config, tmp_path, monkeypatch):
    """Deleting a result and its run reproduces it to the last digit."""
    monkeypatch.setenv("DYNAMIX_CACHE", str(tmp_path / "cache"))
    config = change(small_config, epochs=1, iterations=2)
    row = tables.row(tables.table("table8"), "random, no queue")
    spec = ledger.spec_of(tables.table("table8"), row, "tiny", 0)
    spec = replace(spec, config=config, start="scratch", score_on=("hall",))
    twice = [kept.keep(spec, run.run(spec, tmp_path / name), tmp_path / name) for name in ("a", "b")]
    for name in ("scores", "quality_after", "epochs", "report", "config"):
        assert twice[0][name] == twice[1][name]
    assert records.read(tmp_path / "a" / f"{spec.key}.json") == twice[0]


def test_one_page_shows_everything_that_is_there(request_of, ran, tmp_path, monkeypatch):
    request = request_of("table8")
    reproduce.reproduce(request)
    monkeypatch.setattr(everything, "PICTURES", tmp_path)
    monkeypatch.setattr(measured, "read", lambda *args, **options: {})
    page = everything.report_page(request, tmp_path / "report.html")
    html = page.read_text()
    assert all(f'id="{anchor}"' in html for anchor in ("table3", "table8", "remix-table4"))
    assert html.count("data:image/png;base64") == 1 and "not run" in html
    assert "Left out until all it quotes has run" in html
    (request.out / "claims.mini.png").write_bytes((request.out / "table8.mini.png").read_bytes())
    html = everything.report_page(request, page).read_text()
    assert html.count("data:image/png;base64") == 2 and "What the papers conclude" in html
    count = len(replace(request, names=tuple(tables.TABLES)).ledger().entries)
    done = len(request.ledger().entries)
    assert (
        f"Profile mini. {done} of the {count} trainings behind these tables are there. Written on 20" in html
    )
    with pytest.raises(ValueError, match="is a folder: name the file of the page"):
        everything.report_page(request, tmp_path)


def test_figures_alone_have_nothing_to_run(request_of, capsys):
    reproduce.reproduce(request_of("figure3", "figure4"), plan=True)
    assert capsys.readouterr().out == "a figure is drawn of what has run: nothing to run\n"


def test_figures_without_their_run_are_kept_or_said_to_be_missing(request_of, tmp_path, monkeypatch):
    request = request_of("figure3")
    monkeypatch.setattr(reproduce, "PICTURES", tmp_path)
    with pytest.raises(RuntimeError, match="not drawn: .*figure3.*dynamix reproduce table3"):
        reproduce.reproduce(request)
    lines = list(reproduce.draw_figures(("figure3", "figure4"), request, tmp_path))
    assert [line.split(":")[0] for line in lines] == ["not drawn", "not drawn"]
    (tmp_path / "figure3.png").write_bytes(b"here")
    line = next(reproduce.draw_figures(("figure3",), request, tmp_path))
    assert line.startswith("kept: ") and "dynamix reproduce table3" in line
    assert (tmp_path / "figure3.png").read_bytes() == b"here"


def test_figures_show_the_run_that_is_kept_with_the_results(request_of, tmp_path, monkeypatch):
    request = request_of("figure3")
    contexts = []
    monkeypatch.setattr("dynamix.experiments.pictures.draw", lambda name, context: contexts.append(context))
    monkeypatch.setattr(reproduce.plots, "save", lambda figure, path: path)
    made = request_of("table3").ledger()
    key = made.rows[reproduce.SHOWN["DynaMix"]][0]
    for folder in (request.results.parent / "figure_run", request.runs):  # the whole one goes before
        (folder / key).mkdir(parents=True)
        (folder / key / checkpoint.NAME).write_bytes(b"")
        list(reproduce.draw_figures(("figure3",), request, tmp_path))
        assert contexts[-1].run == folder / key
