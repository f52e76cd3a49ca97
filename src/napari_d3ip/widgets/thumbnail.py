"""Small grey picture, or a word in its place.

Qt only; the caller provides the picture.
"""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtGui import QImage, QPixmap
from qtpy.QtWidgets import QLabel

from napari_d3ip.widgets.scan_summary import Picture

SIDE = 168


class Thumbnail(QLabel):
    """Label that scales a picture to its size, with square pixels."""

    def __init__(self) -> None:
        super().__init__(objectName="thumbnail")
        self.setFixedSize(SIDE, SIDE)
        self.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.setStyleSheet("border: 1px solid gray;")
        self.show_nothing()

    def show_nothing(self) -> None:
        """Remove the picture."""
        self.setText("no picture yet")

    def show_picture(self, picture: Picture) -> None:
        """Show ``picture``, shape (row, column), 8 bit."""
        height, width = picture.shape
        image = QImage(picture.tobytes(), width, height, width, QImage.Format.Format_Grayscale8)
        inside = self.contentsRect().size()
        smooth = Qt.TransformationMode.SmoothTransformation
        # The pixmap is a copy, since the image does not own its data.
        self.setPixmap(QPixmap.fromImage(image).scaled(inside, Qt.AspectRatioMode.KeepAspectRatio, smooth))
