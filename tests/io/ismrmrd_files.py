"""Write small ISMRMRD files with the format's own library."""

from typing import Any

import ismrmrd
import numpy as np

HEADER = """<?xml version="1.0"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
  <acquisitionSystemInformation><systemVendor>{vendor}</systemVendor></acquisitionSystemInformation>
  <experimentalConditions><H1resonanceFrequency_Hz>63500000</H1resonanceFrequency_Hz></experimentalConditions>
  <encoding>
    <encodedSpace>
      <matrixSize><x>{nx}</x><y>{ny}</y><z>{nz}</z></matrixSize>
      <fieldOfView_mm><x>{fx}</x><y>{fy}</y><z>{fz}</z></fieldOfView_mm>
    </encodedSpace>
    <reconSpace>
      <matrixSize><x>{rx}</x><y>{ny}</y><z>{rz}</z></matrixSize>
      <fieldOfView_mm><x>{rfx}</x><y>{fy}</y><z>{rfz}</z></fieldOfView_mm>
    </reconSpace>
    <encodingLimits>
      <kspace_encoding_step_1><minimum>0</minimum><maximum>{ly}</maximum><center>{cy}</center></kspace_encoding_step_1>
      <kspace_encoding_step_2><minimum>0</minimum><maximum>{lz}</maximum><center>{cz}</center></kspace_encoding_step_2>
    </encodingLimits>
    <trajectory>{trajectory}</trajectory>
  </encoding>
</ismrmrdHeader>"""


class Writer:
    """Writes readouts of a grid (12 lines of 10 samples unless told otherwise), oversampled as the header says."""

    def __init__(self, path, *, group="dataset", **header):
        sizes: dict[str, Any] = {
            "nx": 10,
            "ny": 12,
            "nz": 1,
            "fx": 100,
            "fy": 60,
            "fz": 4,
            "trajectory": "cartesian",
            "vendor": "none",
        } | header
        for name, value in (("rx", "nx"), ("rz", "nz"), ("rfx", "fx"), ("rfz", "fz")):
            sizes.setdefault(name, sizes[value])
        for axis in "yz":
            sizes.setdefault(f"l{axis}", sizes[f"n{axis}"] - 1)
            sizes.setdefault(f"c{axis}", sizes[f"n{axis}"] // 2)
        self.path = path
        self.sizes = sizes
        self.dataset = ismrmrd.Dataset(str(path), group)
        self.dataset.write_xml_header(HEADER.format(**sizes).encode())
        self.count = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.dataset.close()

    def add(
        self,
        samples,
        *flags,
        center=None,
        trajectory=None,
        discard=(0, 0),
        position=(0, 0, 0),
        directions=None,
        dwell=5,
        **index,
    ):
        """One readout (coil, sample); ``index`` are counters, ky and kz short for the long names.

        ``directions`` are those of readout, phase encoding and slice.
        """
        array = np.ascontiguousarray(samples, np.complex64)
        positions = None if trajectory is None else np.ascontiguousarray(trajectory, np.float32)
        acquisition = ismrmrd.Acquisition.from_array(array, positions)
        acquisition.center_sample = array.shape[1] // 2 if center is None else center
        acquisition.discard_pre, acquisition.discard_post = discard
        acquisition.sample_time_us = dwell
        acquisition.scan_counter = self.count
        for number, value in enumerate(position):
            acquisition.position[number] = value
        for name, vector in zip(
            ("read_dir", "phase_dir", "slice_dir"), () if directions is None else directions, strict=False
        ):
            for number, value in enumerate(vector):
                getattr(acquisition, name)[number] = value
        for name, value in index.items():
            long = {"ky": "kspace_encode_step_1", "kz": "kspace_encode_step_2"}.get(name, name)
            setattr(acquisition.idx, long, value)
        for flag in flags:
            acquisition.set_flag(getattr(ismrmrd, f"ACQ_{flag}"))
        self.dataset.append_acquisition(acquisition)
        self.count += 1

    def add_slice(self, data, *flags, lines=None, **more):
        """Lines of one slice, (coil, ky, kx)."""
        for ky in range(data.shape[1]) if lines is None else lines:
            self.add(data[:, ky], *flags, ky=ky, **more)
