"""What `dynamix bench` measures, counts, scales and draws."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
from matplotlib.text import Text
from PIL import Image

from dynamix import cli
from dynamix.config import change, paper, tiny
from dynamix.data import images as imagery
from dynamix.experiments.bench import bench, lines, made, measure, model
from dynamix.experiments.bench.count import counted
from dynamix.experiments.bench.measure import Machine, Sizes, Timing
from dynamix.experiments.bench.model import Data
from dynamix.experiments.plan import Cost
from dynamix.plots import benches, scale
from dynamix.plots.axis import Axis
from dynamix.plots.style import save

CPU = torch.device("cpu")
SMALL = Sizes(
    matrix=64, copy=2**16, jpegs=4, features=64, pids=100, merged=60, sampled=60, queries=12, gallery=60,
    probe=True, times=1,
)  # fmt: skip
NUMBERS = Machine(
    matrix={"float32": 1e11, "bfloat16": 4e11},
    copy=2e10,
    jpeg=15_000.0,
    flop=2.27e10,
    parameters=86_000_000,
    cost=Cost(step=20.0, load=2.0, embed=10.0, read=500.0, memory=1),
    features=2048,
    search=Timing(4.0, 2048.0 * 43_400 * 768, "2,048 features"),
    faiss=Timing(9.0, 2048.0 * 43_400 * 768, "2,048 features"),
    nearest=Timing(3.0, 2048.0 * 43_400 * 768, "2,048 features"),
    differ=0,
    peak=2.5,
    merging=Timing(2.0, 16_384.0**2 * 768, "16,384 centroids"),
    sampling=Timing(5.0, 400.0 * 21_700, "21,700 candidates"),
    evaluation=Timing(0.5, 421.0 * 15_913, "421 queries"),
)


@pytest.fixture(autouse=True)
def two_loaders(monkeypatch):
    monkeypatch.setattr(model, "cores", lambda: 2)


def forecast(config=paper, ranks=1, link=1e9, machine=NUMBERS, device="cpu"):
    return model.forecast(machine, config, ranks, link=link, device=device)


class TestCount:
    def test_a_product_is_counted_whatever_its_numbers(self):
        wide, codes = torch.ones(30, 40), torch.ones(32, 64, dtype=torch.int8)
        assert counted(lambda: wide @ torch.ones(40, 7)).flop == 2 * 30 * 40 * 7
        assert counted(lambda: torch._int_mm(codes, codes.T)).flop == 2 * 32 * 64 * 32

    def test_the_peak_is_of_what_lives_at_once(self):
        def work():
            a = torch.zeros(1000)  # 4,000 bytes
            b = a + 1  # 8,000
            del a
            for _ in range(5):
                b = b * 2  # 8,000 while both live
            return b.view(10, 100)[:5]  # a view takes nothing

        found = counted(work)
        assert found.peak == 8000
        assert found.value.shape == (5, 100)

    def test_what_stood_before_and_what_is_written_in_place_costs_nothing(self):
        stood = torch.zeros(1000)
        assert counted(lambda: stood.add_(1)).peak == 0
        assert counted(lambda: torch.add(stood, 1, out=stood)).peak == 0
        assert counted(lambda: stood.view(10, 100).T).peak == 0


class TestModel:
    """The epoch at the paper's size, by hand."""

    def test_one_rank(self):
        found = forecast().seconds
        drawn, pids = 4 * 433_997, 433_997
        assert found["steps"] == pytest.approx(400 * (20 + 2 / 2))
        assert found["embedding"] == pytest.approx((126_441 + drawn) * (1 / 10 + 1 / 1000))
        assert found["search"] == pytest.approx(4 * drawn / 2048 * pids / 43_400)
        assert found["merging"] == pytest.approx(2 * (pids / 16_384) ** 2)
        assert found["sampling"] == pytest.approx(5 * pids / 21_700)
        assert list(found) == list(lines.NAMES)

    def test_ranks_share_steps_embedding_and_search_and_pay_the_network(self):
        alone, eight = forecast(), forecast(ranks=8, link=1e9)
        ring = 2 * 7 / 8
        assert alone.exchanged == {"steps": 0.0, "search": 0.0}
        exchanged = ring * (4 * 86e6 + 6 * 64 * 768 * 4) / 1e9
        assert eight.seconds["steps"] == pytest.approx(400 * (21 / 8 + exchanged))
        assert eight.seconds["embedding"] == pytest.approx(alone.seconds["embedding"] / 8)
        sums = ring * 433_997 * 768 * 4 / 1e9
        assert eight.seconds["search"] == pytest.approx(alone.seconds["search"] / 8 + sums)
        for part in ("merging", "sampling"):
            assert eight.seconds[part] == alone.seconds[part]
        assert eight.epoch == pytest.approx(sum(eight.seconds.values()))
        assert eight.refresh == pytest.approx(
            eight.epoch - eight.seconds["steps"] - eight.seconds["sampling"]
        )

    def test_on_a_gpu_the_slower_of_reading_and_computing_counts(self):
        machine = dataclasses.replace(NUMBERS, cost=Cost(0.1, 0.4, 4000.0, 500.0, 1))
        found = forecast(machine=machine, device="cuda")
        assert found.waiting and not forecast().waiting
        assert found.seconds["steps"] == pytest.approx(400 * 0.4 / 2)
        assert found.seconds["sampling"] == pytest.approx(5 * 433_997 / 21_700 - 80)  # beside the steps
        assert found.seconds["embedding"] == pytest.approx((126_441 + 4 * 433_997) / 1000)

    def test_k_changes_the_images_and_not_the_memory(self):
        eight, every = change(paper, ecm__K=8), change(paper, ecm__K="all")
        data = Data()
        assert [data.drawn(c) for c in (paper, eight, every)] == [1_735_988, 3_471_976, 10_683_716]
        assert data.drawn(change(paper, ecm__K=1000)) == 10_683_716
        assert model.refresh_memory(NUMBERS, eight) == 2.5 * 4 * 433_997 * 768
        assert forecast(eight).seconds["search"] == pytest.approx(2 * forecast().seconds["search"])

    def test_without_single_camera_images_there_is_no_refresh_of_them(self):
        found = forecast(change(paper, batch__ids_single=0)).seconds
        assert found["search"] == found["merging"] == found["sampling"] == 0
        assert found["embedding"] == pytest.approx(126_441 * (1 / 10 + 1 / 1000))

    @pytest.mark.parametrize("ranks", [0, 3, 16])
    def test_ranks_that_cannot_share_a_batch(self, ranks):
        with pytest.raises(ValueError, match=f"{ranks} ranks cannot share a batch.*1, 2, 4, 8"):
            forecast(ranks=ranks)

    def test_the_paper_s_table_6(self):
        assert model.paper_refresh(4) == (900.0, 4.9e9)
        assert model.paper_refresh("all") == (5400.0, 29.5e9)
        assert model.paper_refresh(5) is None
        for K, _, gigabytes in json.loads(model.PAPER.read_text())["rows"][:3]:
            assert gigabytes == pytest.approx(433_997 * K * 768 * 4 / 2**30, rel=0.02)


