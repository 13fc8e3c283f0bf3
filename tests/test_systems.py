"""Named systems: their files, settings by dotted path, and errors that name every fault."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from pydantic import ValidationError

from nearfar import systems
from nearfar.embedding.embeddings import VIEWS
from nearfar.systems import configuration, named
from nearfar.systems.components import Component
from nearfar.systems.configuration import load, name_and_options
from nearfar.systems.named import SYSTEMS
from nearfar.systems.settings import parse_settings

NEEDS = {"channels", "weights", "training", "minutes", "measured_on"}


@pytest.mark.parametrize("name", SYSTEMS)
class TestEveryNamedSystem:
    def test_is_named_as_its_file(self, name):
        assert load(name).name == name == SYSTEMS[name].stem

    def test_says_what_it_is_where_it_is_from_and_what_it_needs(self, name):
        system = load(name)
        assert system.summary.strip()
        assert system.source.strip()
        assert "\n" not in system.summary
        written = tomllib.loads(SYSTEMS[name].read_text(encoding="utf-8"))
        assert set(written["needs"]) - {"adapter_minutes"} == NEEDS
        assert system.needs.minutes >= 0

    def test_says_how_many_channels_it_needs(self, name):
        system = load(name)
        adapted = 1 if system.branch.adaptation is None else 2  # an adapter is trained with both microphones
        assert system.needs.channels == max(VIEWS[system.branch.view].channels, adapted)

    def test_can_be_made(self, name):
        branch = load(name).branch
        Component.resolve("encoder", branch.encoder, branch.encoder_options).make()
        Component.resolve("backend", branch.backend, branch.backend_options).make()
        for step in branch.conditioning:
            Component.resolve("conditioning", *name_and_options(step)).make()

    def test_comes_back_from_what_a_detector_keeps_of_it(self, name):
        system = load(name)
        assert configuration.System.model_validate(system.model_dump(mode="json")) == system

    def test_is_described(self, name):
        (described,) = [d for d in named.describe() if d.name == name]
        system = load(name)
        assert described.summary == system.summary
        assert described.needs == system.needs

    def test_is_frozen(self, name):
        with pytest.raises(ValidationError, match="Instance is frozen"):
            load(name).name = "other"

    @pytest.mark.parametrize("method", ["conformal", "gamma", "none"])
    def test_takes_every_threshold(self, name, method):
        assert load(name, {"threshold.method": method}).threshold.method == method


def test_the_default_is_named():
    assert named.DEFAULT in SYSTEMS
    assert {d.name for d in named.describe()} == {*SYSTEMS, *named.FUSED}


def test_spectral_near_hears_one_microphone_and_is_else_as_spectral():
    assert load("spectral", {"branch.view": "near"}).branch == load("spectral_near").branch


# settings


def test_settings_replace_what_the_file_says():
    system = load("baseline_mse", {"branch.training.epochs": 3, "threshold.folds": 7, "branch.view": "far"})
    assert system.branch.training == {**load("baseline_mse").branch.training, "epochs": 3}
    assert system.threshold.folds == 7
    assert system.branch.view == "far"
    assert load("baseline_mse").branch.view == "near"  # and leave it for the next


def test_a_summary_says_what_was_changed():
    before = load("spectral").summary
    changed = load("spectral", {"branch.view": "near", "threshold.folds": 7}).summary
    assert changed == f"{before} Changed: branch.view=near."
    assert load("spectral", {"threshold.folds": 7}).summary == before
    assert load("spectral", {"branch.view": "near", "summary": "Mine."}).summary == "Mine."


def test_settings_reach_tables_that_the_file_lacks():
    assert load("spectral_w1", {"branch.encoder_options.n_mels": 64}).branch.encoder_options == {"n_mels": 64}


def test_another_encoder_or_back_end_has_its_own_options():
    before = load("spectral").branch
    assert before.encoder_options
    assert load("spectral", {"branch.encoder": "spectral"}).branch == before
    mn04 = {"branch.encoder": "efficientat", "branch.encoder_options.weights": "mn04_as"}
    assert load("spectral", mn04).branch.encoder_options == {"weights": "mn04_as"}
    reverse = dict(reversed(mn04.items()))
    assert load("spectral", reverse).branch.encoder_options == {"weights": "mn04_as"}
    assert load("mn04_dld").branch.backend_options
    assert load("mn04_dld", {"branch.backend": "mahalanobis"}).branch.backend_options == {}


def test_members_and_machines_with_another_back_end_have_its_options():
    few = {"branch.backend_options": {"few": 5}}
    outlier = {"branch.backend": "mahalanobis"}
    system = load(
        "spectral", {**few, "machines": {"fan": outlier}, "ensemble.members": [{}, {"backend": "smote"}]}
    )
    assert system.of_machine("fan").branch.backend_options == {}
    assert [branch.backend_options for branch, _ in system.members(0)] == [{"few": 5}, {}]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"summry": "x"}, "summry: no key 'summry'; did you mean 'summary'"),
        ({"needs.minuts": 1.0}, "needs.minuts: no key 'minuts'; did you mean 'minutes'"),
        ({"branch.vew": "near"}, "branch.vew: no key 'vew'; did you mean 'view'"),
        ({"branch.view": "naer"}, "branch.view: no view 'naer'; did you mean 'near'"),
        ({"branch.encoder": "spectre"}, "branch.encoder: no encoder 'spectre'; did you mean 'spectral'"),
        ({"threshold.fold": 5}, "threshold.fold: no key 'fold'; did you mean 'folds'"),
        (
            {"branch.encoder_options.n_mel": 5},
            "branch.encoder_options: no encoder_options key 'n_mel'; did you mean 'n_mels'",
        ),
        ({"branch.training.epochs": 5}, "branch.training: encoder 'spectral' is not trained"),
        ({"threshold.false_alarm_rate": 5}, "threshold.false_alarm_rate: Input should be less than 1"),
        ({"threshold.folds": "many"}, "threshold.folds: Input should be a valid integer"),
        ({"threshold": "none"}, "threshold: Input should be a valid dictionary"),
        ({"branch.view": 3}, "branch.view: Input should be a valid string"),
        ({"branch.conditioning": "standardize"}, "branch.conditioning: Input should be a valid tuple"),
        (
            {"branch.conditioning": ["whitn"]},
            "branch.conditioning: no conditioning 'whitn'; did you mean 'whiten'",
        ),
        (
            {"branch.conditioning": ["pca", {"name": "whiten", "component": 5}]},
            "branch.conditioning: no conditioning 'whiten' key 'component'; did you mean 'components'",
        ),
        ({"branch.conditioning": [{"components": 5}]}, "branch.conditioning.0.table.name: Field required"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_wrong_setting_is_an_error_with_its_path(settings, message):
    with pytest.raises(ValueError, match=message) as error:
        load("spectral", settings)
    assert str(error.value).startswith("spectral.toml:\n  ")
    assert "pydantic" not in str(error.value)


def test_all_faults_are_named_at_once():
    wrong = {"branch.vew": "near", "threshold.folds": 1, "needs.chanels": 2, "branch.backend": "mahalonobis"}
    with pytest.raises(ValueError, match=r"spectral\.toml: 4 faults") as error:
        load("spectral", wrong)
    lines = str(error.value).splitlines()[1:]
    assert [line.strip().partition(":")[0] for line in lines] == [
        "needs.chanels",
        "branch.backend",
        "branch.vew",
        "threshold.folds",
    ]


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"branch.encoder_options.hopp": 64}, "'hopp'"),
        ({"branch.backend_options.shrinkage": 1}, "'shrinkage'"),
        ({"branch.view": "naer"}, "'naer'"),
    ],
    ids=["of one table", "of two tables", "beside another fault"],
)
def test_all_wrong_options_are_named_at_once(other, named):
    with pytest.raises(ValueError, match="no encoder_options key 'n_mel'") as error:
        load("spectral", {"branch.encoder_options.n_mel": 64, **other})
    assert named in str(error.value)


def test_a_setting_below_a_value_is_an_error():
    with pytest.raises(ValueError, match=r"'branch\.view\.left': 'view' is a value, not a table"):
        load("spectral", {"branch.view.left": True})


@pytest.mark.parametrize(
    ("system", "setting", "message"),
    [
        ("spectral", {"view": "near"}, "view: no key 'view' here; did you mean branch.view?"),
        (
            "spectral",
            {"n_mels": 64},
            "n_mels: no key 'n_mels' here; did you mean branch.encoder_options.n_mels?",
        ),
        ("mn04_dld", {"k": 3}, "k: no key 'k' here; did you mean branch.backend_options.k?"),
        ("mn04_dld", {"branch.k": 3}, "branch.k: no key 'k' here; did you mean branch.backend_options.k?"),
        (
            "mn04_dld",
            {"backend_options.k": 3, "backend_options.metric": "cosine"},
            "here; did you mean branch.backend_options.k or branch.backend_options.metric?",
        ),
        ("baseline_mse", {"epochs": 5}, "epochs: no key 'epochs' here; did you mean branch.training.epochs?"),
        (
            "baseline_mse",
            {"training.epochs": 5},
            "no key 'training' here; did you mean branch.training.epochs?",
        ),
        ("dualmic", {"epochs": 5}, "epochs: no key 'epochs' here; did you mean branch.adaptation.epochs?"),
        (
            "spectral",
            {"branch.threshold.folds": 5},
            "branch.threshold: no key 'threshold' here; did you mean threshold.folds?",
        ),
        (
            "spectral",
            {"threshold.seeds": [1]},
            "threshold.seeds: no key 'seeds' here; did you mean ensemble.seeds?",
        ),
        (
            "mn04_dld",
            {"branch.encoder_options.k": 3},
            "no encoder_options key 'k'. There are: blocks, device, precision, sample_rate, weights\n"
            "  For k, did you mean branch.backend_options.k?",
        ),
    ],
)
def test_a_misplaced_key_is_pointed_to_its_place(system, setting, message):
    with pytest.raises(ValueError, match=re.escape(message) + "$"):
        load(system, setting)


@pytest.mark.parametrize("setting", [{"epochs": 5}, {"backend_options.k": 3}, {"depth": 3}])
def test_a_key_that_this_system_has_nowhere_is_pointed_to_no_place(setting):
    with pytest.raises(ValueError, match="There are: branch, ensemble") as error:
        load("spectral", setting)
    assert "branch." not in str(error.value)


def test_a_misplaced_key_is_pointed_to_its_place_whatever_else_is_wrong():
    with pytest.raises(ValueError, match=r"spectral\.toml: 2 faults") as error:
        load("spectral", {"branch.backend": "nowhere", "branch.n_mels": 3})
    assert "did you mean branch.encoder_options.n_mels?" in str(error.value)


# names and files


def test_an_unknown_system_names_the_nearest():
    with pytest.raises(ValueError, match="no system 'spectrel'; did you mean 'spectral'"):
        load("spectrel")


@pytest.fixture
def own(tmp_path):
    """A system of the user's own in a file."""
    path = tmp_path / "own.toml"
    text = SYSTEMS["spectral"].read_text(encoding="utf-8")
    path.write_text(text.replace('name = "spectral"', 'name = "Lüfter"'), encoding="utf-8")
    return path


