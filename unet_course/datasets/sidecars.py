"""Read what lies beside pictures and masks: names of classes, a split, outlines."""
import json
import re
from collections import Counter
from pathlib import Path

from unet_course.datasets.decoding import colour, spread

VOC = [colour(*(sum((i >> 3 * bit + channel & 1) << 7 - bit for bit in range(3))
                for channel in range(3))) for i in range(256)]  # Pascal VOC's colour of class i
LISTS = ('codes.txt', 'class_names.txt', 'label_names.txt', 'labels.txt', 'classes.txt')
TABLES = ('labelmap.txt', 'label_colors.txt', 'class_dict.csv', '_classes.csv', 'classes.csv')
JSON = ('dataset.json', 'meta.json', 'obj_class_to_machine_color.json')
NOTHING = ('background', '_background_', 'bg', 'unlabeled', 'unlabelled')  # small letters

def names_of_list(
    lines: list[str],  # of a file, a name each; the first is value 0
) -> dict[int, str]:
    "Return the names by value and by VOC's colour; none for a detector's list without background."
    first = -1 if lines[:1] == ['__ignore__'] else 0  # labelme's mark for value -1
    return {key: line for i, line in enumerate(lines, first) if 0 <= i < 256 for key in (i, VOC[i])}

def names_of_table(
    lines: list[str],  # of a file, each with a name and a number or three
) -> dict[int, str]:
    "Return the names by value or by colour: `1, disc`, `disc:250,50,83::`, `64 128 64 Animal`."
    names = {}
    for line in lines:
        numbers = [int(number) for number in re.findall(r'(?<![\w#])\d+(?!\w)', line)]
        words = re.sub(r'(?<!\w)\d+(?!\w)[ ,]*', ' ', line)
        name = re.search(r'[^\W\d][^,:;\t]*', words)
        if line.startswith('#') or not name or len(numbers) not in (1, 3, 4): continue
        value = colour(*numbers[:3]) if len(numbers) > 1 else numbers[0]
        names.setdefault(value, name[0].strip())
    return names

def names_of_json(
    file: str,  # its name
    content,    # what it holds
) -> dict[int, str]:
    "Return the names by value (nnU-Net) or by colour (Supervisely)."
    if file == 'dataset.json':  # name: value; in older sets value: name
        pairs = content['labels'].items()
        return {int(k) if k.isdecimal() else v: str(v) if k.isdecimal() else k for k, v in pairs}
    if file == 'meta.json':
        return {colour(*bytes.fromhex(kind['color'].lstrip('#'))): kind['title']
                for kind in content['classes']}
    return {colour(*rgb): name for name, rgb in content.items()}

def names_in(
    path: Path,  # a file with one of the names in LISTS, TABLES, JSON
) -> dict[int, str]:
    "Return the names that the file gives to values or colours; none if it is another tool's."
    kind = path.name.lower()
    try:
        text = path.read_text(encoding='utf-8-sig')
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        if kind in TABLES: return names_of_table(lines)
        if kind in JSON: names = names_of_json(kind, json.loads(text))
        else:
            detector = kind in ('labels.txt', 'classes.txt') and lines[0].lower() not in NOTHING
            if detector and lines[0] != '__ignore__': return {}  # its list has no background
            names = names_of_list(lines)
    except (OSError, ValueError, LookupError, AttributeError, TypeError): return {}
    return {value: name for value, name in names.items() if isinstance(value, int)}

def class_names(
    files: list[Path],  # all that lies beside the pictures
) -> dict[int, str]:  # value as `colour` codes it: name
    "Return the names that lists give to values or colours; the topmost list counts."
    lists = [path for path in files if path.name.lower() in (*LISTS, *TABLES, *JSON)]
    names = {}
    for path in sorted(lists, key=lambda p: (len(p.parts), p.name)): names = names_in(path) | names
    return names

def object_classes(
    files: list[Path],  # all that lies beside the pictures
) -> list[str]:
    "Return the classes that LabelMe's XML or labelme's JSON files give to their objects."
    found = set()
    for path in spread([path for path in files if path.suffix.lower() in ('.xml', '.json')], 500):
        try: text = path.read_text(encoding='utf-8')
        except (OSError, ValueError): continue
        if path.suffix.lower() == '.xml':
            found |= set(re.findall(r'<object>\s*<name>\s*([^<]+?)\s*</name>', text))
        elif '"shapes"' in text: found |= set(re.findall(r'"label":\s*"([^"]+)"', text))
    return sorted(found)

def listed_parts(
    files: list[Path],  # all that lies beside the pictures
) -> dict[str, str]:  # a picture's name: 'train', 'val' or 'test'
    "Return the split that VOC's lists tell: ImageSets/Segmentation/train.txt, val.txt, test.txt."
    parts = {}
    for path in files:
        of_voc = 'ImageSets' in path.parts
        if not of_voc or path.name not in ('train.txt', 'val.txt', 'test.txt'): continue
        names = path.read_text(encoding='utf-8', errors='replace').splitlines()
        parts |= {name.strip(): path.stem for name in names}
    return parts

def export_hint(
    files: list[Path],  # all that lies beside the pictures
) -> str:
    "Return what to export instead of annotations that are no masks, '' if there are none."
    for path in [path for path in files if path.suffix.lower() == '.json'][:20]:
        try: keys = set(json.loads(path.read_text(encoding='utf-8')))
        except (OSError, ValueError, TypeError): continue
        if {'images', 'annotations'} <= keys:
            return (f'the annotations are in COCO JSON ({path.name}): export masks, in CVAT '
                    '"Segmentation mask 1.1", in Roboflow "Semantic Segmentation Masks"')
        if 'shapes' in keys:
            return (f'the annotations are in labelme JSON ({path.name} and others): write masks '
                    'with labelme.utils.shapes_to_label, or with labelme2voc.py of its examples')
        if keys & {'_via_img_metadata', '_via_settings'}:
            return (f'the annotations are in VIA JSON ({path.name}), and VIA draws no masks: '
                    'bring them into CVAT and export "Segmentation mask 1.1"')
    endings = [path.suffix.lower() for path in files]
    often = Counter(e for e in endings if e in ('.json', '.xml', '.txt')).most_common(1)
    return ''.join(f'there are {n} {ending} files, and outlines or boxes in such files are not '
                   'read: export masks as pictures' for ending, n in often)