class TestMeasure:
    def test_the_features_lie_at_0_8_of_their_centroids(self):
        features, labels, memory = made.people(40, 3, 256)
        own = (features * memory.centroids[labels]).sum(1)
        assert own.shape == (120,) and (own - 0.8).abs().max() < 0.08
        assert torch.equal(features, made.people(40, 3, 256)[0])

    def test_jpegs_are_images_of_the_size_asked(self):
        with made.jpegs(3, (64, 32)) as (table, size):
            assert len(table) == 3 and 500 < size < 10_000
            assert imagery.decode(table.paths[2]).shape == (3, 64, 32)

    def test_rates_are_positive_and_sizes_are_counted(self):
        rates = measure.matrix_rates(SMALL, CPU)
        assert {"float32", "bfloat16"} <= set(rates) and min(rates.values()) > 0
        assert measure.copy_rate(SMALL, CPU) > 0
        assert measure.merging(SMALL, 16, CPU).work == 60 * 60 * 16
        assert measure.evaluating(SMALL, 16, CPU).work == 12 * 60
        assert measure.sampling(SMALL, tiny, CPU).work == tiny.iterations * 60

    def test_the_search_is_timed_in_turns_with_faiss_and_agrees(self):
        found = measure.searching(SMALL, 16, CPU)
        assert found["faiss"].work == found["nearest"].work == found["search"].work == 64 * 100 * 16
        assert found["differ"] == 0
        assert found["peak"] > 2  # the centroids and their sums at least

    @pytest.mark.parametrize("off, differ", [(0.1, 64), (0.0, 0)])  # a tie may be decided either way
    def test_decisions_that_differ_from_faiss_are_counted(self, monkeypatch, off, differ):
        right = measure.nearest

        def wrong(*args, **options):
            found = right(*args, **options)
            return found._replace(index=(found.index + 1) % 100, similarity=found.similarity - off)

        monkeypatch.setattr(measure, "nearest", wrong)
        assert measure.searching(SMALL, 16, CPU)["differ"] == differ

    def test_a_product_that_the_machine_lacks_is_left_out(self, monkeypatch):
        def none(*_):
            raise RuntimeError("not implemented")

        monkeypatch.setattr(torch, "_int_mm", none)
        assert set(measure.matrix_rates(SMALL, CPU)) == {"float32", "bfloat16"}

    def test_the_fastest_of_several_turns(self, monkeypatch):
        clock = iter(map(float, (0, 9, 10, 19, 20, 23, 30, 35, 40, 44, 50, 51)))
        monkeypatch.setattr(measure.time, "perf_counter", lambda: next(clock))
        monkeypatch.setattr(measure, "LONG", 100.0)
        assert measure.fastest([int, int], 2, CPU) == [3, 1]
        clock = iter(map(float, (0, 9, 10, 14)))
        monkeypatch.setattr(measure, "LONG", 8.0)
        assert measure.fastest([int, int], 2, CPU) == [9, 4]

    def test_a_batch_of_two_stands_for_the_whole_one(self):
        assert SMALL.batch(paper).size == 2 and measure.FULL.batch(paper) == paper.batch
        assert SMALL.batch(change(paper, batch__ids_single=0)).size == 1


