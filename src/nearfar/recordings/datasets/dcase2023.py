"""DCASE 2023 Challenge Task 2: the first that is first-shot (new machines in evaluation), one channel."""

from nearfar.recordings.datasets.published import CC_BY_NC_SA_4_0, Counts, Part, Published, Remote, Subset

BIBTEX = """\
@misc{dohi2023description,
  author = {Dohi, Kota and Imoto, Keisuke and Harada, Noboru and Niizumi, Daisuke and Koizumi, Yuma and
            Nishida, Tomoya and Purohit, Harsh and Tanabe, Ryo and Endo, Takashi and Kawaguchi, Yohei},
  title = {Description and Discussion on {DCASE} 2023 Challenge Task 2: First-Shot Unsupervised Anomalous Sound
           Detection for Machine Condition Monitoring},
  eprint = {2305.07828},
  archivePrefix = {arXiv},
  year = {2023}
}"""
LICENSE = CC_BY_NC_SA_4_0
MACHINES: dict[Part, tuple[str, ...]] = {
    "dev": ("ToyCar", "ToyTrain", "bearing", "fan", "gearbox", "slider", "valve"),
    "eval": ("ToyDrone", "ToyNscale", "ToyTank", "Vacuum", "bandsaw", "grinder", "shaker"),
}
COUNTS = Counts(source=990, target=10, cell=50)  # arXiv:2305.07828
REMOTES: dict[Subset, Remote] = {
    "dev": Remote(7882613),
    "train": Remote(7830345),
    "eval": Remote(7860847),
}

PUBLISHED = Published(
    name="dcase2023",
    bibtex=BIBTEX,
    license=LICENSE,
    machines=MACHINES,
    sections={"dev": (0,), "eval": (0,)},
    channels=1,
    counts=COUNTS,
    remotes=REMOTES,
)