def test_a_system_in_a_file(own):
    assert load(str(own)).name == "Lüfter"
    assert load(str(own)).branch == load("spectral").branch
    assert load(str(own), {"branch.view": "far"}).branch.view == "far"


def test_a_file_beside_is_found(own, monkeypatch):
    monkeypatch.chdir(own.parent)
    assert load("own.toml").name == "Lüfter"


def test_faults_of_a_file_name_it(own):
    own.write_text(own.read_text(encoding="utf-8").replace("folds = 10", "folds = 0"), encoding="utf-8")
    with pytest.raises(ValueError, match=r"own\.toml:\n  threshold\.folds: Input should be greater"):
        load(str(own))


def test_missing_keys_are_named(own):
    own.write_text('name = "x"\n[branch]\nencoder = "spectral"\n', encoding="utf-8")
    with pytest.raises(ValueError, match=r"own\.toml: 5 faults") as error:
        load(str(own))
    assert all(
        f"  {key}: Field required" in str(error.value)
        for key in ("summary", "source", "needs", "branch.pooling", "branch.backend")
    )


def test_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"not_there\.toml"):
        load(str(tmp_path / "not_there.toml"))


def test_a_system_is_read_without_torch_or_scikit_learn(own):
    code = (
        "import sys; from nearfar.systems import configuration, named; "
        "named.describe(); configuration.load('spectral'); "
        "assert not {'torch', 'sklearn'} & set(sys.modules), sorted({'torch', 'sklearn'} & set(sys.modules))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=own.parent, env=dict(os.environ))


# settings as text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("near", "near"),
        ('"near"', "near"),
        ("'a b'", "a b"),
        ("two words", "two words"),
        (" near ", "near"),
        ("1", 1),
        ("1e-3", 1e-3),
        ("0.5", 0.5),
        ("true", True),
        ("True", "True"),
        ('["standardize"]', ["standardize"]),
        ("[]", []),
        ("{epochs = 2}", {"epochs": 2}),
        ("a=b", "a=b"),
        ("", ""),
        ("none", "none"),
    ],
)
def test_a_setting_as_text(text, value):
    (parsed,) = parse_settings([f"branch.view={text}"]).values()
    assert parsed == value
    assert type(parsed) is type(value)


