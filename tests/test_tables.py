"""The papers' tables as data: every printed number is there, every row has a config, runs are shared."""

from collections import Counter
from dataclasses import fields

import pytest

from dynamix import data
from dynamix.config import PROFILES, Config, change, identity, profile
from dynamix.experiments.printed import printed
from dynamix.experiments.protocols import protocol
from dynamix.experiments.report import agreement
from dynamix.experiments.tables import TABLES, changes_of, row, table
from dynamix.experiments.tables.kinds import Column, PaperTable, Row, Setting
from dynamix.experiments.tables.regimes import REGIMES, SCRATCH, STILL, WORTH
from dynamix.experiments.tables.shared import REAL, short

DYNAMIX = [*"1 2a 2b 3 4 5 6 7 8 9 10 11 12".split()]
REMIX = [*"1 2a 2b 2c 3 4 5 6a 6b 6c 7 8 9a 9b 10a 10b 11 12 13 14".split()]
PRINTED = [("dynamix", n, f"table{n}") for n in DYNAMIX] + [("remix", n, f"remix.table{n}") for n in REMIX]
# Columns of numbers that say what a row is, not what it scored.
DESCRIBE = {
    "K", "alpha", "queue_epochs", "value", "batch_size", "tau_ins_m", "tau_aug", "tau_ins_s", "tau_cen_s",
    "iterations", "eps", "B_m", "B_s", "N_K_m", "N_K_s", "hz",
}  # fmt: skip
# Tables with a row for every pair of the printed columns, and what the papers call these.
LEFT_OUT = {"CUHK03-NP": "M+D+MS->C3", "Market-1501": "D+C3+MS->M", "DukeMTMC-reID": "M+C3+MS->D"}
LEFT_OUT |= {"MSMT17": "M+D+C3->MS"}
LEAVE_OUT = ("table2b", "remix.table7")
ROWS = [pytest.param(t, r, id=f"{t.name}:{r.name}") for t in TABLES.values() for r in t.rows]


def config(table_name: str, row_name: str, profile_name: str = "mini") -> Config:
    of = table(table_name)
    return change(profile(profile_name), **changes_of(of, row(of, row_name), profile_name))


def run(table_name: str, row_name: str, profile_name: str = "mini") -> tuple[object, ...]:
    """All that a run depends on."""
    of = table(table_name)
    one = row(of, row_name)
    worlds = (one.data or of.data).worlds
    assert worlds is not None
    start = of.start if one.start == "table" else one.start
    return identity(config(table_name, row_name, profile_name)), worlds.sources, one.labels, start


