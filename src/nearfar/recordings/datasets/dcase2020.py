"""DCASE 2020 Challenge Task 2: no domains; ``id_NN`` plays the section's part. Layout only."""

from nearfar.recordings.datasets.published import CC_BY_NC_SA_4_0, Part, Published, Remote, Subset

BIBTEX = """\
@misc{koizumi2020description,
  author = {Koizumi, Yuma and Kawaguchi, Yohei and Imoto, Keisuke and Nakamura, Toshiki and Nikaido, Yuki and
            Tanabe, Ryo and Purohit, Harsh and Suefusa, Kaori and Endo, Takashi and Yasuda, Masahiro and
            Harada, Noboru},
  title = {Description and Discussion on {DCASE2020} Challenge Task2: Unsupervised Anomalous Sound Detection for
           Machine Condition Monitoring},
  eprint = {2006.05822},
  archivePrefix = {arXiv},
  year = {2020}
}"""
LICENSE = CC_BY_NC_SA_4_0
MACHINES: dict[Part, tuple[str, ...]] = {
    "dev": ("ToyCar", "ToyConveyor", "fan", "pump", "slider", "valve"),
    "eval": ("ToyCar", "ToyConveyor", "fan", "pump", "slider", "valve"),
}
COUNTS = None  # they differ by machine and id
REMOTES: dict[Subset, Remote] = {}

PUBLISHED = Published(
    name="dcase2020",
    bibtex=BIBTEX,
    license=LICENSE,
    machines=MACHINES,
    sections={},  # ids differ by machine
    channels=1,
    counts=COUNTS,
    remotes=REMOTES,
)
