"""Runs MediaPipe on frames from standard input; executed by the landmark environment's Python.

MediaPipe 0.10.21 is the last release with its models inside the wheel, and it pins old NumPy and
protobuf releases, so it lives in an environment of its own (see `environment`) and only arrays
cross the border. This file therefore imports nothing of this package.

    python worker.py OUTPUT.npz COUNT HEIGHT WIDTH VIDEO < raw RGB frames

COUNT frames of HEIGHT x WIDTH x 3 bytes arrive; VIDEO is 1 when they are consecutive. OUTPUT gets
`landmarks` [t, 478, 3] (x, y in pixels with centres at +0.5, z in pixels, NaN where no face was
found) and `mattes` [t, h, w], the person segmentation, 255 = person. One line a frame on standard
output is the progress.
"""

import os
import sys


def main(arguments: list[str]) -> None:
  """Reads, detects, writes."""
  output = arguments[0]
  count, height, width, video = (int(a) for a in arguments[1:5])
  os.environ.setdefault('GLOG_minloglevel', '3')
  import mediapipe
  import numpy as np

  solutions = mediapipe.solutions
  mesh = solutions.face_mesh.FaceMesh(
    static_image_mode=not video, refine_landmarks=True, max_num_faces=1
  )
  segmentation = solutions.selfie_segmentation.SelfieSegmentation(model_selection=0)
  landmarks = np.full((count, 478, 3), np.nan, np.float32)
  mattes = np.zeros((count, height, width), np.uint8)
  size = height * width * 3
  for index in range(count):
    data = sys.stdin.buffer.read(size)
    if len(data) != size:
      raise SystemExit(f'frame {index}: {len(data)} of {size} bytes arrived')
    frame = np.frombuffer(data, np.uint8).reshape(height, width, 3)
    found = mesh.process(frame).multi_face_landmarks
    if found:
      points = np.array([(p.x, p.y, p.z) for p in found[0].landmark], np.float32)
      landmarks[index] = points * np.array([width, height, width], np.float32)
    probability = segmentation.process(frame).segmentation_mask
    mattes[index] = np.clip(np.round(probability * 255.0), 0, 255).astype(np.uint8)
    print(index + 1, flush=True)
  np.savez(output, landmarks=landmarks, mattes=mattes)


if __name__ == '__main__':
  main(sys.argv[1:])