class TestPrintedNumbers:
    @pytest.mark.parametrize(("paper", "number", "name"), PRINTED)
    def test_none_is_lost_and_none_is_added(self, paper, number, name):
        """Bags of numbers by column: what the paper prints is what the rows hold."""
        of = printed(paper, number)
        want = Counter(
            (column, cell)
            for cells in of.rows
            for column, cell in zip(of.columns, cells, strict=True)
            if isinstance(cell, int | float) and not isinstance(cell, bool) and column not in DESCRIBE
        )
        if name == "table4":  # its statistics are this table's columns
            want = Counter(
                (f"{cells[0]}:{column}", cell)
                for cells in of.rows
                for column, cell in zip(of.columns[1:], cells[1:], strict=True)
            )
        found = Counter(
            (f"{LEFT_OUT[each.group]}:{key}" if name in LEAVE_OUT else key, cell)
            for each in table(name).rows
            if "video" not in each.name
            for key, cell in each.printed.items()
        )
        assert want == found and sum(want.values()) > 0

    @pytest.mark.parametrize("of", TABLES.values(), ids=TABLES)
    def test_stand_under_a_column(self, of: PaperTable):
        keys = [column.key for column in of.columns if column.key]
        assert len(keys) == len(set(keys))
        assert {key for each in of.rows for key in each.printed} == set(keys) - {""}

    @pytest.mark.parametrize(
        ("name", "row_name", "want"),
        [
            ("table3", "+ RM", {"R1": 92.6, "mAP": 80.8}),
            ("table3", "ReMix, given labels", {"R1": 83.3, "mAP": 60.1}),
            (
                "table4",
                "+ RM",
                {"images:after": 9889173, "pids:before": 433997, "images:delta_percent": -7.4},
            ),
            ("table9", "queue=30", {"R1": 86.8, "mAP": 71.7}),
            ("table10", "tau_remove=.5 global", {"R1": 91.6, "mAP": 77.5}),
            ("table10", "tau_remove=.5 video", {"R1": 91.6, "mAP": 77.5}),
            ("table12", "256", {"R1": 91.9, "mAP": 78.1}),
            ("table2a", "DynaMix, MSMT17-merged", {"Market-1501:mAP": 80.8}),
            ("table2b", "DynaMix to MSMT17", {"R1": 71.0, "mAP": 43.2}),
            ("table2b", "ISR to MSMT17", {"R1": 56.4, "mAP": 30.3}),
            ("remix.table7", "ReMix to DukeMTMC-reID", {"R1": 79.0, "mAP": 63.3}),
            ("retrieval", "768", {"speedup": 2.5}),
            ("remix.table4", "joint training", {"DukeMTMC-reID:mAP": 60.7}),
            ("remix.table5", "+ in L_cen only as centroids", {"R1": 75.4, "mAP": 60.0}),
            ("remix.table11", "384x128 with", {"inference_ms": 149, "Market-1501:R1": 85.1}),
            ("remix.table13", "ReMix on MSMT17", {"MSMT17:R1": 84.8, "MSMT17:mAP": 63.9}),
        ],
    )
    def test_stand_in_their_row(self, name, row_name, want):
        found = row(table(name), row_name).printed
        assert {key: found[key] for key in want} == want

    def test_unreadable_ones_are_said_to_be(self):
        rows = [each for each in table("table10").rows if each.name.startswith("tau_rel")]
        assert len(rows) == 6
        assert all(not each.printed and each.note == "not printed here" for each in rows)


class TestTables:
    def test_all_are_there(self):
        assert set(TABLES) == {name for *_, name in PRINTED} | {"retrieval", "mistakes", "regimes"}
        assert all(name == each.name for name, each in TABLES.items())

    @pytest.mark.parametrize("of", TABLES.values(), ids=TABLES)
    def test_names_are_unique_and_columns_exist(self, of: PaperTable):
        names = [each.name for each in of.rows]
        titles = [column.title for column in of.columns]
        assert len(set(names)) == len(names) and len(set(titles)) == len(titles)
        assert of.claim and of.title and (not of.ranked_by or of.ranked_by in titles)

    def test_unknown_names_list_what_there_is(self):
        with pytest.raises(
            ValueError, match="unknown table 'table13'; there are table1, table2a, .*remix.table14"
        ):
            table("table13")
        with pytest.raises(ValueError, match=r"unknown row 'K=3' of table5; there are 'K=2', 'K=4'"):
            row(table("table5"), "K=3")

    @pytest.mark.parametrize("number", "3 5 7 8 9 10 12".split())
    def test_ablations_have_controls_and_a_bound(self, number):
        rows = table(f"table{number}").rows
        assert [each.kind for each in rows[-3:]] == ["control", "control", "bound"]
        assert [each for each in rows[-3:]] == [*table("table3").rows[-3:]]

    def test_same_batch_size_is_that(self):
        for name in PROFILES:
            full, multi = (
                config("table3", r, name).batch for r in ("+ RM", "multi-camera only, same batch size")
            )
            assert full.size == multi.size and multi.ids_single == 0