def test_several_settings_as_text():
    parsed = parse_settings(["branch.view=near", " threshold.folds = 5"])
    assert parsed == {"branch.view": "near", "threshold.folds": 5}
    assert load("spectral", parsed).threshold.folds == 5
    assert parse_settings([]) == {}


@pytest.mark.parametrize("text", ["branch.view", "=near", ""])
def test_text_that_is_no_setting_is_an_error(text):
    with pytest.raises(ValueError, match=f"{text!r}: expected key=value, such as branch.view=near"):
        parse_settings([text])


def test_the_files_are_all_there():
    folder = Path(systems.__file__).parent
    assert set(SYSTEMS) == {path.stem for path in folder.glob("*.toml")}
    assert set(named.FUSED) == {path.stem for path in folder.glob("fused/*.toml")}


# presets, ensembles, machines


@pytest.fixture
def with_presets(tmp_path):
    text = SYSTEMS["spectral"].read_text(encoding="utf-8")
    path = tmp_path / "mine.toml"
    path.write_text(f"""{text}
[presets.mono]
"branch.view" = "near"
"threshold.folds" = 5
""")
    return str(path)


@pytest.mark.parametrize(
    ("name", "preset"), [(d.name, preset) for d in named.describe() for preset in d.presets]
)
def test_every_preset_is_a_system(name, preset):
    system = load(name, preset=preset)
    assert system.name == f"{name}_{preset}"
    assert system.branch != load(name).branch


