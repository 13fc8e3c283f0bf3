"""DCASE 2024 Challenge Task 2: first-shot, one channel; the attributes of some machines are hidden."""

from nearfar.recordings.datasets.published import CC_BY_NC_SA_4_0, Counts, Part, Published, Remote, Subset

BIBTEX = """\
@misc{nishida2024description,
  author = {Nishida, Tomoya and Harada, Noboru and Niizumi, Daisuke and others},
  title = {Description and Discussion on {DCASE} 2024 Challenge Task 2: First-Shot Unsupervised Anomalous Sound
           Detection for Machine Condition Monitoring},
  eprint = {2406.07250},
  archivePrefix = {arXiv},
  year = {2024}
}"""
LICENSE = CC_BY_NC_SA_4_0
MACHINES: dict[Part, tuple[str, ...]] = {
    "dev": ("ToyCar", "ToyTrain", "bearing", "fan", "gearbox", "slider", "valve"),
    "eval": (
        "3DPrinter",
        "AirCompressor",
        "BrushlessMotor",
        "HairDryer",
        "HoveringDrone",
        "RoboticArm",
        "Scanner",
        "ToothBrush",
        "ToyCircuit",
    ),
}
COUNTS = Counts(source=990, target=10, cell=50)  # arXiv:2406.07250
REMOTES: dict[Subset, Remote] = {
    "dev": Remote(10902294),
    "train": Remote(11259435),
    "eval": Remote(11363076),
}

PUBLISHED = Published(
    name="dcase2024",
    bibtex=BIBTEX,
    license=LICENSE,
    machines=MACHINES,
    sections={"dev": (0,), "eval": (0,)},
    channels=1,
    counts=COUNTS,
    remotes=REMOTES,
)
