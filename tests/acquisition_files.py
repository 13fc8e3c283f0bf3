"""Files of data acquisition that hold a small recording, one writer for each format."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Columns = Mapping[str, NDArray[Any]]


def tdms(path: Path, columns: Columns, rate: int, unit: str = "Pa", **properties: Any) -> None:
    from nptdms import ChannelObject, TdmsWriter

    told = {"wf_increment": 1 / rate, "unit_string": unit, **properties}
    told = {name: value for name, value in told.items() if value is not None}
    with TdmsWriter(str(path)) as writer:
        writer.write_segment([ChannelObject("rig", name, x, properties=told) for name, x in columns.items()])


def uff_set(name: str, samples: NDArray[Any], rate: int, unit: str = "Pa", **fields: Any) -> dict[str, Any]:
    fields = {
        "x": np.arange(len(samples)) / rate,
        "binary": 0,
        "func_type": 1,
        "abscissa_spacing": 1,
    } | fields
    return {
        "type": 58, "id1": name, "id2": "NONE", "id3": "NONE", "id4": "NONE", "id5": "NONE", "rsp_node": 1,
        "rsp_dir": 3, "ref_node": 0, "ref_dir": 0, "data": samples, "abscissa_spec_data_type": 17,
        "ordinate_spec_data_type": 15, "ordinate_axis_units_lab": unit, "orddenom_spec_data_type": 0,
        "z_axis_spec_data_type": 0,
    } | fields  # fmt: skip


def uff(path: Path, columns: Columns, rate: int, unit: str = "Pa", **fields: Any) -> None:
    import pyuff

    sets = [
        uff_set(name, x, rate, unit, **{"rsp_node": number, **fields})
        for number, (name, x) in enumerate(columns.items(), start=1)
    ]
    pyuff.UFF(str(path)).write_sets(sets, "add")


def mdf(path: Path, columns: Columns, rate: int, unit: str = "Pa", **options: Any) -> None:
    from asammdf import MDF, Signal

    length = len(next(iter(columns.values())))
    stamps = options.pop("stamps", np.arange(length) / rate)
    with MDF(version=options.pop("version", "4.10")) as file:
        file.append([Signal(x, stamps, name=name, unit=unit, **options) for name, x in columns.items()])
        file.save(path, overwrite=True)


def matlab(path: Path, columns: Columns, rate: int, **more: Any) -> None:
    from scipy.io import savemat

    savemat(path, {**{name: x[:, None] for name, x in columns.items()}, "fs": float(rate), **more})


def hdf5(path: Path, columns: Columns, rate: int, unit: str = "Pa") -> None:
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs["sample_rate"] = rate
        for name, x in columns.items():
            file.create_dataset(name, data=x, compression="gzip").attrs["units"] = unit


def matlab73(path: Path, columns: Columns, rate: int) -> None:
    """As MATLAB writes version 7.3: HDF5 after a block of text, arrays transposed."""
    import h5py

    with h5py.File(path, "w", userblock_size=512) as file:
        for name, x in {**columns, "fs": np.array([float(rate)])}.items():
            file.create_dataset(name, data=np.atleast_2d(x)).attrs["MATLAB_class"] = np.bytes_(str(x.dtype))
        text = file.create_dataset("note", data=np.array([[100], [97], [113]], np.uint16))
        text.attrs["MATLAB_class"] = np.bytes_("char")
    head = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM"
    with path.open("r+b") as file:
        file.write(head)


def daqmx(
    path: Path, columns: Mapping[str, NDArray[np.int16]], rate: int, slope: float, offset: float
) -> None:
    """A TDMS file with raw DAQmx samples of 16 bits, near and far in turn, and a linear scaling."""

    def text(value: str) -> bytes:
        return struct.pack("<I", len(value)) + value.encode()

    def double(name: str, value: float) -> bytes:
        return text(name) + struct.pack("<Id", 10, value)

    def whole(name: str, value: int) -> bytes:
        return text(name) + struct.pack("<II", 7, value)

    def string(name: str, value: str) -> bytes:
        return text(name) + struct.pack("<I", 0x20) + text(value)

    samples = np.stack(list(columns.values()), axis=1).astype("<i2")
    objects = text("/") + struct.pack("<II", 0xFFFFFFFF, 0)
    objects += text("/'rig'") + struct.pack("<II", 0xFFFFFFFF, 0)
    for number, name in enumerate(columns):
        objects += text(f"/'rig'/'{name}'") + struct.pack("<IIIQ", 0x1269, 0xFFFFFFFF, 1, len(samples))
        objects += struct.pack(
            "<IIIIII", 1, 3, 0, 2 * number, 0, 0
        )  # one scaler: 16 bits, buffer 0, its place
        objects += struct.pack("<II", 1, 2 * len(columns))  # one buffer of this width
        properties = [
            double("wf_increment", 1 / rate), string("unit_string", "V"),
            string("NI_Scaling_Status", "unscaled"), whole("NI_Number_Of_Scales", 2),
            string("NI_Scale[1]_Scale_Type", "Linear"), whole("NI_Scale[1]_Linear_Input_Source", 0),
            double("NI_Scale[1]_Linear_Slope", slope), double("NI_Scale[1]_Linear_Y_Intercept", offset),
        ]  # fmt: skip
        objects += struct.pack("<I", len(properties)) + b"".join(properties)
    metadata = struct.pack("<I", 2 + len(columns)) + objects
    contents = (1 << 1) | (1 << 2) | (1 << 3) | (1 << 7)  # metadata, new list, samples, DAQmx
    lead_in = struct.pack("<4sIIQQ", b"TDSm", contents, 4713, len(metadata) + samples.nbytes, len(metadata))
    path.write_bytes(lead_in + metadata + samples.tobytes())


# By suffix: what writes named columns at a rate
WRITERS = {".tdms": tdms, ".uff": uff, ".mf4": mdf, ".mat": matlab, ".h5": hdf5}
