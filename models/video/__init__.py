"""Video against label texts, in the X-CLIP layout."""

from models.video.classifier import XCLIP, VideoClassifier
from models.video.config import TowerConfig, XCLIPConfig
from models.video.text import TextTower

__all__ = ["XCLIP", "TextTower", "TowerConfig", "VideoClassifier", "XCLIPConfig"]
