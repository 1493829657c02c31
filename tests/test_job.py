"""Trainings by dataset names: parts, protocols, scores, plans and what stands in their results."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from dynamix import checkpoint, data, encoders, evaluation, trainer
from dynamix.config import change, paper
from dynamix.data import images as imagery
from dynamix.experiments import datasets, plan, protocols
from dynamix.experiments import job as jobs
from dynamix.experiments.datasets import Part, parts
from dynamix.experiments.job import Job
from tests.layouts.large import write_market1501, write_msmt17
from tests.layouts.small import write_prid

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(world_roots, tmp_path_factory):
    """One folder holding plaza, hall and videos."""
    folder = tmp_path_factory.mktemp("data")
    for name, root in world_roots.items():
        (folder / name).symlink_to(root)
    return folder


@pytest.fixture
def job(small_config, folder):
    return Job(
        config=small_config, sources=parts(["plaza"]), single=parts(["videos"]), targets=parts(["hall"]),
        folder=folder,
    )  # fmt: skip


def config_of(name, dim):
    return dataclasses.replace(paper.encoder, name=name, dim=dim)


def by_hand(encoder, config, name, root, **options):
    """Scores from images decoded, resized and embedded one by one."""
    sides = []
    for split in ("query", "gallery"):
        table = data.load(name, root, split, **options)
        images = imagery.Images(table.paths, config.encoder.image)
        with torch.no_grad():
            rows = [encoder((images.load(row) / 255 - 0.5)[None] / 0.5) for row in range(len(table))]
        sides += [torch.cat(rows), table]
    q, query, g, gallery = sides
    scores = evaluation.evaluate(q, g, query.pids, gallery.pids, query.camids, gallery.camids)
    return scores, query, gallery


class TestParts:
    def test_commas_spaces_splits_and_other_names(self):
        found = parts(["market1501, msmt17:all", "cuhk03", ""])
        assert found == (Part("market1501"), Part("msmt17", "all"), Part("cuhk03_detected"))
        assert [str(part) for part in found] == ["market1501", "msmt17:all", "cuhk03_detected"]
        assert parts([]) == ()

    @pytest.mark.parametrize(
        "text, message",
        [
            ("mars", "unknown dataset 'mars'; there are market1501"),
            ("market1501:test", "market1501 has no split 'test': use train, query, gallery, all"),
            ("randperson:query", "randperson has no split 'query'"),
        ],
    )
    def test_what_there_is_not(self, text, message):
        with pytest.raises(ValueError, match=message):
            parts([text])

    def test_sources_that_are_mixed_up(self, world_roots):
        with pytest.raises(ValueError, match="videos is single-camera data: give it with --single"):
            datasets.training_table(parts(["videos"]), (), world_roots)
        with pytest.raises(ValueError, match="plaza is multi-camera data: give it with --sources"):
            datasets.training_table(parts(["plaza"]), parts(["plaza"]), world_roots)

    def test_where_datasets_lie(self, tmp_path, small_config):
        (tmp_path / "market1501").mkdir()  # perhaps empty: readers look into it
        (tmp_path / "plaza").mkdir()
        found = datasets.roots_of(["market1501", "plaza", "market1501"], tmp_path, small_config)
        assert found == {"market1501": tmp_path, "plaza": tmp_path / "plaza"}
        with pytest.raises(FileNotFoundError, match="gone"):
            datasets.roots_of(["market1501"], tmp_path / "gone", small_config)


class TestProtocols:
    @pytest.mark.parametrize("name", protocols.PROTOCOLS)
    def test_names_exist_and_nobody_trains_on_its_target(self, name):
        asked = protocols.protocol(name)
        sources, targets = parts(asked.sources), parts(asked.targets)
        assert {part.name.split("_")[0] for part in sources}.isdisjoint(
            part.name.split("_")[0] for part in targets
        )
        assert targets and all("query" in data.dataset(part.name).splits for part in targets)
        assert all(data.dataset(part.name).single_camera for part in parts(asked.single))
        assert not any(data.dataset(part.name).single_camera for part in sources)

    def test_as_the_papers_have_them(self):
        merged = protocols.protocol("cross-msmt17-merged")
        assert merged.sources == ("msmt17_merged",) and merged.single == ("luperson_nl",)
        assert merged.targets == ("cuhk03_detected", "market1501")
        left_out = protocols.protocol("leave-out-market1501")
        assert left_out.sources == ("dukemtmc", "cuhk03_detected", "msmt17")
        assert protocols.protocol("cdvm-3-msmt17").sources == (
            "market1501:all", "cuhk03_detected:all", "cuhk_sysu",
        )  # fmt: skip
        assert protocols.protocol("cdvm-2-msmt17").sources == ("market1501", "cuhk03_detected", "cuhk_sysu")

    def test_unknown(self):
        with pytest.raises(ValueError, match="unknown protocol 'x'; there are cross-market1501"):
            protocols.protocol("x")


class TestScore:
    def test_equals_the_parts_put_together_by_hand(self, small_config, world_roots):
        encoder = encoders.build(small_config.encoder).eval()
        found = datasets.score(encoder, small_config, world_roots["hall"], "hall", CPU)
        expected, query, gallery = by_hand(encoder, small_config, "hall", world_roots["hall"])
        assert found.mAP == pytest.approx(expected.mAP, abs=1e-6)
        assert found.rank1 == pytest.approx(float(expected.cmc[0]))
        assert found.rank5 == pytest.approx(float(expected.cmc[4]))
        assert (found.query, found.gallery, found.trials) == (len(query), len(gallery), ())

    def test_small_sets_are_the_mean_of_ten_divisions(self, small_config, tmp_path):
        write_prid(tmp_path)
        encoder = encoders.build(small_config.encoder).eval()
        found = datasets.score(encoder, small_config, tmp_path, "prid", CPU)
        assert len(found.trials) == 10 and "mean of 10 random divisions" in found.note
        for split_id, trial in enumerate(found.trials):
            expected = by_hand(encoder, small_config, "prid", tmp_path, split_id=split_id)[0]
            assert trial["mAP"] == pytest.approx(expected.mAP, abs=1e-6)
            assert trial["rank1"] == pytest.approx(float(expected.cmc[0]))
        assert found.mAP == pytest.approx(np.mean([trial["mAP"] for trial in found.trials]))
        assert "split 0" not in found.note and "12 of 200" in found.note

    def test_unreadable_images_are_counted(self, small_config, world_roots, tmp_path):
        hall = tmp_path / "hall"
        for split in ("query", "bounding_box_test"):
            (hall / split).mkdir(parents=True)
            for path in sorted((world_roots["hall"] / split).iterdir()):
                (hall / split / path.name).write_bytes(path.read_bytes())
        victim = next(path for path in (hall / "query").iterdir())
        victim.write_bytes(victim.read_bytes()[:40])
        encoder = encoders.build(small_config.encoder).eval()
        with pytest.raises(ValueError, match=victim.name):
            datasets.score(encoder, small_config, hall, "hall", CPU)
        with pytest.warns(UserWarning, match="skipped 1 unreadable"):
            found = datasets.score(encoder, small_config, hall, "hall", CPU, on_bad_image="skip")
        whole = datasets.score(encoder, small_config, world_roots["hall"], "hall", CPU)
        assert found.valid_queries == whole.valid_queries - 1
        assert "1 unreadable images skipped" in found.note

    def test_training_data_cannot_be_scored(self, small_config, world_roots):
        with pytest.raises(ValueError, match="videos has no query and gallery"):
            datasets.score(
                encoders.build(small_config.encoder), small_config, world_roots["videos"], "videos", CPU
            )


class TestTrain:
    def test_the_result_says_everything(self, job, tmp_path, capsys):
        result = jobs.train(job, tmp_path / "run")
        assert json.loads((tmp_path / "run" / "result.json").read_text()) == json.loads(json.dumps(result))
        plaza, videos = result["trained_on"]
        assert (plaza["source"], plaza["note"], plaza["cameras"]) == ("plaza", "train", 3)
        assert videos["videos"] == 6
        encoder, config = checkpoint.load_encoder(tmp_path / "run")
        again = datasets.score(encoder, config, job.roots()["hall"], "hall", CPU)
        assert result["scores"]["hall"] == json.loads(json.dumps(again.as_dict()))
        assert result["config"]["iterations"] == job.config.iterations and result["seconds"] > 0
        shown = capsys.readouterr().out
        assert "plaza" in shown and "3 cameras" in shown and "rank-1" in shown

    def test_its_log_may_have_been_cut(self, job, tmp_path):
        result = jobs.train(job, tmp_path / "run")
        log = tmp_path / "run" / trainer.LOG
        log.write_text(log.read_text()[:-30])
        assert jobs.train(job, tmp_path / "run")["seconds"] == result["seconds"]
        log.write_text("\0" * 20 + "\n" + log.read_text())
        with pytest.raises(ValueError, match=r"log.jsonl, line 1 is not whole .*delete the folder"):
            jobs.train(job, tmp_path / "run")

    def test_its_folder_is_named_by_what_it_depends_on(self, job):
        other = Job(config=change(job.config, seed=1), sources=job.sources, single=job.single)
        assert job.name != other.name and job.name.endswith("-plaza+videos")


class TestPlan:
    def test_says_what_will_be_done_and_writes_nothing(self, job, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        text = "\n".join(plan.plan(job))
        for words in (
            "plaza",
            "videos",
            "3 epochs x 4 = 12 of 16 images",
            "4 x 2 multi-camera",
            "hall",
            "in all",
        ):
            assert words in text, words
        assert list(tmp_path.iterdir()) == []

    def test_a_step_is_timed_as_it_will_be(self, small_config, monkeypatch):
        """Few images cost more than their share of a batch, the more so on a busy machine."""
        assert plan.networks(small_config, CPU, 0)[3] == small_config.batch.size
        monkeypatch.setattr(plan, "WORK", 1.0)  # of an encoder that takes long enough with few
        assert plan.networks(small_config, CPU, 0)[3] == plan.PROBE

    def test_a_time_is_the_median_of_several_after_a_first(self, monkeypatch):
        took = iter([60.0, 2.0, 90.0, 1.0])  # warming up, and one that was disturbed
        monkeypatch.setattr(plan, "_seconds", lambda work, device=None: next(took))
        assert plan._timed(print) == 2.0
        took = iter([60.0, *[0.01] * 9, 5.0])
        assert plan._timed(print) == 0.01

    @pytest.mark.parametrize("busy", [True, False])
    def test_a_busy_machine_is_said(self, job, monkeypatch, busy):
        monkeypatch.setattr(plan.os, "getloadavg", lambda: (50.0 if busy else 0.0, 0.0, 0.0))
        monkeypatch.setattr(plan, "SHARE", 0.0)
        monkeypatch.setattr(plan, "BUSY", 1e9)
        said = [line for line in plan.plan(job) if "the machine was busy" in line]
        assert len(said) == busy and all("load 50.0" in line and "steps of" in line for line in said)

    def test_what_tells_of_other_work(self):
        cores = plan.os.cpu_count()
        assert plan.busy(0.0, 1.0, [1.0, 1.5]) == ""
        for load, share, took in ((float(cores), 1.0, [1.0]), (0.0, 0.5, [1.0]), (0.0, 1.0, [1.0, 1.0, 2.5])):
            assert f"load {load:.1f} on {cores} cores, steps of" in plan.busy(load, share, took)

    def test_loaders_have_one_thread_each(self, mixed_table, small_config, monkeypatch):
        """And the encoder has those of the training: as many as there are."""
        threads, seen = torch.get_num_threads(), []
        monkeypatch.setattr(plan, "networks", lambda *_: (1.0, 1.0, 1, 4, ""))
        monkeypatch.setattr(plan, "_seconds", lambda *_: seen.append(torch.get_num_threads()) or 1.0)
        torch.set_num_threads(2)
        try:
            plan.measure(change(small_config, workers=2), mixed_table)
            plan.measure(small_config, mixed_table)  # without loaders it reads by itself
            assert torch.get_num_threads() == 2
        finally:
            torch.set_num_threads(threads)
        assert set(seen[: len(seen) // 2]) == {1} and set(seen[len(seen) // 2 :]) == {2}

    def test_the_refresh_embeds_k_of_each(self, mixed_table, small_config):
        single = mixed_table.videos >= 0
        counts = np.unique(mixed_table.labels[single], return_counts=True)[1]
        multi = int((~single).sum())
        assert plan.refreshed(mixed_table, small_config) == len(mixed_table)
        assert plan.refreshed(mixed_table, change(small_config, ecm__K=2)) == multi + sum(
            min(c, 2) for c in counts
        )
        assert plan.refreshed(mixed_table, change(small_config, batch__ids_single=0)) == multi
        every = change(small_config, ecm__K=2, ecm__naive=True)
        assert plan.refreshed(mixed_table, every) == len(mixed_table)
        remix = change(small_config, method="remix", ecm__K=2)
        assert plan.refreshed(mixed_table, remix) == multi + small_config.batch.size * small_config.iterations

    def test_a_table_that_cannot_be_trained_on(self, job):
        with pytest.raises(ValueError, match="batch.ids_multi"):
            plan.plan(
                Job(config=change(job.config, batch__ids_multi=999), sources=job.sources, folder=job.folder)
            )

    def test_seconds_read_well(self):
        assert [plan.time_text(x) for x in (0.05, 3.0, 600.0, 90_000.0, 1e6)] == [
            "50 ms", "3.0 s", "10.0 min", "25.0 h", "11.6 days",
        ]  # fmt: skip

    def test_memory_counts_networks_and_centroids(self, small_config):
        encoder = encoders.build(small_config.encoder)
        each = 4 * sum(parameter.numel() for parameter in encoder.parameters())
        adam = plan._memory(small_config, encoder, CPU, 1000)
        assert adam == 5 * each + 2 * 1000 * small_config.encoder.dim * 4
        sgd = plan._memory(change(small_config, opt__name="sgd"), encoder, CPU, 0)
        assert sgd == 4 * each


def test_the_paper_profile_is_the_papers():
    """Sec. 4.2 and what Sec. 3 prints; nothing of it may move by accident."""
    assert (paper.epochs, paper.iterations, paper.batch.size) == (100, 400, 64)
    assert (paper.opt.name, paper.opt.lr, paper.opt.weight_decay, paper.opt.ema) == ("sgd", 1e-3, 1e-4, 0.999)
    assert (paper.rm.tau_rel, paper.rm.tau_remove, paper.rm.tau_merge) == (0.6, 0.5, 0.8)
    assert (paper.ecm.K, paper.ecm.alpha, paper.dsm.queue_epochs) == (4, 0.3, 30)
    assert (paper.encoder.name, paper.encoder.image, paper.encoder.dim) == ("vit_base", (256, 128), 768)


class TestWeights:
    def test_training_needs_the_weights_its_settings_name(self, small_config, mixed_table, tmp_path):
        config = change(small_config, encoder__weights="0123456789abcdef")
        with pytest.raises(ValueError, match="0123456789abcdef.*--weights"):
            next(trainer.train(config, mixed_table, tmp_path / "run"))
        assert not (tmp_path / "run").exists()

    def test_published_weights_are_an_encoder_to_evaluate(self, tmp_path):
        """Normalized as they were trained (DINO: ImageNet's), not as the papers fine-tune them (0.5)."""
        network = encoders.build(config_of("vit_small", 384)).eval()
        held = {f"backbone.{k}": v for k, v in network.body.state_dict().items()}
        torch.save({"teacher": held, "student": {}, "epoch": 1}, tmp_path / "vit_small_lup.pth")
        encoder, config = checkpoint.load_encoder(tmp_path / "vit_small_lup.pth")
        assert (config.encoder.name, config.encoder.normalization) == ("vit_small", "imagenet")
        images = torch.randn(2, 3, 256, 128)
        with torch.no_grad():
            assert torch.allclose(encoder(images), network(images), atol=1e-5)

    def test_training_starts_from_a_run(self, small_config, mixed_table, tmp_path):
        """Weights of an own checkpoint; resuming needs the file no more, another file is another run."""
        for _ in trainer.train(small_config, mixed_table, tmp_path / "first"):
            pass
        file = tmp_path / "first" / checkpoint.NAME
        config = change(small_config, epochs=1, opt__lr=0.0, opt__ema=0.0, opt__ema_ramp=False)
        for record in trainer.train(config, mixed_table, tmp_path / "second", weights=file):
            last = record
        assert "100" in (tmp_path / "second" / trainer.WEIGHTS).read_text()
        expected, _ = checkpoint.load_encoder(tmp_path / "first")
        saved = checkpoint.load(tmp_path / "second")
        assert saved.config.encoder.weights == encoders.fingerprint(file)
        for name, value in expected.named_parameters():
            assert torch.equal(value, dict(last.momentum.named_parameters())[name]), name
        with pytest.raises(ValueError, match="other settings"):
            next(trainer.train(config, mixed_table, tmp_path / "second"))


class TestRealData:
    """Mistakes that would give numbers under a wrong name, or numbers that mean nothing."""

    def test_a_world_is_not_looked_for_among_real_datasets(self, small_config, tmp_path, world_roots):
        write_market1501(tmp_path / "Market-1501-v15.09.15")
        with pytest.raises(FileNotFoundError, match="no Mannequins world 'station'.*--targets"):
            datasets.roots_of(["station"], tmp_path, small_config)
        alone = datasets.roots_of(["hall"], world_roots["hall"], small_config)
        assert alone == {"hall": world_roots["hall"]}

    def test_an_image_is_trained_on_once(self, small_config, tmp_path):
        write_msmt17(tmp_path / "MSMT17_V1")
        sources = parts(["msmt17", "msmt17_merged"])
        roots = datasets.roots_of([part.name for part in sources], tmp_path, small_config)
        with pytest.raises(ValueError, match="msmt17 and msmt17_merged both hold"):
            datasets.training_table(sources, (), roots)

    @pytest.mark.parametrize(
        "source, target", [("market1501:all", "market1501"), ("msmt17_merged", "msmt17")]
    )
    def test_nobody_trains_on_its_test(self, small_config, tmp_path, source, target):
        write_market1501(tmp_path / "Market-1501-v15.09.15")
        write_msmt17(tmp_path / "MSMT17_V1")
        job = Job(config=small_config, sources=parts([source]), targets=parts([target]), folder=tmp_path)
        with pytest.raises(ValueError, match=f"is a query image of the target {target}"):
            job.table()
        trained = Job(config=small_config, sources=parts([target]), targets=parts([target]), folder=tmp_path)
        assert len(trained.table()) == 24

    def test_a_target_has_no_split(self):
        with pytest.raises(ValueError, match="write market1501 alone"):
            parts(["market1501:all"], tested=True)