class TestRows:
    @pytest.mark.parametrize("name", PROFILES)
    def test_make_a_config_in_every_profile(self, name):
        for of in TABLES.values():
            for each in of.rows:
                made = change(profile(name), **changes_of(of, each, name))
                assert made.profile == name and made.batch.size > 0

    @pytest.mark.parametrize(("of", "each"), ROWS)
    def test_only_printed_ones_change_nothing(self, of: PaperTable, each: Row):
        if each.kind == "printed":
            assert each.printed and not each.changes and each.data is None
            assert changes_of(of, each, "mini") == {}
        elif each.kind == "paper":
            assert each.printed or each.note
        else:
            assert not each.printed

    @pytest.mark.parametrize("of", TABLES.values(), ids=TABLES)
    def test_siblings_are_different_runs(self, of: PaperTable):
        """In mini, whose encoder is not the ViT of the printed steps."""
        names = [each.name for each in of.rows if each.kind != "printed"]
        runs = {name: run(of.name, name) for name in names}
        if of.measured == "statistics":
            runs = {each.name: (each.data,) for each in of.rows if each.data}
            assert len(runs) == len(of.rows)
        twice = [name for name, found in runs.items() if list(runs.values()).count(found) > 1]
        assert twice == []

    @pytest.mark.parametrize("of", TABLES.values(), ids=TABLES)
    def test_name_datasets_that_exist(self, of: PaperTable):
        for held in (of.data, *(each.data for each in of.rows if each.data)):
            for setting in (held.worlds, held.real):
                assert setting is not None and (setting.sources or setting.single)
                for text in (*setting.sources, *setting.single, *setting.targets):
                    name, _, split = text.partition(":")
                    assert split in ("", *data.dataset(name).splits)
                assert all(data.dataset(name).single_camera for name in setting.single)
                assert not any(data.dataset(name.split(":")[0]).single_camera for name in setting.sources)
                assert all("query" in data.dataset(name).splits for name in setting.targets)

    @pytest.mark.parametrize("of", TABLES.values(), ids=TABLES)
    def test_columns_read_every_target(self, of: PaperTable):
        """A score of each target, in both kinds of data, appears under some column."""
        if of.measured or of.name in ("table4", "remix.table14"):
            return
        for each in of.rows:
            held = each.data or of.data
            for setting in (held.worlds, held.real):
                if each.kind == "printed" or setting is None:
                    continue
                scores = {name: {"rank1": 0.25, "mAP": 0.5} for name in setting.targets}
                result = {"scores": scores, "sources": setting.sources}
                shown = [column.read(each, result) for column in of.columns]
                assert {25.0, 50.0} <= set(shown)
                for column, number in zip(of.columns, shown, strict=True):
                    if each.printed.get(column.key) and column.key.endswith(("R1", "mAP")):
                        assert number in (25.0, 50.0), column.title


