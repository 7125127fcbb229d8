#!/usr/bin/env bash
# A mask is opened with a square of even side, to remove specks.
# Expected: a part of the mask. An opening never adds a pixel; that is its definition, and a rectangle larger than the square stays as it is.
# Seen (opencv-python-headless 4.12.0.88 and 5.0.0.93): the whole rectangle moves one pixel down and one to the right, for sides of 2, 4 and 6 alike; its IoU with itself is
# .849. A closing moves it too. scikit-image 0.26.0 and SciPy 1.17.1 leave it where it was. Erosion and dilation each put an even square half a pixel off,
# and OpenCV does it twice in the same direction. With odd sides all three agree. The documentation allows any size and says that the anchor is the centre.
# Where it matters: clean-up of predictions before they are scored; a boundary IoU sees a shift of one pixel at once. Use odd sides.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q opencv-python-headless==5.0.0.93 scikit-image==0.26.0 scipy==1.17.1 numpy==2.2.6
"$folder/env/bin/pip" install -q --no-deps --target "$folder/before" opencv-python-headless==4.12.0.88
cd "$folder"
cat > test.py <<'PY'
import cv2
import numpy as np
from scipy.ndimage import binary_closing, binary_opening
from skimage.morphology import closing, opening

mask = np.zeros((40, 40), np.uint8)
mask[10:34, 8:32] = 1
moved = np.roll(mask, (1, 1), (0, 1))
iou = (mask & moved).sum() / (mask | moved).sum()
print(cv2.__version__, f'IoU of the mask and its opening: {iou:.3f}')
for side in range(2, 7):
    square = np.ones((side, side), np.uint8)
    expected = mask if side % 2 else moved
    assert (cv2.morphologyEx(mask, cv2.MORPH_OPEN, square) == expected).all() and (cv2.morphologyEx(mask, cv2.MORPH_CLOSE, square) == expected).all()
    assert all((function(mask, square) == mask).all() for function in (opening, closing, binary_opening, binary_closing))
assert iou < .85
PY
"$folder/env/bin/python" test.py
PYTHONPATH="$folder/before" "$folder/env/bin/python" test.py