def test_a_preset_replaces_settings_and_is_part_of_the_name(with_presets):
    system = load(with_presets, {"threshold.folds": 6}, preset="mono")
    assert system.name == "spectral_mono"
    assert system.branch == load("spectral_near").branch
    assert system.threshold.folds == 6  # a setting is stronger
    assert load(with_presets) == load("spectral")


def test_a_preset_that_is_not_there(with_presets):
    with pytest.raises(ValueError, match="no preset 'momo'; did you mean 'mono'"):
        load(with_presets, preset="momo")
    with pytest.raises(ValueError, match=r"spectral\.toml: this system has no presets"):
        load("spectral", preset="small")


def test_a_wrong_setting_of_a_preset_is_an_error_with_its_path(with_presets):
    path = Path(with_presets)
    path.write_text(path.read_text().replace('"branch.view" = "near"', '"branch.view" = "naer"'))
    with pytest.raises(ValueError, match=r"branch\.view: no view 'naer'; did you mean 'near'"):
        load(with_presets, preset="mono")


def test_an_ensemble_has_a_branch_for_each_seed_and_member():
    system = load("baseline_mse", {"ensemble": {"seeds": [5, 6], "members": [{}, {"training.epochs": 7}]}})
    found = [(branch.training["epochs"], seed) for branch, seed in system.members(1)]
    assert found == [(100, 5), (100, 6), (7, 5), (7, 6)]


def test_without_an_ensemble_there_is_the_one_branch_with_the_seed_of_the_run():
    system = load("spectral")
    assert system.members(8) == [(system.branch, 8)]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ensemble.seeds": [1, 2, 1]}, r"ensemble.seeds: \[1, 2, 1\]: each seed once"),
        ({"ensemble.seeds": [-1]}, "ensemble.seeds.0: Input should be greater than or equal to 0"),
        ({"ensemble.members": []}, "ensemble.members: Tuple should have at least 1 item"),
        (
            {"ensemble.members": [{"backend": "mahalonobis"}]},
            "no back end 'mahalonobis'|no backend 'mahalonobis'",
        ),
        (
            {"ensemble.members": [{}, {"view": "near"}]},
            "all branches of an ensemble have one encoder and one view",
        ),
        ({"machines": {"fan": {"branch.view": "naer"}}}, "no view 'naer'; did you mean 'near'"),
        ({"machines": {"fan": {"branch.view.x": 1}}}, "'branch.view.x': 'view' is a value, not a table"),
    ],
)
def test_a_wrong_ensemble_or_machine_is_an_error(settings, message):
    with pytest.raises(ValueError, match=message):
        load("spectral", settings)


def test_settings_of_a_machine_are_its_own():
    system = load("spectral", {"machines": {"fan": {"branch.view": "near", "threshold.folds": 4}}})
    assert system.of_machine("fan").branch == load("spectral_near").branch
    assert system.of_machine("fan").threshold.folds == 4
    assert system.of_machine("pump") == load("spectral")