SHARED = [
    ("table3", "profile encoder: + RM", "table10", "tau_merge=.8 video"),
    ("table3", "profile encoder: + RM", "table4", "+ RM"),
    ("table3", "profile encoder: + RM", "table12", "64"),
    ("table3", "profile encoder: + RM", "table2a", "DynaMix, Market-1501"),
    ("table3", "profile encoder: + ECM", "table5", "K=all"),
    ("table3", "profile encoder: + ECM", "table7", "alpha=.3"),
    ("table3", "profile encoder: + ECM", "table8", "random, no queue"),
    ("table3", "profile encoder: naive centroids", "table5", "naive"),
    ("table3", "profile encoder: + DSM", "table8", "median"),
    ("table3", "profile encoder: + DSM", "table9", "queue=30"),
    ("table9", "queue=0", "table8", "median, no queue"),
    ("table10", "tau_merge=.8 global", "table4", "global scope"),
    ("table10", ".65/.65/.8", "table4", ".65/.65/.8"),
    ("table10", "calibrated", "table4", "calibrated"),
    ("table3", "+ RM", "table11", "ViT-base"),
    ("table2a", "ReMix, MSMT17", "remix.table6c", "ReMix, MSMT17"),
    ("table2b", "ReMix to Market-1501", "remix.table7", "ReMix to Market-1501"),
    ("remix.table4", "neither", "remix.table5", "w/o single-camera data"),
    ("remix.table4", "neither", "remix.table2a", "tau_ins_m=.1 tau_aug=.1"),
    ("remix.table4", "neither", "remix.table9a", "B_m=32"),
    ("remix.table4", "neither", "remix.table10a", "N_K_m=4"),
    ("remix.table4", "neither", "remix.table11", "256x128 without"),
    ("remix.table4", "neither", "remix.table12", "ResNet50-IBN without"),
    ("remix.table4", "joint training", "remix.table5", "+ in L_cen"),
    ("remix.table4", "joint training", "remix.table2c", "tau_cen_s=.6"),
    ("remix.table4", "joint training", "remix.table8", "eps=.8"),
    ("remix.table4", "both", "remix.table3", "iterations=400"),
    ("remix.table4", "both", "remix.table9b", "B_s=32"),
    ("remix.table4", "both", "remix.table10b", "N_K_s=4"),
    ("remix.table4", "both", "remix.table11", "256x128 with"),
    ("remix.table5", "+ in L_ins", "remix.table2b", "tau_ins_s=.2"),
    ("remix.table5", "multi-camera only, same batch size", "remix.table9a", "B_m=64"),
    ("remix.table6b", "ReMix", "remix.table13", "ReMix on Market-1501"),
    ("remix.table4", "both", "remix.table6b", "ReMix"),
]


class TestRuns:
    @pytest.mark.parametrize(("name", "one", "other", "two"), SHARED)
    def test_are_shared_between_tables(self, name, one, other, two):
        """The paper's own coincidences, and what mini's encoder and K make equal."""
        assert run(name, one) == run(other, two)

    def test_without_single_camera_data_the_methods_share_them(self):
        assert run("remix.table4", "pre-training") == run("table3", "multi-camera only")

    def test_of_the_paper_are_the_profile_itself(self):
        for name, one in (
            ("table3", "+ RM"),
            ("table10", "tau_merge=.8 global"),
            ("table11", "ViT-base"),
            ("table12", "64"),
        ):
            assert config(name, one, "paper") == profile("paper")
        assert config("table10", "tau_merge=.8 video", "gpu") == profile("gpu")
        assert config("table5", "K=4", "paper") == config("table3", "+ ECM", "paper")
        assert config("table9", "queue=30", "paper") == config("table3", "+ DSM", "paper")

    def test_remix_keeps_its_own_optimizer_only_on_real_data(self):
        real = config("remix.table4", "both", "paper")
        assert (real.method, real.opt.name, real.opt.lr, real.opt.weight_decay) == (
            "remix",
            "adam",
            3.5e-4,
            5e-4,
        )
        assert real.encoder.name == "resnet50_ibn" and real.encoder.dim == 2048
        assert config("remix.table4", "both", "mini").opt == profile("mini").opt


