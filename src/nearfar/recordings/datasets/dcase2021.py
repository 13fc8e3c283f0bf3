"""DCASE 2021 Challenge Task 2: domain shift; ``source_test`` and ``target_test`` folders. Layout only."""

from nearfar.recordings.datasets.published import CC_BY_NC_SA_4_0, Part, Published, Remote, Subset

BIBTEX = """\
@misc{kawaguchi2021description,
  author = {Kawaguchi, Yohei and Imoto, Keisuke and Koizumi, Yuma and Harada, Noboru and Niizumi, Daisuke and
            Dohi, Kota and Tanabe, Ryo and Purohit, Harsh and Endo, Takashi},
  title = {Description and Discussion on {DCASE} 2021 Challenge Task 2: Unsupervised Anomalous Sound Detection for
           Machine Condition Monitoring under Domain Shifted Conditions},
  eprint = {2106.04492},
  archivePrefix = {arXiv},
  year = {2021}
}"""
LICENSE = CC_BY_NC_SA_4_0
MACHINES: dict[Part, tuple[str, ...]] = {
    "dev": ("ToyCar", "ToyTrain", "fan", "gearbox", "pump", "slider", "valve"),
    "eval": ("ToyCar", "ToyTrain", "fan", "gearbox", "pump", "slider", "valve"),
}
COUNTS = None  # about 1000 source and 3 target training clips a section; they differ by machine
REMOTES: dict[Subset, Remote] = {}

PUBLISHED = Published(
    name="dcase2021",
    bibtex=BIBTEX,
    license=LICENSE,
    machines=MACHINES,
    sections={"dev": (0, 1, 2), "eval": (3, 4, 5)},
    channels=1,
    counts=COUNTS,
    remotes=REMOTES,
)