class TestLines:
    @pytest.fixture
    def told(self):
        rates = list(lines.rates(NUMBERS, paper, measure.FULL))
        epoch = list(lines.epoch(NUMBERS, paper, [forecast(), forecast(ranks=8)], 12.5, "cpu"))
        return rates, "\n".join(epoch)

    def test_every_figure_says_how_it_is_known(self, told):
        rates, _ = told
        for what, value, how in rates:
            assert value == "not run" or how.startswith(("measured", "scaled")), what
        known = {what.strip(): (value, how) for what, value, how in rates}
        assert known["matrix product, int8"][0] == "not run"
        assert known["training step"][1].startswith("scaled from 4 images, batch of 64")
        assert known["faiss.IndexFlatIP"] == (
            "228 images/s",
            "measured, in turns with ours: ours 3.0 x, the same decisions",
        )
        assert known["evaluation, Market-1501 size"] == ("4.0 s", "scaled from 421 queries")

    def test_the_epoch_stands_beside_the_paper(self, told):
        _, text = told
        assert "1 machine   8 machines" in text
        assert "15.0 min on two RTX 3090" in text and "4.9 GB" in text and "3.3 GB" in text
        assert "assumed, not measured" in text and "12.5 GB/s" in text

    def test_faiss_that_is_missing_or_disagrees_is_said(self):
        without = dataclasses.replace(NUMBERS, faiss=None)
        assert ("  faiss.IndexFlatIP", "not run", "faiss has no GPU support here") in list(
            lines.rates(without, paper, measure.FULL)
        )
        wrong = dataclasses.replace(NUMBERS, differ=3)
        assert any("3 other decisions" in how for _, _, how in lines.rates(wrong, paper, measure.FULL))