class TestChangesByProfile:
    def test_queue(self):
        found = [
            [config("table9", f"queue={epochs}", name).dsm for epochs in (0, 1, 10, 20, 30, 40)]
            for name in ("mini", "paper")
        ]
        assert [each.queue_fraction for each in found[0]] == [0, 0.007, 0.07, 0.15, 0.22, 0.29]
        assert [each.queue_epochs for each in found[1]] == [0, 1, 10, 20, 30, 40]
        assert all(each.queue_epochs is None for each in found[0])
        assert all(each.queue_fraction is None for each in found[1])

    def test_iterations(self):
        counts = [config("remix.table3", f"iterations={n}", "mini").iterations for n in (300, 400, 600, 800)]
        assert counts == [56, 75, 112, 150]
        assert config("remix.table3", "iterations=600", "paper").iterations == 600
        seen = [config("table12", f"{n}, same images seen", "paper") for n in (32, 128, 256)]
        assert {each.iterations * each.batch.size for each in seen} == {400 * 64}

    @pytest.mark.parametrize(
        ("name", "image", "drawn"),
        [
            ("mini", (96, 32), (96, 32)),
            ("gpu", (192, 64), (192, 64)),
            ("paper", (384, 128), (64, 32)),
        ],
    )
    def test_image(self, name, image, drawn):
        made = config("remix.table11", "384x128 with", name)
        assert (made.encoder.image, made.mannequins.image) == (image, drawn)

    def test_batches_of_table_12_are_half_multi_camera(self):
        for size in (32, 64, 128, 256):
            batch = config("table12", str(size)).batch
            assert batch.size == size and batch.ids_multi == batch.ids_single
            assert batch.images_multi == batch.images_single == 4

    def test_batches_of_remix(self):
        for table_name, key, values in (
            ("remix.table9a", "B_m", (16, 32, 64)),
            ("remix.table9b", "B_s", (16, 32, 64)),
        ):
            for size in values:
                assert config(table_name, f"{key}={size}").batch.size == size + 32 * (key == "B_s")
        for images in (2, 4, 8):
            multi, single = (
                config(f"remix.table10{x}", f"N_K_{y}={images}").batch for x, y in (("a", "m"), ("b", "s"))
            )
            assert (multi.images_multi, multi.size) == (images, 32)
            assert (single.images_single, single.images_multi, single.size) == (images, 4, 64)

    def test_stages_of_table_10(self):
        held = {each.name: config("table10", each.name).rm for each in table("table10").rows[:18]}
        for name, rm in held.items():
            assert rm.scope == name.split()[1]
            assert rm.merging == name.startswith("tau_merge")
            assert (rm.tau_remove == -1) == name.startswith("tau_rel")
        assert held["tau_rel=.7 video"].tau_rel == 0.7
        assert held["tau_remove=.3 global"].tau_remove == 0.3 and held["tau_remove=.3 global"].tau_rel == 0.6
        assert held["tau_merge=.9 video"].tau_merge == 0.9

    def test_single_camera_data_enter_the_losses_in_turn(self):
        rows = ("+ in L_aug", "+ in L_ins", "+ in L_cen only as centroids", "+ in L_cen")
        used = [
            (c.aug.use_single, c.ins.use_single, c.cen.use_single)
            for c in (config("remix.table5", r) for r in rows)
        ]
        assert used == [
            (True, False, "off"), (True, True, "off"), (True, True, "centroids_only"), (True, True, "on")
        ]  # fmt: skip


class TestData:
    def test_comparisons_follow_the_protocols(self):
        for train in ("Market-1501", "MSMT17", "MSMT17-merged", "RandPerson"):
            real = row(table("table2a"), f"DynaMix, {train}").data.real
            known = protocol(f"cross-{REAL[train].replace('_', '-')}")
            assert (real.sources, real.single) == (known.sources, known.single)
            assert set(known.targets) <= set(real.targets)
        for test in ("CUHK03-NP", "Market-1501", "DukeMTMC-reID", "MSMT17"):
            real = row(table("table2b"), f"DynaMix to {test}").data.real
            known = protocol(f"leave-out-{REAL[test].removesuffix('_detected')}")
            assert real == Setting(sources=known.sources, single=known.single, targets=known.targets)

    def test_nothing_trained_on_is_tested_on_unless_split(self):
        merged = row(table("table2a"), "DynaMix, MSMT17-merged").data
        assert merged.worlds.sources == ("station:all",) and merged.worlds.targets == ("hall", "plaza")
        assert merged.real.targets == ("cuhk03_detected", "market1501")
        left = row(table("table2b"), "DynaMix to CUHK03-NP").data.worlds
        assert set(left.sources) == {"plaza", "campus", "station"} and left.targets == ("hall",)

    @pytest.mark.parametrize("name", LEAVE_OUT)
    def test_a_row_shows_the_dataset_that_it_leaves_out_and_none_it_trained_with(self, name):
        of, stands = table(name), {"hall": "CUHK03-NP", "plaza": "Market-1501", "campus": "DukeMTMC-reID"}
        stands |= {"station": "MSMT17"} if name == "table2b" else {}
        scores = {world: {"rank1": n / 10, "mAP": n / 100} for n, world in enumerate(stands, 1)}
        real = {REAL[dataset]: scores[world] for world, dataset in stands.items()}
        methods = 2 if name == "table2b" else 1
        assert sum(each.kind != "printed" for each in of.rows) == methods * len(stands)
        for n, (world, dataset) in enumerate(stands.items(), 1):
            trained = [each for each in of.rows if each.kind != "printed" and each.group == dataset]
            assert len(trained) == methods
            for each in trained:
                assert each.data.worlds.targets == (world,) and world not in each.data.worlds.sources
                for found in (scores, real):
                    shown = [column.read(each, {"scores": found}) for column in of.columns]
                    assert shown == pytest.approx([10.0 * n, 1.0 * n])


