"""A small grey picture, or a word in its place.

Knows Qt only; what the picture shows is the caller's business.
"""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtGui import QImage, QPixmap
from qtpy.QtWidgets import QLabel

from napari_d3ip.widgets.first_look import Picture

SIDE = 168


class Thumbnail(QLabel):
    """Label that shows a picture as large as fits, pixels square."""

    def __init__(self) -> None:
        super().__init__(objectName="thumbnail")
        self.setFixedSize(SIDE, SIDE)
        self.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.setStyleSheet("border: 1px solid gray;")
        self.show_nothing()

    def show_nothing(self) -> None:
        """Take the picture away."""
        self.setText("no picture yet")

    def show_picture(self, picture: Picture) -> None:
        """Show ``picture``, shape (row, column), 8 bit."""
        height, width = picture.shape
        image = QImage(picture.tobytes(), width, height, width, QImage.Format.Format_Grayscale8)
        inside = self.contentsRect().size()
        smooth = Qt.TransformationMode.SmoothTransformation
        # The pixmap is a copy: the image does not own its bytes.
        self.setPixmap(QPixmap.fromImage(image).scaled(inside, Qt.AspectRatioMode.KeepAspectRatio, smooth))
