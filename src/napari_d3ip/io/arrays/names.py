"""Names of datasets shared by readers and writers."""

from __future__ import annotations

VOLUME_MARK = "napari_d3ip_volume"  # Attribute of volumes that this package wrote.
ANGLE_NAMES = ("theta", "angles", "angle", "rotation_angle", "tilt_angles", "angles_deg", "angles_rad", "theta_rad")