class TestGroups:
    """Whose order is compared with whose."""

    def found(self, of: PaperTable, profile_name: str):
        """Every row that runs, ours as the paper's numbers."""
        results = {}
        for each in of.rows:
            held = each.data or of.data
            names = (held.real if profile_name == "paper" else held.worlds).targets
            number = next((v for key, v in each.printed.items() if key.endswith("mAP")), 50.0) / 100
            scores = {name: {"rank1": number, "mAP": number} for name in names}
            result = {"seed": 0, "scores": scores, "sources": []}
            results |= {} if each.kind == "printed" else {each.name: [result]}
        return agreement.agreement(of, profile_name, results)

    @pytest.mark.parametrize(("name", "scope"), [("mini", "video"), ("gpu", "video"), ("paper", "global")])
    def test_of_table_10_are_the_thresholds_in_the_profiles_scope(self, name, scope):
        seen = self.found(table("table10"), name)
        assert profile(name).rm.scope == scope
        assert seen.rows == tuple(
            f"tau_{what} {scope}"
            for what in ("remove=.3", "remove=.4", "remove=.5", "merge=.7", "merge=.8", "merge=.9")
        )
        assert len(seen.blocks) == 2 and (seen.tau, seen.p) == (1.0, 1 / 36)

    def test_of_comparisons_are_the_training_sets(self):
        seen = self.found(table("table2a"), "mini")
        sets = ("MSMT17", "MSMT17-merged", "RandPerson")
        assert seen.rows == tuple(f"{method}, {train}" for train in sets for method in ("ReMix", "DynaMix"))
        assert seen.groups == tuple(train for train in sets for _ in range(2))
        seen = self.found(table("remix.table6c"), "mini")
        assert seen.groups == tuple(train for train in sets for _ in range(2))
        assert all(name.startswith("ReMix") for name in seen.rows) and len(seen.blocks) == 3

    def test_of_other_tables_are_all_rows(self):
        grouped = {of.name for of in TABLES.values() for each in of.rows if each.group}
        assert grouped == {"table10", "table2a", "remix.table6c", *LEAVE_OUT}


