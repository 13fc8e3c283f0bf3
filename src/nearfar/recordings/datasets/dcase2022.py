"""DCASE 2022 Challenge Task 2: domain generalization; six sections of each machine. Layout only."""

from nearfar.recordings.datasets.published import CC_BY_NC_SA_4_0, Counts, Part, Published, Remote, Subset

BIBTEX = """\
@misc{dohi2022description,
  author = {Dohi, Kota and Imoto, Keisuke and Harada, Noboru and Niizumi, Daisuke and Koizumi, Yuma and
            Nishida, Tomoya and Purohit, Harsh and Tanabe, Ryo and Endo, Takashi and Yamamoto, Masaaki and
            Nikaido, Yuki and Kawaguchi, Yohei},
  title = {Description and Discussion on {DCASE} 2022 Challenge Task 2: Unsupervised Anomalous Sound Detection for
           Machine Condition Monitoring Applying Domain Generalization Techniques},
  eprint = {2206.05876},
  archivePrefix = {arXiv},
  year = {2022}
}"""
LICENSE = CC_BY_NC_SA_4_0
MACHINES: dict[Part, tuple[str, ...]] = {
    "dev": ("ToyCar", "ToyTrain", "bearing", "fan", "gearbox", "slider", "valve"),
    "eval": ("ToyCar", "ToyTrain", "bearing", "fan", "gearbox", "slider", "valve"),
}
COUNTS = Counts(source=990, target=10, cell=50)  # arXiv:2206.05876
REMOTES: dict[Subset, Remote] = {}

PUBLISHED = Published(
    name="dcase2022",
    bibtex=BIBTEX,
    license=LICENSE,
    machines=MACHINES,
    sections={"dev": (0, 1, 2), "eval": (3, 4, 5)},
    channels=1,
    counts=COUNTS,
    remotes=REMOTES,
)
