#!/usr/bin/env bash
# An instance mask of type int32 with numbers above 255, written as PNG by OpenCV.
# Expected: 16 bits a pixel (PNG has them), or an error.
# Seen (opencv-python-headless 4.12.0.88): imwrite returns True and writes 8 bits; every number above 255 becomes 255, so all later instances are one. A line in the
# log says that the depth fell back. The same mask as uint16 is kept.
# Where it matters: instance numbers from scipy.ndimage.label (int32) with more than 255 objects. Convert to uint16, and read the file once.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q opencv-python-headless==4.12.0.88 numpy==2.2.6
cd "$folder"
"$folder/env/bin/python" - <<'PY'
import cv2
import numpy as np

instances = np.repeat(np.array([0, 7, 255, 256, 300, 1000], np.int32), 8).reshape(6, 8)
said = cv2.imwrite('instances.png', instances)
read = cv2.imread('instances.png', cv2.IMREAD_UNCHANGED)
print('imwrite:', said, read.dtype, np.unique(read))
assert said and read.dtype == np.uint8 and np.unique(read).tolist() == [0, 7, 255]
cv2.imwrite('instances.png', instances.astype(np.uint16))
assert (cv2.imread('instances.png', cv2.IMREAD_UNCHANGED) == instances).all()
PY
