#!/usr/bin/env bash
# A mask with a whisker (one pixel wide, 25 long), a single pixel and two squares is turned into polygons and back, in one library.
# Expected: four polygons, and the same mask.
# Seen (supervision 0.31.2): two polygons. Whatever is one pixel wide has a contour of two points, which is no polygon and is left out without a word; its 26 pixels
# are background in every file that is exported this way. The two squares are exact.
# Where it matters: tails, whiskers, cables, vessels, cracks; and small instances, which are missing from the file instead of small.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q supervision==0.31.2 opencv-python-headless==4.12.0.88 numpy==2.2.6
cd "$folder"
"$folder/env/bin/python" - <<'PY'
import numpy as np
import supervision as sv

mask = np.zeros((40, 40), bool)
mask[5, 5:30] = mask[20, 20] = True
mask[30:32, 5:7] = mask[25:35, 25:35] = True
polygons, back = sv.mask_to_polygons(mask), np.zeros_like(mask)
for polygon in polygons: back |= sv.polygon_to_mask(polygon, (40, 40)).astype(bool)
print(f'{len(polygons)} polygons; {mask.sum()} pixels, {back.sum()} come back')
assert len(polygons) == 2 and mask.sum() == 130 and back.sum() == 104 and not back[5].any()
PY
