"""Cut the icon font of the built site down to the icons that it shows (176 KB on every page otherwise). Quarto runs this after it has built all pages."""
import os
import re
from pathlib import Path

from fontTools import subset  # comes with matplotlib


def main(site: Path):
    sheet = next(site.glob('site_libs/bootstrap/bootstrap-icons.css'))
    code = {name: int(point, 16) for name, point in re.findall(r'\.bi-([\w-]+)::before *\{ *content: *"\\([0-9a-f]+)"', sheet.read_text(encoding='utf-8'))}
    text = '\n'.join(p.read_text(encoding='utf-8') for suffix in ('html', 'js', 'css') for p in site.rglob(f'*.{suffix}') if p != sheet)
    shown = {code[name] for name in re.findall(r'\bbi-([\w-]+)', text) if name in code} | {int(point, 16) for point in re.findall(r'\\([fF][0-9a-fA-F]{3})\b', text)}
    for font in sheet.parent.glob('bootstrap-icons.woff*'):
        options = subset.Options(flavor=font.suffix[1:])
        cut = subset.load_font(font, options)
        subsetter = subset.Subsetter(options)
        subsetter.populate(unicodes=shown)
        subsetter.subset(cut)
        subset.save_font(cut, font, options)


if __name__ == '__main__':
    main(Path(os.environ['QUARTO_PROJECT_OUTPUT_DIR']))
