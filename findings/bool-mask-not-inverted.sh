#!/usr/bin/env bash
# OpenCV 5 takes and gives NumPy's bool masks; OpenCV 4 refused them. The background of a mask is asked for with bitwise_not.
# Expected: what ~mask says, or the refusal of OpenCV 4.
# Seen (opencv-python-headless 5.0.0.93): the result is of type bool and every pixel is True, pet and background alike. OpenCV turns each bit of the byte, so True becomes 254
# and False 255, and hands both over as bool. NumPy and OpenCV's own countNonZero count all pixels; `inverse == ~mask` is false on the pet.
# bitwise_and and bitwise_xor of bool masks are right. Its documentation says "inverts every bit", and nothing of bool.
# Where it matters: image[cv2.bitwise_not(mask)] = 0 makes the picture black instead of cutting the pet out. Write ~mask.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q opencv-python-headless==5.0.0.93 numpy==2.2.6
"$folder/env/bin/pip" install -q --no-deps --target "$folder/before" opencv-python-headless==4.12.0.88
cd "$folder"
cat > test.py <<'PY'
import cv2
import numpy as np

mask = np.zeros((6, 8), bool)
mask[1:4, 2:7] = True
if cv2.__version__.startswith('4'):
    try: cv2.bitwise_not(mask)
    except (cv2.error, TypeError) as error: print(cv2.__version__, 'refuses a bool mask:', next(line for line in str(error).split('\n') if 'bool' in line))
    else: raise SystemExit('OpenCV 4 took a bool mask')
    raise SystemExit
inverse = cv2.bitwise_not(mask)
image = np.full((6, 8), 100, np.uint8)
image[inverse] = 0
print(cv2.__version__, inverse.dtype, 'true pixels:', np.count_nonzero(inverse), 'by OpenCV:', cv2.countNonZero(inverse), 'expected:', (~mask).sum(), '| bytes:', np.unique(inverse.view(np.uint8)), '| left of the pet:', (image > 0).sum())
assert inverse.dtype == bool and inverse.all() and cv2.countNonZero(inverse) == mask.size and not (image > 0).any()
assert (cv2.bitwise_xor(mask, np.ones_like(mask)) == ~mask).all() and (cv2.bitwise_and(mask, mask) == mask).all()
PY
"$folder/env/bin/python" test.py
PYTHONPATH="$folder/before" "$folder/env/bin/python" test.py
