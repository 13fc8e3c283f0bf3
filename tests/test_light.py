"""Light by default: what runs without the optional packages, and what asks for them by name.

An absent package is one that a finder refuses, in a process of its own. `make light` runs the same commands in an
environment where they are not installed at all.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import quick
from synthetic import write_machine

from nearfar import Detector, load_machine, load_system
from nearfar.encoders import ENCODERS
from nearfar.encoders.pretrained import PRETRAINED
from nearfar.files import extras
from nearfar.files.extras import EXTRAS, MissingPackageError
from nearfar.files.steps import Jobs
from nearfar.training import TRAINERS

ROOT = Path(__file__).parents[1]
LIGHT = ("spectral",)  # encoders
COMMAND = "from nearfar.cli import main; main()"
INSTALL = r"needs torch, which is not installed; install it with: pip install 'nearfar\[networks\]'"

# What one verdict of the default system loads: our dependencies, and what these need.
LOADED = {
    "array_api_compat", "numpy", "platformdirs", "pydantic", "rich", "safetensors", "scipy", "soundfile", "soxr",
    "typer",
}  # fmt: skip
OF_THESE = {
    "annotated_doc", "annotated_types", "click", "pydantic_core", "shellingham", "typing_extensions",
    "typing_inspection",
}  # fmt: skip


# What takes a tenth of a second or more to load, or much memory, and what a verdict can do without.
SLOW = (
    "jinja2", "joblib", "matplotlib", "numba", "onnxruntime", "pandas", "pyroomacoustics", "scipy.interpolate",
    "scipy.optimize", "scipy.signal", "scipy.stats", "sklearn", "torch",
)  # fmt: skip


def python(code: str, *arguments: object, finder: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process where ``refused(name)`` of ``finder`` decides which packages are absent."""
    prelude = f"""
import sys
{finder}
class Finder:
    def find_spec(self, name, path=None, target=None):
        if refused(name):
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Finder())
"""
    command = [sys.executable, "-c", prelude + code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def without_torch(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return python(code, *arguments, finder="def refused(name): return name == 'torch'")


@pytest.fixture(scope="module")
def fan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_machine(tmp_path_factory.mktemp("data"), "fan", test=1)


@pytest.fixture(scope="module")
def detector(fan: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the default system; fitted where torch is not installed."""
    folder = tmp_path_factory.mktemp("spectral")
    done = without_torch(COMMAND, "fit", fan, "-o", folder / "detector", "--cache", folder / "cache")
    assert done.returncode == 0, done.stderr
    return folder / "detector"


def test_the_default_system_fits_and_scores_without_torch(fan: Path, detector: Path) -> None:
    code = """
import nearfar
detector = nearfar.Detector.load(sys.argv[1])
print(*[detector.score_file(path).score for path in sys.argv[2:]])
assert not [name for name in sys.modules if name.partition(".")[0] == "torch"]
"""
    clips = sorted((fan / "test").iterdir())
    done = without_torch(code, detector, *clips)
    assert done.returncode == 0, done.stderr
    scores = [Detector.load(detector).score_file(clip).score for clip in clips]
    assert [float(score) for score in done.stdout.split()] == scores


def test_a_verdict_loads_what_is_listed_and_nothing_else(fan: Path, detector: Path) -> None:
    allowed = LOADED | OF_THESE
    finder = f"""
asked = set()
def refused(name):
    top = name.partition(".")[0]
    if top == "nearfar" or top.startswith("_") or top in sys.stdlib_module_names:
        return False
    asked.add(top)
    return top not in {allowed}
"""
    code = """
from nearfar.cli import main
try:
    main()
finally:
    print(*asked & set(sys.modules), file=sys.stderr)
"""
    (clip, *_) = (fan / "test").iterdir()
    done = python(code, "score", detector, clip, "--json", finder=finder)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["decision"] in ("normal", "anomaly")
    loaded = set(done.stderr.split())
    assert loaded <= allowed
    assert loaded >= LOADED


VERDICTS = (  # the last one needs more
    ["score"], ["score", "--json"], ["score", "--alarm", "1/2", "--csv"], ["score", "--window", "1", "--events"],
    ["explain"], ["explain", "--json"], ["explain", "-o", "{page}"],
)  # fmt: skip


def test_a_verdict_loads_nothing_that_is_slow_to_load(fan: Path, detector: Path, tmp_path: Path) -> None:
    code = f"""
import json, sys
sys.path.insert(0, {str(ROOT / "tests")!r})
import called
for command, *options in json.loads(sys.argv[1]):
    done = called.nearfar(command, *sys.argv[2:], *options, env={{"NEARFAR_DECODING": ""}})
    assert done.returncode == 0 and done.stdout, done.stderr
    print(sorted(set({SLOW}) & set(sys.modules)))
"""
    (clip, *_) = (fan / "test").iterdir()
    words = [[word.format(page=tmp_path / "page.html") for word in command] for command in VERDICTS]
    arguments = [sys.executable, "-c", code, json.dumps(words), str(detector), str(clip)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.splitlines() == ["[]"] * 6 + ["['jinja2']"]


def test_every_encoder_and_trainer_that_needs_torch_asks_for_it() -> None:
    code = """
import json
from nearfar.encoders import ENCODERS, encoder_class
from nearfar.files.extras import MissingPackageError
from nearfar.training import TRAINERS, adapter_trainer, trainer

def said(load, *names):
    try:
        load(*names)
    except MissingPackageError as error:
        return str(error)

found = {"encoder": {name: said(encoder_class, name) for name in ENCODERS}, "adapter": said(adapter_trainer)}
print(json.dumps({**found, "trainer": {name: said(trainer, name) for name in TRAINERS}}))
"""
    done = without_torch(code)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    message = "{} needs torch, which is not installed; install it with: pip install 'nearfar[networks]' ({})"
    hint = EXTRAS["torch"].hint
    expected = {name: message.format(f"encoder {name!r}", hint) for name in ENCODERS}
    assert found["encoder"] == expected | dict.fromkeys(LIGHT)
    assert found["trainer"] == {n: message.format(f"the training of encoder {n!r}", hint) for n in TRAINERS}
    assert found["adapter"] == message.format("the training of an adapter", hint)


TORCH_NEEDED = [  # how the message begins, the command
    ("baseline_mse: ", ["fit", "{data}/fan", "-o", "{new}", "--system", "baseline_mse"]),
    ("mn04: ", ["run", "mn04", "--data", "{data}", "--out", "{new}"]),
    ("spectral: encoder 'eat' ", ["run", "spectral", "--data", "{data}", "--set", "branch.encoder=eat"]),
    ("dualmic: ", ["adapt", "dualmic", "--data", "{data}", "-o", "{new}"]),
    ("encoder 'efficientat' ", ["weights", "get", "mn04_as"]),
    ("encoder 'efficientat' ", ["weights", "add", "mn04_as", "{data}"]),
    ("encoder 'efficientat' ", ["weights", "verify", "mn04_as"]),
    ("lei_table2: ", ["study", "lei_table2", "--plan"]),
]


@pytest.fixture(scope="module")
def said_without_torch(fan: Path, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, str, bool]]:
    """Of each of these commands its exit code, what it says on standard error, and whether it wrote something."""
    folder = tmp_path_factory.mktemp("without")
    record = folder / "weights" / "mn04_as" / "record.json"  # of weights that came before
    record.parent.mkdir(parents=True)
    record.with_name("model.safetensors").write_bytes(b"")
    record.write_text(json.dumps({"file": "model.safetensors", "sha256": "0", "origin": {"sha256": "0"}}))
    places = {"NEARFAR_WEIGHTS": str(folder / "weights"), "NEARFAR_CACHE": str(folder / "cache")}
    code = f"""
import json
from pathlib import Path
sys.path.insert(0, {str(ROOT / "tests")!r})
import called
new = [Path(path) for path in sys.argv[2:]]
done = [
    (one.returncode, one.stderr, any(path.exists() for path in new))
    for one in (called.nearfar(*command, env={places}) for command in json.loads(sys.argv[1]))
]
print(json.dumps(done))
"""
    words = [[w.format(data=fan.parent, new=folder / "new") for w in command] for _, command in TORCH_NEEDED]
    done = without_torch(code, json.dumps(words), folder / "new", folder / "cache")
    assert done.returncode == 0, done.stderr
    return [tuple(one) for one in json.loads(done.stdout)]


@pytest.mark.parametrize("number", range(len(TORCH_NEEDED)), ids=[" ".join(c) for _, c in TORCH_NEEDED])
def test_a_command_that_needs_torch_ends_in_one_line_before_any_work(
    number: int, said_without_torch: list[tuple[int, str, bool]]
) -> None:
    code, said, wrote = said_without_torch[number]
    assert code == 1
    assert said.startswith(f"error: {TORCH_NEEDED[number][0]}")
    assert "needs torch, which is not installed" in said
    assert "pip install 'nearfar[networks]'" in said
    assert said.count("\n") == 1
    assert not wrote


def test_a_detector_of_a_network_names_itself(fan: Path, tmp_path: Path) -> None:
    system = load_system("baseline_mse", {**quick.TINY["autoencoder"], "threshold.method": "none"})
    Detector.fit(load_machine(fan), system, jobs=Jobs(tmp_path)).save(tmp_path / "detector")
    done = without_torch("import nearfar; nearfar.Detector.load(sys.argv[1])", tmp_path / "detector")
    last = done.stderr.splitlines()[-1]
    assert last.startswith("nearfar.files.extras.MissingPackageError: ")
    assert f"{tmp_path / 'detector'}: encoder 'autoencoder' needs torch" in last


@pytest.mark.parametrize(
    ("content", "expected", "match"),
    [
        ("raise ImportError('libcudart.so.13: cannot open')", ImportError, "libcudart"),
        ("import absent_part_of_torch", ModuleNotFoundError, "absent_part_of_torch"),
    ],
)
def test_a_package_that_is_installed_and_fails_raises_its_own_error(
    content: str,
    expected: type[ImportError],
    match: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "broken_encoder.py").write_text("import torch")
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(content)
    loaded = [name for name in sys.modules if name.partition(".")[0] == "torch"]
    with monkeypatch.context() as patched:
        patched.syspath_prepend(tmp_path)
        for name in loaded:
            patched.delitem(sys.modules, name)
        with pytest.raises(expected, match=match) as raised:
            extras.resolve("broken_encoder:Encoder", needed_by="encoder 'broken'")
    assert not isinstance(raised.value, MissingPackageError)


def test_a_missing_package_is_an_import_error_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "torchless_encoder.py").write_text("import torch")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingPackageError, match=f"encoder 'torchless' {INSTALL}") as raised:
        extras.resolve("torchless_encoder:Encoder", needed_by="encoder 'torchless'")
    assert raised.value.name == "torch"


def test_optional_packages_are_in_the_extras_that_are_named_and_nowhere_else() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    always = {re.split(r"[><=]", dependency)[0] for dependency in project["dependencies"]}
    distributions = {
        "torch": "torch",
        "nptdms": "npTDMS",
        "pyuff": "pyuff",
        "asammdf": "asammdf",
        "h5py": "h5py",
        "sounddevice": "sounddevice",
        "fastapi": "fastapi",
        "uvicorn": "uvicorn",
        "paho": "paho-mqtt",
        "prometheus_client": "prometheus-client",
        "pg8000": "pg8000",
        "ray": "ray",
        "onnx": "onnx",
        "onnxruntime": "onnxruntime",
    }
    assert distributions.keys() == EXTRAS.keys()
    for package, distribution in distributions.items():
        assert distribution not in always
        assert distribution in " ".join(project["optional-dependencies"][EXTRAS[package].name])


def test_pretrained_weights_are_all_of_networks() -> None:
    """So that whoever gets weights needs torch."""
    assert not {record.encoder for record in PRETRAINED.values()} & set(LIGHT)