class TestCommand:
    @pytest.fixture(autouse=True)
    def small(self, monkeypatch):
        monkeypatch.setattr(measure, "QUICK", SMALL)

    def test_from_the_command_line(self, monkeypatch, capsys, tmp_path):
        command = ["dynamix", "bench", "--quick", "--profile", "tiny", "--ranks", "1", "4"]
        kept, drawn = tmp_path / "bench.json", tmp_path / "bench.png"
        monkeypatch.setattr("sys.argv", [*command, "--json", str(kept), "--figure", str(drawn)])
        cli.main()
        out, err = capsys.readouterr()
        assert "do not quote" in out and "4 machines" in out and "sampling" in out
        assert f"kept: {kept}" in out and f"look: {drawn}" in out and "measuring evaluation" in err
        found = json.loads(kept.read_text())
        assert found["quick"] and found["provenance"]["torch"] and found["provenance"]["threads"] == 1
        assert [each["ranks"] for each in found["forecasts"]] == [1, 4]
        assert found["machine"]["search"]["work"] == 64 * 100 * 64
        with Image.open(drawn) as image:
            assert image.size[0] == 1700

    def test_a_busy_machine_is_said(self, monkeypatch):
        cost = dataclasses.replace(NUMBERS.cost, busy="the machine was busy")
        machine = dataclasses.replace(NUMBERS, cost=cost)
        monkeypatch.setattr(measure, "machine", lambda *_, **__: machine)
        assert "the machine was busy" in list(bench(paper, ranks=(1,)))

    @pytest.mark.parametrize(
        "options, message",
        [
            ({"ranks": (3,)}, "3 ranks cannot share"),
            ({"ranks": ()}, "--ranks is empty"),
            ({"link": 0}, "--link is the rate between ranks"),
            ({"link": math.nan}, "--link is the rate between ranks .* got nan"),
            ({"picture": Path("a.jpg")}, "name it a.png"),
        ],
    )
    def test_bad_options_are_refused_before_anything_is_measured(self, options, message, monkeypatch):
        monkeypatch.setattr(measure, "machine", None)
        with pytest.raises(ValueError, match=message):
            list(bench(paper, quick=True, **options))


def texts(figure):
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def inside(figure):
    figure.draw_without_rendering()
    box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
    return min(box.x0, box.y0) > -0.01 and box.x1 < width + 0.01 and box.y1 < height + 0.01


ROW = {"what": "nearest", "ours": 5400.0, "unit": "images/s", "against": "faiss", "floor_is": "products"}
ROWS = [
    ROW | {"ratio": 2.9, "of_floor": 1.4},
    ROW | {"what": "merging", "ours": 8.13, "unit": "s", "ratio": None, "of_floor": 1.7},
    ROW | {"what": "memory", "ours": 1.2, "unit": "GB", "ratio": None, "of_floor": None},
]


