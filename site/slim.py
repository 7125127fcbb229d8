"""Make the built site light: keep of the icon font the icons that are shown (of 176 KB on every page), of figures full of photos a WebP file; and make each figure a link to itself.

Quarto runs this after it has built all pages."""
import io
import os
import re
from pathlib import Path

from fontTools import subset  # comes with matplotlib
from PIL import Image


def pictures(site: Path):
    "Makes WebP files of the large figures, photos most of them, where that saves a third of the bytes, and writes their names into the page."
    for figure in site.rglob('*_files/figure-html/*.png'):
        if figure.stat().st_size < 50e3: continue
        Image.open(figure).convert('RGB').save(packed := io.BytesIO(), format='WebP', quality=85, method=6)
        if packed.tell() * 3 > figure.stat().st_size * 2: continue
        page = figure.parents[2]
        figure.with_suffix('.webp').write_bytes(packed.getvalue())
        figure.unlink()
        name = figure.relative_to(page).as_posix()
        for path in page.glob('*.html'):
            if name in (text := path.read_text(encoding='utf-8')): path.write_text(text.replace(name, f'{name[:-4]}.webp'), encoding='utf-8')


def full_size(site: Path):
    "Makes each figure a link to its own file, since on a phone the words in a wide one are too small to read, and lets every table scroll in its place."
    for path in site.glob('nbs/**/*.html'):
        if 'live' in path.parts: continue
        before = path.read_text(encoding='utf-8')
        after = re.sub(r'(<a [^>]*>\s*)?(<img src="([^"]+_files/figure-html/[^"]+|[^"]*images/(?!favicon)[^"]+)"[^>]*>)',
                       lambda m: m[0] if m[1] else f'<a class="full-size" href="{m[3]}">{m[2]}</a>', before)
        after = re.sub(r'(<div class="table-responsive">\s*)?(<table\b.*?</table>)', lambda m: m[0] if m[1] else f'<div class="table-responsive">\n{m[2]}\n</div>', after, flags=re.S)  # Quarto leaves out tables without a head
        if after != before: path.write_text(after, encoding='utf-8')


def icons(site: Path):
    "Cuts the icon font down to the icons that the site shows."
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
    pictures(Path(os.environ['QUARTO_PROJECT_OUTPUT_DIR']))
    full_size(Path(os.environ['QUARTO_PROJECT_OUTPUT_DIR']))
    icons(Path(os.environ['QUARTO_PROJECT_OUTPUT_DIR']))