class TestTheSystemsOfTheDcaReport:
    """Table 1 of the report: bands, the epoch that is scored, schedules."""

    @pytest.mark.parametrize(
        ("name", "bands", "epochs", "schedules"),
        [
            ("dca_1", 128, 30, [30, 100]),
            ("dca_2", 128, 30, [30]),
            ("dca_3", 256, 20, [30, 100]),
            ("dca_4", 256, 20, [30]),
        ],
    )
    def test_are_as_published(self, name, bands, epochs, schedules):
        members = load(name).members(0)
        seeds = [42, 123, 456, 789, 1024, 2048, 3141, 4096, 5555, 6789]
        assert [seed for _, seed in members] == seeds * len(schedules)
        found = [branch.training["schedule_epochs"] for branch, _ in members[:: len(seeds)]]
        assert found == schedules
        for branch, _ in members:
            assert branch.encoder_options["n_mels"] == bands
            assert branch.encoder_options["n_fft"] == 8 * bands
            assert branch.training["epochs"] == epochs
            assert (branch.encoder, branch.view, branch.backend) == ("dca", "near_and_far", "gaussians")

    def test_share_the_trainings_that_they_can(self):
        """dca_2 and dca_4 are the fast half of dca_1 and dca_3."""
        for whole, half in (("dca_1", "dca_2"), ("dca_3", "dca_4")):
            assert load(half).members(0) == load(whole).members(0)[:10]


# adapted and fused systems


def test_a_fused_system_cannot_be_used_as_one_of_a_single_branch():
    with pytest.raises(
        ValueError, match="dual_dl4 has several branches, which are fused; only `nearfar fit` and"
    ):
        load("dual_dl4")
    with pytest.raises(ValueError, match="did you mean 'dual_dl4'"):
        load("dual_dl5")


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        (
            "spectral",
            {"branch.adaptation.rank": 8},
            "'spectral' is not a pretrained network, so there is nothing to adapt",
        ),
        (
            "eat_raw",
            {"branch.conditioning": ["head"]},
            r"conditioning 'head' comes from an adapter, but there is no",
        ),
        ("dualmic", {"branch.adaptation.rnk": 8}, "no adaptation key 'rnk'; did you mean 'rank'"),
        ("dualmic", {"branch.adaptation.rank": "many"}, "rank='many': Input should be a valid integer"),
        (
            "dualmic",
            {"machines.fan": {"branch.adaptation.rank": 4}},
            "machines.fan: adaptation and encoder are of all machines together",
        ),
    ],
)
def test_a_wrong_adaptation_is_an_error(name, settings, message):
    with pytest.raises(ValueError, match=message):
        load(name, settings)


class TestTheSystemsOfTheDualMicReport:
    """J. Lei, technical report, sections 2.3 and 3; what it leaves open is as docs/dualmic.md has it."""

    @pytest.mark.parametrize("name", ["dualmic", "dualmic_raw", "dualmic_head", "dualmic_difference"])
    def test_are_adapted_as_published(self, name):
        adaptation = load(name).branch.adaptation
        assert adaptation["rank"] == 8
        assert adaptation["blocks"] == [6, 7, 8, 9, 10]
        assert adaptation["targets"] == ["attn.qkv", "attn.proj"]
        assert adaptation["dim"] == 256
        weights = [adaptation[f"{term}_weight"] for term in ("machine", "domain", "consistency")]
        assert weights == [0.25, 0.15, 0.05]
        assert (adaptation["epochs"], adaptation["batch_size"], adaptation["learning_rate"]) == (2, 40, 5e-5)
        assert load(name).branch.encoder_options["blocks"] == [10]
        assert load(name).branch.backend_options == {"k": 8, "k_target": 5}

    def test_are_scored_by_what_the_report_compares(self):
        head, difference = load("dualmic_head").branch, load("dualmic_difference").branch
        assert (head.view, head.conditioning) == ("near_and_far", ("head",))
        assert load("dualmic_raw").branch.conditioning == ()
        assert difference.view == "near_and_contrast"
        assert difference.conditioning == load("dualmic").branch.conditioning

    def test_share_one_adapter(self):
        names = ("dualmic", "dualmic_raw", "dualmic_head", "dualmic_difference")
        branches = [load(name).branch for name in names]
        assert (
            len({b.model_dump_json(include={"encoder", "encoder_options", "adaptation"}) for b in branches})
            == 1
        )

    def test_the_autoencoders_are_the_official_one(self):
        official, near, residual = (
            load(name).branch for name in ("baseline_mahalanobis", "near_mah", "res_mah")
        )
        assert near == official
        assert residual == official.model_copy(update={"view": "cancelled"})