class TestPictures:
    def test_an_epoch_s_shares_and_length(self):
        parts = {"steps": 600.0, "embedding": 2990.0, "search": 10.0}
        figure = scale.epoch_bars({"1 rank": parts, "8 ranks": parts}, title="T")
        shown = texts(figure)
        assert shown.count("60.0 min") == 2 and "83%" in shown and "search 0.3%" in shown
        assert inside(figure)
        with pytest.raises(ValueError, match="rows is empty"):
            scale.epoch_bars({}, title="T")
        with pytest.raises(ValueError, match="must have the parts steps, embedding, search"):
            scale.epoch_bars({"1 rank": parts, "8 ranks": {"steps": 1.0}}, title="T")

    def test_growth_draws_every_line_and_refuses_what_has_no_logarithm(self):
        lines_ = {"search": ((1, 2, 4), (10, 20, 40)), "merging": ((1, 2, 4), (3, 12, 48))}
        panel = scale.Growth(
            title="More",
            x="P",
            y="cost",
            lines=lines_,
            dashed={"paper": ((1, 2), (1, 2))},
            labels={"search": "P"},
        )
        figure = scale.growth([panel, panel], title="T")
        assert {"search", "merging", "paper", "More", "P"} <= set(texts(figure)) and inside(figure)
        for wrong in (((1, 2), (0, 1)), ((1, 2), (1,)), ((), ())):
            with pytest.raises(ValueError, match="positive costs"):
                scale.growth([dataclasses.replace(panel, lines={"a": wrong})], title="T")

    def test_dumbbells_show_both_ends(self):
        figure = scale.dumbbells(
            {"search": (60.0, 7200.0)}, ("now", "then"), limits={"steps": 300.0}, title="T"
        )
        assert {"search", "60.0 s", "2.0 h", "now", "then", "steps"} <= set(texts(figure)) and inside(figure)
        with pytest.raises(ValueError, match="positive"):
            scale.dumbbells({"search": (0.0, 1.0)}, ("now", "then"), title="T")

    def test_benchmarks_with_their_ratios_and_what_was_not_run(self, tmp_path):
        kept = {"name": "nearest", "provenance": {"device": "A CPU"}, "rows": ROWS}
        (tmp_path / "bench.nearest.cpu.json").write_text(json.dumps(kept))
        (tmp_path / "bench.refresh.cuda.json").write_text(json.dumps(kept))
        found = benches.read_benches(tmp_path)
        assert [(each.name, each.device, len(each.rows)) for each in found] == [
            ("nearest", "cpu", 3), ("nearest", "cuda", 0), ("refresh", "cpu", 0), ("refresh", "cuda", 3)
        ]  # fmt: skip
        figure = benches.bench_results(found, title="T")
        shown = texts(figure)
        assert shown.count("2.9 x") == 2 and "1.7 x the floor: products" in shown and "8.13 s" in shown
        assert "GPU not run: nearest" in shown and "CPU not run: refresh" in shown and "A CPU" in shown
        assert inside(figure)
        assert save(figure, tmp_path / "a.png").read_bytes() == save(figure, tmp_path / "b.png").read_bytes()

    def test_marks_stand_where_their_ratios_say(self):
        axis = Axis(1.0, 4.0, 1.0, 16.0, log=True)
        assert [axis(x) for x in (1, 4, 16)] == pytest.approx([1, 3, 5])
        low, high = benches._span([benches.Bench("a", "cpu", ROWS)])
        assert all(low < place < high for row in ROWS for place in benches._places(row).values())
        assert benches._places(ROWS[0]) == {"baseline": 1.0, "ours": 2.9, "floor": pytest.approx(4.06)}
        assert benches._places(ROWS[1]) == {}

    def test_folders_and_files_without_results_are_named(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="no bench.NAME.DEVICE.json in"):
            benches.read_benches(tmp_path)
        (tmp_path / "bench.nearest.cpu.json").write_text('{"rows": []}')
        with pytest.raises(ValueError, match="bench.nearest.cpu.json has no rows"):
            benches.read_benches(tmp_path)
        with pytest.raises(ValueError, match="benches is empty"):
            benches.bench_results([], title="T")

    @pytest.mark.parametrize(
        "seconds, text",
        [(0.0004, "0 ms"), (0.34, "340 ms"), (1.49, "1,490 ms"), (75.0, "75.0 s"), (5400.0, "1.5 h"),
         (200 * 86400.0, "200 days"), (1e9, "31.7 years")],
    )  # fmt: skip
    def test_durations_in_words(self, seconds, text):
        assert scale.duration(seconds) == text

    def test_amounts_in_letters(self):
        found = [scale.amount(x) for x in (12.0, 433_997.0, 1.7e6, 2.91e15)]
        assert found == ["12", "434K", "1.7M", "2,910T"]
        assert math.isclose(float(scale.amount(1.0)), 1.0)
