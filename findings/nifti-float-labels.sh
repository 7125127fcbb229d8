#!/usr/bin/env bash
# A label volume of 0, 1, 2 that happens to be float64 (as a resampler leaves it) is saved with nibabel under a header that says uint8.
# Expected: whole numbers fit into uint8, so 0, 1, 2 come back.
# Seen (nibabel 5.4.2): the values are stretched over 0 to 255 and stored with a slope. Read back, label 1 is 0.996, so `== 1` finds no pixel, and
# `.astype(int)` turns it into background. The same labels as int16 come back as they were.
# Where it matters: masks of medical pictures that went through a float step. Cast to an integer type before saving, and compare after reading.
set -euo pipefail
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q nibabel==5.4.2 numpy==2.2.6
cd "$folder"
"$folder/env/bin/python" - <<'PY'
import nibabel as nib
import numpy as np

labels = np.repeat([0, 1, 2], 8).reshape(3, 4, 2)
found = {}
for kind in (np.float64, np.int16):
    volume = nib.Nifti1Image(labels.astype(kind), np.eye(4))
    volume.set_data_dtype(np.uint8)
    nib.save(volume, 'labels.nii')
    found[kind.__name__] = nib.load('labels.nii').get_fdata()
    print(kind.__name__, np.unique(found[kind.__name__]), 'pixels that equal 1:', (found[kind.__name__] == 1).sum())
assert (found['float64'] == 1).sum() == 0 and (found['float64'].astype(int) == 1).sum() == 0
assert (found['int16'] == labels).all()
PY
