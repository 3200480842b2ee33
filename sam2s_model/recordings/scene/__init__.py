"""A procedural endoscope scene with exact ground truth, for training, replay and tests.

This folder imports numpy and cv2 only: nothing of torch, of ROS or of the rest of ``sam2s_model``.

    scene = Scene(SceneConfig(width=640, height=512, frames=120, seed=0))
    frame = scene[0]          # frame.image (H, W, 3) uint8 RGB, frame.labels (H, W) uint8, frame.objects
    scene.objects             # label, object id, class name and class id of each instrument
"""

from sam2s_model.recordings.scene.catalogue import CLASS_IDS
from sam2s_model.recordings.scene.config import SceneConfig, SceneError
from sam2s_model.recordings.scene.scene import ObjectState, PartMasks, Scene, SceneFrame, SceneObject

__all__ = ["CLASS_IDS", "ObjectState", "PartMasks", "Scene", "SceneConfig", "SceneError", "SceneFrame", "SceneObject"]
