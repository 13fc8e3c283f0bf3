"""DCASE 2025 Challenge Task 2: first-shot, one channel.

Beside ``train`` and ``test`` a machine may have a folder of supplemental recordings (the machine alone, or
noise alone); they are not clips and are not loaded.
"""

from nearfar.recordings.datasets.published import CC_BY_NC_SA_4_0, Counts, Part, Published, Remote, Subset

BIBTEX = """\
@misc{nishida2025description,
  author = {Nishida, Tomoya and Harada, Noboru and Niizumi, Daisuke and others},
  title = {Description and Discussion on {DCASE} 2025 Challenge Task 2: First-shot Unsupervised Anomalous Sound
           Detection for Machine Condition Monitoring},
  eprint = {2506.10097},
  archivePrefix = {arXiv},
  year = {2025}
}"""
LICENSE = CC_BY_NC_SA_4_0
MACHINES: dict[Part, tuple[str, ...]] = {
    "dev": ("ToyCar", "ToyTrain", "bearing", "fan", "gearbox", "slider", "valve"),
    "eval": (
        "AutoTrash",
        "BandSealer",
        "CoffeeGrinder",
        "HomeCamera",
        "Polisher",
        "ScrewFeeder",
        "ToyPet",
        "ToyRCCar",
    ),
}
COUNTS = Counts(source=990, target=10, cell=50)  # arXiv:2506.10097
REMOTES: dict[Subset, Remote] = {
    "dev": Remote(15097779),
    "train": Remote(15392814),
    "eval": Remote(15519362),
}

PUBLISHED = Published(
    name="dcase2025",
    bibtex=BIBTEX,
    license=LICENSE,
    machines=MACHINES,
    sections={"dev": (0,), "eval": (0,)},
    channels=1,
    counts=COUNTS,
    remotes=REMOTES,
)
