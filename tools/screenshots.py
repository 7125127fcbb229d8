"""Photograph the playground: nbs/images/card.png (link previews, 1200 x 630) and nbs/images/playground.png (index and README).

    python tools/get_runtime.py && python tools/screenshots.py

It builds the page with two networks in a temporary folder, serves it on loopback, and drives a chromium by Playwright. What is seen is a
real prediction of the package's weights on a synthetic pet.
"""
import argparse
import functools
import http.server
import io
import shutil
import sys
import tempfile
import threading
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from unet_course.views.page import write_playground  # noqa: E402

CARD = '''
html { body.pg-page { background: #fff; border-left: 22px solid #1b6ca8; height: 630px; box-sizing: border-box; } body.pg-page > main { max-width: none; padding: 26px 36px 0; } body.pg-page > main > p { display: none; }
body.pg-page h1 { font-size: 50px; letter-spacing: -1px; margin: 0; } body.pg-page h1::after { content: "  Build a U-Net from scratch. Then test what is claimed about its variants."; white-space: pre; font-size: 21px; font-weight: 400; letter-spacing: 0; color: #334155; }
.playground { border: 0; padding: 0; margin: 22px 0 0; } .pg-pictures, .pg-factor, .pg-controls, .pg-card, .pg-status, .pg-networks { display: none !important; }
.playground figcaption { font-size: 18px; margin-top: 6px; } .pg-legend { font-size: 18px; margin-top: 14px; gap: 0 28px; } .pg-swatch { width: 34px; height: 24px; } .pg-panels { gap: 16px; } }
'''


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_): pass


def save(data: bytes, path: Path, colours: int = 256):
    "The screenshot as a small PNG of at most `colours` colours."
    Image.open(io.BytesIO(data)).convert('RGB').quantize(colours, Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f'{path.name}: {Image.open(path).size}, {path.stat().st_size / 1024:.0f} KB')


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--networks', default='mp-tr-bce,str_conv-ups-dice', metavar='A,B')
    parser.add_argument('--picture', default='pet8', help="a sample's name")
    parser.add_argument('--out', type=Path, default=ROOT / 'nbs/images')
    args = parser.parse_args()
    from playwright.sync_api import sync_playwright
    chromium = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome') or sys.exit('no chromium')
    a, b = args.networks.split(',')
    with tempfile.TemporaryDirectory() as folder:
        write_playground(list(dict.fromkeys((a, b))), Path(folder), ROOT / '_runtime')
        with http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=folder)) as server, sync_playwright() as playwright:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            browser = playwright.chromium.launch(executable_path=chromium, args=['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking'])
            page = browser.new_page(viewport=dict(width=1040, height=630), color_scheme='light')
            page.goto(f'http://127.0.0.1:{server.server_port}/index.html?a={a}&b={b}&picture={args.picture}')
            page.get_by_role('button', name='Run the network').click()
            page.wait_for_function("document.querySelector('.playground').playground.state.results.b?.mask", timeout=120_000)
            page.evaluate("document.activeElement.blur()")
            box = page.locator('.playground').bounding_box()
            end = page.locator('.pg-controls').bounding_box()
            page.set_viewport_size(dict(width=1040, height=2000))
            save(page.screenshot(clip=dict(x=box['x'], y=box['y'], width=box['width'], height=end['y'] + end['height'] - box['y'] + 14)), args.out / 'playground.png', 128)
            page.set_viewport_size(dict(width=1200, height=630))
            page.add_style_tag(content=CARD)
            page.evaluate("document.querySelector('h1').textContent = 'unet_course'")
            save(page.screenshot(), args.out / 'card.png')
            browser.close()
            server.shutdown()


if __name__ == '__main__':
    main()