class TestRegimes:
    """A step's worth in a regime is a difference of two rows: nothing else may differ between them."""

    STEPS = {"ecm", "dsm", "rm"}  # sections of the config that the steps change

    @staticmethod
    def sections(name: str) -> dict[str, object]:
        return {field.name: getattr(config("regimes", name), field.name) for field in fields(Config)}

    @pytest.mark.parametrize("regime", REGIMES)
    def test_steps_differ_in_their_own_sections(self, regime):
        for step, without in WORTH.values():
            a, b = self.sections(f"{regime}: {step}"), self.sections(f"{regime}: {without}")
            differ = {section for section in a if a[section] != b[section]}
            assert differ and differ <= self.STEPS - {"rm"}
            assert not a["rm"].on

    @pytest.mark.parametrize("regime", REGIMES)
    def test_a_regime_differs_from_the_tables_in_what_it_says(self, regime):
        a, b = self.sections(f"{regime}: + ECM"), vars(config("table3", "profile encoder: + ECM"))
        wanted = {key.partition("__")[0] for key in REGIMES[regime][0]} | {"mannequins"}
        assert {section for section in a if a[section] != b[section]} == wanted
        assert a["mannequins"].seed != b["mannequins"].seed

    def test_one_regime_alone_starts_from_random_weights(self):
        scratch = [each.name for each in table("regimes").rows if each.start == "scratch"]
        assert len(scratch) == 5 and {name.partition(":")[0] for name in scratch} == {SCRATCH}

    def test_all_runs_differ(self):
        keys = [run("regimes", each.name) for each in table("regimes").rows]
        assert len(set(keys)) == len(keys) == len(REGIMES) * 5 + 4

    def test_still_cameras_are_all_that_differs(self):
        for step in ("naive centroids", "+ RM"):
            still, moving = (config("regimes", f"{regime}: {step}") for regime in (STILL, "as in the tables"))
            assert still.mannequins.moments == 1 < moving.mannequins.moments
            assert change(still, mannequins=moving.mannequins) == moving


class TestRemixLabels:
    def test_given_ones_are_those_of_a_dataset_that_has_them(self):
        for of in TABLES.values():
            for each in of.rows:
                if (
                    "given" in (of.base | dict(each.changes)).get("remix__labels", "")
                    and each.kind != "bound"
                ):
                    assert (each.data or of.data).real.single == ("luperson_nl",), (of.name, each.name)

    def test_neighbors_fit_the_videos_of_the_data(self):
        found = {name: config("remix.table8", "jaccard eps=.55", name).remix.k1 for name in PROFILES}
        assert found == {"tiny": 10, "mini": 10, "gpu": 10, "paper": 30}


class TestColumns:
    RESULT = {
        "scores": {},
        "report": {"images_before": 200, "images_after": 150, "pids_before": 50, "pids_after": 40},
        "quality_before": {"precision": 0.5, "recall": 0.25, "f1": 1 / 3},
        "quality_after": {
            "precision": 0.75,
            "recall": 0.5,
            "f1": 0.6,
            "junk_removed": 0.4,
            "good_removed": 0.0,
        },
    }

    def read(self, result: dict) -> dict[str, float | None]:
        of = table("table4")
        return {column.title: column.read(of.rows[0], result) for column in of.columns}

    def test_of_table_4_read_the_last_relabeling(self):
        found = self.read(self.RESULT)
        assert [found[f"images {x}"] for x in ("before", "after", "change")] == [200, 150, -25]
        assert [found[f"pids {x}"] for x in ("before", "after", "change")] == [50, 40, pytest.approx(-20)]
        assert [found[f"precision {x}"] for x in ("before", "after")] == [50, 75]
        assert [found[f"F1 {x}"] for x in ("before", "after")] == pytest.approx([100 / 3, 60])
        assert (found["junk removed"], found["good removed"]) == (40, 0)

    def test_of_table_4_are_empty_where_nothing_is_known(self):
        """Real data has no truth, a run without relabeling no report, an older result neither."""
        nothing = {"report": None, "quality_before": None, "quality_after": None}
        for result in (nothing, {}):
            assert set(self.read(result).values()) == {None}

    def test_time(self):
        hours: Column = table("remix.table3").columns[-1]
        assert hours.read(table("remix.table3").rows[0], {"seconds": 1800.0}) == 0.5
        assert hours.read(table("remix.table3").rows[0], {}) is None

    @pytest.mark.parametrize(
        ("number", "text"), [(0.07, ".07"), (0.5, ".5"), (4, "4"), (0, "0"), ("all", "all")]
    )
    def test_numbers_are_written_as_in_the_papers(self, number, text):
        assert short(number) == text
