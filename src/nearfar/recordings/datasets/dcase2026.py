"""DCASE 2026 Challenge Task 2: two synchronized microphones, one near and one far.

The only year with two channels; channel 0 is near. The evaluation machines are not those of development.
"""

from nearfar.recordings.datasets.published import CC_BY_NC_SA_4_0, Counts, Part, Published, Remote, Subset

BIBTEX = """\
@misc{nishida2026description,
  author = {Nishida, Tomoya and Harada, Noboru and Takeuchi, Daiki and Niizumi, Daisuke and Imoto, Keisuke and
            Dohi, Kota and Purohit, Harsh and Endo, Takashi and Kawaguchi, Yohei},
  title = {Description and Discussion on {DCASE} 2026 Challenge Task 2: Noise-aware Unsupervised Anomalous Sound
           Detection for Machine Condition Monitoring},
  eprint = {2606.01578},
  archivePrefix = {arXiv},
  year = {2026}
}"""
LICENSE = CC_BY_NC_SA_4_0
MACHINES: dict[Part, tuple[str, ...]] = {
    "dev": ("ToyCar", "ToyCarEmu", "bearingEmu", "fan", "gearboxEmu", "sliderEmu", "valveEmu"),
    "eval": ("BlowerDustCollector", "Sander", "SewingMachine", "ToothBrush", "ToyDrone"),
}
COUNTS = Counts(source=990, target=10, cell=50)  # arXiv:2606.01578
REMOTES: dict[Subset, Remote] = {
    # The first dev_ToyCar.zip was replaced on 2026-04-09.
    "dev": Remote(19336329, {"dev_ToyCar_r2.zip": "353201db217e25377a7e7eccf9c1c8a7"}),
    "train": Remote(
        20151556,
        {
            "eval_data_BlowerDustCollector_train.zip": "e79342948772cf51e50ff601cd9621f3",
            "eval_data_Sander_train.zip": "6cbcfbc65a09c4f3d00b9a55c50502ec",
            "eval_data_SewingMachine_train.zip": "74d08cacba3da88753badd69d19e577b",
            "eval_data_ToothBrush_train.zip": "6fa5f81796b5d37b3ed24bb8eff2ea25",
            "eval_data_ToyDrone_train.zip": "af3e4040ef7c67d7ee920608d0c38d82",
        },
    ),
    "eval": Remote(
        20437238,
        {
            "eval_data_BlowerDustCollector_test.zip": "ec90d56f189e84e6430fb2878c59cb84",
            "eval_data_Sander_test.zip": "05f81c9a80e91c7b3cea15f8e8559b44",
            "eval_data_SewingMachine_test.zip": "f0a1a96b48006c301e8cec25e9214046",
            "eval_data_ToothBrush_test.zip": "987395506fbb48c570d5d26babcab05e",
            "eval_data_ToyDrone_test.zip": "b36102371c188b630d201d443a00bab2",
        },
    ),
}

PUBLISHED = Published(
    name="dcase2026",
    bibtex=BIBTEX,
    license=LICENSE,
    machines=MACHINES,
    sections={"dev": (0,), "eval": (0,)},
    channels=2,
    counts=COUNTS,
    remotes=REMOTES,
)
