"""What a reader meets on the site's pages, in a real browser: by keyboard, on a phone, in the dark, in print, and with axe-core.

    python tools/get_runtime.py && pytest -m browser tests/test_pages.py

A page written here, with the classes and rules that Quarto adds, is always tried; the built site is too where there is one: in _docs/,
or in the folder that UNET_COURSE_SITE names. Set SCREENSHOTS to a folder to keep pictures of what was seen."""
import functools
import gzip
import http.server
import importlib.util
import os
import re
import shutil
import threading
from pathlib import Path

import nbformat
import pytest

from conftest import ROOT

CHROMIUM = next((path for path in ('/usr/bin/chromium', shutil.which('chromium'), shutil.which('chromium-browser'), shutil.which('google-chrome')) if path and Path(path).exists()), None)
FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync']
MISSING = 'no chromium (apt-get install chromium)' if CHROMIUM is None else 'no playwright (pip install playwright)' if importlib.util.find_spec('playwright') is None else None
pytestmark = [pytest.mark.browser, pytest.mark.timeout(600), pytest.mark.skipif(MISSING is not None, reason=str(MISSING))]
AXE = ROOT / '_axe/axe.min.js'
SITE = Path(os.environ.get('UNET_COURSE_SITE') or ROOT / '_docs')
BUILT = sorted(p.relative_to(SITE).as_posix() for p in SITE.rglob('*.html') if p != SITE / 'index.html')
MODES = [(scheme, width) for scheme in ('light', 'dark') for width in (1280, 390)]
FIRST_VIEW = 600  # KiB as sent with gzip, before anything is scrolled

# The rules of Quarto's two themes that ours meet, in our words: only what is there before ours is read.
QUARTO = '''
body { margin: 0; font: 17px/1.5 sans-serif; color: #343a40; background: #fff; }
body.quarto-dark { color: #fff; background: #222; }
a { color: #2761e3; } .quarto-dark a { color: #00bc8c; }
code { font-family: monospace; font-size: .875em; } p code { background: #f8f9fa; color: #7d12ba; padding: .2em; } .quarto-dark p code { background: #f8f9fa; } p a code { color: inherit; }
main { max-width: 780px; margin: 0 auto; padding: 0 24px; } nav { padding: 8px 24px; } .navbar { background: #17508f; } .navbar a { color: #fff; }
pre { overflow: auto; } pre code { white-space: pre; } pre.sourceCode code { white-space: pre-wrap; }
figure.figure { display: block; margin: 0 0 1rem; } .figure { display: inline-block; } figcaption { color: #6d7a86; } blockquote { color: #6d7a86; }
summary { color: #6c757d; } .nav-page-text { color: #6c757d; }
table { border-collapse: collapse; } td, th { padding: .5rem; } .table a { word-break: break-word; } .quarto-dark td, .quarto-dark th { color: #fff; }
pre > code.sourceCode > span { display: inline-block; line-height: 1.25; }
@media (max-width: 767.98px) { #TOC { display: none; } }
.collapse:not(.show) { display: none; } .sr { position: absolute; clip-path: inset(50%); }
'''
# Quarto makes the search field when the page is read, without a name.
SEARCH = '''<script>addEventListener('DOMContentLoaded', () => {
document.querySelector('#quarto-search').innerHTML = '<div class="aa-Autocomplete" role="combobox" aria-expanded="false" aria-haspopup="listbox"><button type="button" class="aa-DetachedSearchButton"><svg width="10" height="10"></svg></button></div>';
document.querySelectorAll('[data-bs-toggle=collapse]').forEach(node => node.addEventListener('click', () => document.querySelector(node.dataset.bsTarget).classList.toggle('show')));
}, {once: true});</script>'''
BODY = '''
<header><nav class="navbar"><a class="navbar-brand" href="#"><img src="data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 9 9'/%3E" alt="A U in two colours" class="navbar-logo"></a> <div id="quarto-search" title="Search"></div>
<button class="navbar-toggler" type="button" role="menu" aria-expanded="false" aria-label="Toggle navigation">=</button></nav>
<nav class="quarto-secondary-nav"><a class="flex-grow-1" role="navigation" data-bs-toggle="collapse" data-bs-target="#section" aria-expanded="false" aria-label="Toggle sidebar navigation">menu</a></nav></header>
<nav id="quarto-sidebar"><a class="sidebar-item-toggle" data-bs-toggle="collapse" data-bs-target="#section" role="navigation" aria-expanded="false" aria-label="Toggle section"><svg width="10" height="10"></svg></a>
<div id="section" class="collapse"><a href="#one">One</a> <a href="#two">Two</a></div></nav>
<nav id="TOC"><ul><li><a href="#one" id="toc-one">One</a><ul class="collapse"><li><a href="#two" id="toc-two">Two</a></li></ul></li><li><a href="#three">Three</a></li><li><a href="#four">Four</a></li></ul></nav>
<main class="content" id="quarto-document-content">
<h1>A chapter</h1>
<div class="badges"><p><a href="#colab">Open in Colab</a> <a href="#binder">Open in Binder</a></p></div>
<p>The mode <code>dice</code>, and <a href="#dice"><code>dice()</code></a>; a long word: <code>unet_course.datasets.oxford_pets.published_split_of_the_trimap_names</code>.</p>
<blockquote><p>A quotation.</p></blockquote>
<div class="cell exported"><details class="code-fold" open id="long"><summary>unet_course/data.py: long</summary><div class="sourceCode"><pre class="sourceCode"><code class="sourceCode">LINES</code></pre></div></details></div>
<div class="cell exported"><details class="code-fold" open id="short"><summary>unet_course/data.py: short</summary><div class="sourceCode"><pre class="sourceCode"><code class="sourceCode"><span id="wrapped">    value = first_of_many_words + second_of_many_words + third_of_many_words + fourth</span></code></pre></div></details></div>
<details class="api" id="dice"><summary>Reference: <code>dice</code></summary><p id="reference">Return it.</p></details>
<div class="cell"><div class="cell-output cell-output-stdout"><pre id="sentence"><code>config: unknown 'width', allowed are in_channels, out_channels, base_width, depth, downsample_mode, upsample_mode, and the last is 42</code></pre></div></div>
<div class="cell aligned"><div class="cell-output cell-output-stdout"><pre id="columns"><code>variant             train     val    test  parameters  seconds
mp-tr-bce           0.812   0.799   0.801  31,043,521    104.2
str_conv-ups-dice   0.790   0.781   0.779  37,659,521    131.7</code></pre></div></div>
<div class="table-responsive" id="names"><table class="table"><thead><tr><th>Chapter</th><th>Share</th><th>What</th></tr></thead>
<tbody><tr><td id="whole"><a href="#four">Experiments</a></td><td class="number">+0.83 to +1.43</td><td>Plan, run and store what is compared, and say when two runs may stand side by side</td></tr></tbody></table></div>
<div class="table-responsive" id="wide"><table class="table"><thead><tr><th>Name</th><th>Type</th><th>Default</th><th>Details</th><th>Notes</th><th>Unit</th></tr></thead>
<tbody><tr><td>downsample_mode</td><td>str&nbsp;|&nbsp;None</td><td>None</td><td>the_mode_of_the_encoder</td><td>one_of_the_registry</td><td>pixels</td></tr></tbody></table></div>
<p><math display="block"><mrow>''' + '<mi>x</mi><mo>+</mo>' * 60 + '''<mi>y</mi></mrow></math></p>
<details class="solution">
<summary>Solution, and what it prints</summary>
<p id="answer">The answer is 3.</p>
</details>
<figure class="figure"><img src="data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' width='40' height='40'/%3E" alt="A white square"><figcaption class="figure-caption">A caption</figcaption></figure>
<div class="cell-output-display"><figure class="figure"><a class="full-size" href="wide.svg"><img src="wide.svg" width="900" height="90" alt="Nine panels in a row"></a></figure></div>
<span class="formulas"><math display="block"><mi>p</mi><mo>=</mo><mn>1</mn></math> <math display="block"><mi>q</mi><mo>=</mo><mn>2</mn></math></span>
<div id="two"></div><h2 id="four">Four</h2>
TWIN
<nav class="page-navigation"><a href="#next" aria-label="Next"><span class="nav-page-text">Next</span></a></nav>
</main>
'''
LINES = ''.join(f'<span>line_{i} = {i}</span>\n' for i in range(20))
WIDE = "<svg xmlns='http://www.w3.org/2000/svg' width='900' height='90' viewBox='0 0 900 90'><text y='50'>nine panels</text></svg>"


def rules() -> str:
    "Our own rules, which are plain CSS."
    return (ROOT / 'site/theme.scss').read_text(encoding='utf-8').partition('/*-- scss:rules --*/')[2]


def twin() -> str:
    "The static twin of the drawing, as a notebook stores it, with the classes that Quarto gives figures and pictures."
    for path in sorted((ROOT / 'nbs').rglob('*.ipynb')):
        for cell in nbformat.read(path, as_version=4).cells:
            for output in cell.get('outputs', []):
                if 'unet-twin-down-mp' in (text := ''.join(output.get('data', {}).get('text/html', ''))):
                    return re.sub(r'<figcaption', '<figcaption class="figure-caption"', re.sub(r'<img ', '<img class="figure-img" ', re.sub(r'<figure class="', '<figure class="figure ', text)))
    raise AssertionError('no notebook stores the static twin')


@pytest.fixture(scope='module')
def browser():
    from playwright.sync_api import sync_playwright
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_): pass


@pytest.fixture(scope='module')
def served():
    "Serves folders on loopback: a function from folder to address."
    running = []

    def address(folder: Path) -> str:
        server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=str(folder)))
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        running.append((server, thread))
        return f'http://127.0.0.1:{server.server_port}/'
    yield address
    for server, thread in running:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope='module')
def written(tmp_path_factory, served):
    "The address of our own page."
    folder = tmp_path_factory.mktemp('written')
    (folder / 'wide.svg').write_text(WIDE, encoding='utf-8')
    for scheme in ('light', 'dark'):
        (folder / f'{scheme}.html').write_text(f'<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>A chapter</title><link rel="icon" href="data:,">'
                                               f'<style>{QUARTO}</style><style>{rules()}</style>{SEARCH}</head><body class="quarto-{scheme}">{BODY.replace("TWIN", twin()).replace("LINES", LINES)}{(ROOT / "site/page.html").read_text(encoding="utf-8")}</body></html>', encoding='utf-8')
    return served(folder)


@pytest.fixture(scope='module')
def built(served):
    return served(SITE)


@pytest.fixture
def page(browser, request):
    scheme, width = getattr(request, 'param', ('light', 1280))
    context = browser.new_context(viewport=dict(width=width, height=844), color_scheme=scheme)
    opened = context.new_page()
    opened.set_default_timeout(60_000)
    yield opened
    if folder := os.environ.get('SCREENSHOTS'): opened.screenshot(path=str(Path(folder, f'pages_{re.sub(r"[^a-z0-9]+", "_", request.node.name)}.png')), full_page=True)
    context.close()


def barriers(page) -> list[str]:
    "What axe-core calls critical or serious: the rule and where."
    if not AXE.is_file(): pytest.skip('no axe-core (python tools/get_runtime.py)')
    page.evaluate(AXE.read_text(encoding='utf-8'))
    found = page.evaluate('axe.run(document, {resultTypes: ["violations"], preload: false})')['violations']
    return [f'{rule["id"]}: {node["html"][:120]}' for rule in found if rule['impact'] in ('critical', 'serious') for node in rule['nodes']]


def too_wide(page) -> list[str]:
    "The page, and what is cut: wider than its place, which neither wraps nor scrolls by keyboard."
    return page.evaluate('''() => {
        const sideways = document.documentElement.scrollWidth - document.documentElement.clientWidth;
        const cut = [...document.querySelectorAll('main *')].filter(n => n.scrollWidth > n.clientWidth + 1 && n.clientWidth > 0 && getComputedStyle(n).overflowX !== 'visible' && n.tabIndex < 0 && !n.closest('[tabindex="0"], .playground, svg, select') && n.checkVisibility());
        return [...(sideways > 0 ? [`the page scrolls ${sideways} px sideways`] : []), ...cut.map(n => `cut: ${n.outerHTML.slice(0, 120)}`)];
    }''')


@pytest.mark.parametrize('page', MODES, indirect=True, ids=lambda m: f'{m[0]}-{m[1]}')
def test_our_own_page_has_no_barrier_and_fits(page, written, request):
    page.goto(f'{written}{request.node.callspec.params["page"][0]}.html')
    assert too_wide(page) == []
    assert page.locator('#sentence').evaluate('n => n.scrollWidth <= n.clientWidth'), 'sentences wrap'
    wide = request.node.callspec.params['page'][1] == 390
    assert page.locator('#columns').evaluate('n => n.scrollWidth > n.clientWidth && n.tabIndex === 0') == wide, 'columns keep their lines, and scroll by keyboard'
    assert page.locator('.navbar-logo').evaluate('n => [n.offsetWidth, n.offsetHeight]') == [24, 24]
    assert barriers(page) == []


def test_the_first_tab_stop_leads_past_the_menus(page, written):
    page.goto(written + 'light.html')
    page.keyboard.press('Tab')
    link = page.locator('.skip-link:focus')
    assert link.inner_text() == 'Skip to the text' and link.bounding_box()['y'] >= 0
    page.keyboard.press('Enter')
    page.keyboard.press('Tab')
    assert page.evaluate("document.activeElement.textContent") == 'Open in Colab'


def test_menus_open_by_keyboard_and_the_search_has_a_name(page, written):
    page.goto(written + 'light.html')
    assert page.get_by_role('button', name='Search').count() == 1
    page.get_by_role('button', name='Toggle section').focus()
    for key, shown in (('Enter', True), (' ', False)):
        page.keyboard.press(key)
        assert page.locator('#section').is_visible() == shown


def test_solutions_open_by_keyboard_and_are_there_in_print(page, written):
    page.goto(written + 'light.html')
    answer = page.locator('#answer')
    assert not answer.is_visible()
    page.locator('.solution summary').focus()
    page.keyboard.press('Enter')
    assert answer.is_visible()
    page.keyboard.press('Enter')
    assert not answer.is_visible()
    page.emulate_media(media='print')
    assert answer.evaluate('n => n.checkVisibility() && n.getBoundingClientRect().height > 0'), 'without a script'
    page.emulate_media(media='screen')
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert answer.is_visible()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert not answer.is_visible()


@pytest.mark.parametrize('page', [('light', 390), ('light', 1280)], indirect=True, ids=lambda m: str(m[1]))
def test_a_wide_table_says_that_it_goes_on(page, written, request):
    page.goto(written + 'light.html')
    narrow = request.node.callspec.params['page'][1] == 390
    table = page.locator('#wide')
    assert table.evaluate('n => n.scrollWidth > n.clientWidth') == narrow
    seen = lambda: table.evaluate("n => [n.classList.contains('more-left'), n.classList.contains('more-right'), getComputedStyle(n).backgroundImage.includes('gradient'), getComputedStyle(n, '::before').content.includes('scrolls')]")
    assert seen() == [False, narrow, narrow, narrow]
    if narrow:
        assert page.get_by_role('region', name='Table, scrolls sideways: Name').count() == 1
        table.focus()
        for _ in range(60): page.keyboard.press('ArrowRight')
        page.wait_for_function("document.querySelector('#wide').classList.contains('more-left') && !document.querySelector('#wide').classList.contains('more-right')")
    assert page.locator('#whole a').evaluate('n => n.getClientRects().length') == 1, 'words stay whole'
    assert page.locator('#names .number').evaluate("n => { const r = document.createRange(); r.selectNodeContents(n); return r.getClientRects().length; }") == 1, 'so do numbers'


@pytest.mark.parametrize('page', [('light', 390), ('light', 1280)], indirect=True, ids=lambda m: str(m[1]))
def test_a_phone_has_the_headings_below_the_title_and_long_code_folded(page, written, request):
    page.goto(written + 'light.html')
    narrow = request.node.callspec.params['page'][1] == 390
    box = page.locator('details.contents')
    assert box.is_visible() == narrow
    assert page.locator('#long').evaluate('n => n.open') != narrow and page.locator('#short').evaluate('n => n.open')
    if not narrow: return
    assert page.locator('#wrapped').evaluate("n => parseFloat(getComputedStyle(n).paddingLeft) > 0 && n.getClientRects()[0].height > 30"), 'lines that wrap keep their indent'
    box.locator('summary').focus()
    page.keyboard.press('Enter')
    assert box.get_by_role('link').all_inner_texts() == ['One', 'Two', 'Three', 'Four'] and page.locator('[id=toc-two]').count() == 1
    box.get_by_role('link', name='Four').focus()
    page.keyboard.press('Enter')
    page.wait_for_function("location.hash === '#four'")
    assert not box.evaluate('n => n.open')


def test_a_link_opens_the_folded_reference(page, written):
    page.goto(written + 'light.html')
    assert not page.locator('#reference').is_visible()
    page.locator('p a[href="#dice"]').click()
    page.wait_for_function("document.querySelector('#dice').open")


@pytest.mark.parametrize('page', [('light', 390)], indirect=True)
def test_a_figure_opens_in_full_size_by_keyboard(page, written):
    page.goto(written + 'light.html')
    link = page.get_by_role('link', name='Nine panels in a row')
    link.focus()
    page.keyboard.press('Enter')
    box = page.get_by_role('dialog', name='Figure in full size')
    assert box.is_visible() and box.get_by_role('img', name='Nine panels in a row').bounding_box()['width'] == 900
    assert barriers(page) == [] and too_wide(page) == []
    page.keyboard.press('Escape')
    assert not box.is_visible() and link.evaluate('n => n === document.activeElement')
    page.keyboard.press('Enter')
    box.get_by_role('button', name='Close').click()
    assert not box.is_visible()


def test_inline_code_is_a_tint_in_the_dark(page, written):
    page.goto(written + 'dark.html')
    chip = page.locator('p code').first.evaluate('n => getComputedStyle(n).backgroundColor')
    assert float(re.findall(r'[\d.]+', chip)[3]) < .3, chip


def test_the_static_twin_shows_one_drawing_at_a_time(page, written):
    page.goto(written + 'light.html')
    for down in ('mp', 'str_conv', 'str_conv_bn'):
        for up in ('tr', 'ups'):
            page.get_by_label(f'down: {down}', exact=True).check()
            page.get_by_label(f'up: {up}', exact=True).check()
            assert [f.locator('figcaption').inner_text().partition(':')[0] for f in page.locator('.unet-twin figure').all() if f.is_visible()] == [f'{down}-{up}']


site = pytest.mark.skipif(not BUILT, reason='no built site in _docs/ (nbdev_docs with Quarto, or set UNET_COURSE_SITE)')


@site
@pytest.mark.parametrize('name', BUILT or ['none'])
def test_a_built_page(browser, built, name):
    "Light and dark, wide and narrow: no barrier, nothing too wide, every picture described, a light first view, nothing from elsewhere, no complaint."
    wrong = []
    for scheme in ('light', 'dark'):
        context = browser.new_context(viewport=dict(width=1280, height=844), color_scheme=scheme)
        page = context.new_page()
        page.set_default_timeout(60_000)
        answers = []
        page.on('request', lambda r: wrong.append(f'asks for {r.url}') if not r.url.startswith((built, 'data:', 'blob:')) else None)
        page.on('pageerror', lambda e: wrong.append(f'complains: {e}'))
        page.on('response', lambda r: answers.append(r))
        page.goto(built + name, wait_until='networkidle')
        kib = sum(len(gzip.compress(answer.body(), 6) if re.search('text|javascript|json|svg|xml', answer.headers.get('content-type', '')) else answer.body()) for answer in answers if answer.ok and answer.url.startswith(built)) / 1024
        if kib > FIRST_VIEW: wrong.append(f'{kib:.0f} KiB in the first view')
        bare = page.evaluate('''() => [...document.querySelectorAll('img')].filter(n => !n.hasAttribute('alt') || (!n.alt && !n.closest('[aria-label]'))).map(n => n.outerHTML.slice(0, 120))''')
        wrong += [f'no description: {b}' for b in bare]
        for width in (1280, 390):
            page.set_viewport_size(dict(width=width, height=844))
            page.wait_for_timeout(200)
            wrong += [f'{scheme} {width}: {text}' for text in [*too_wide(page), *barriers(page)]]
        if folder := os.environ.get('SCREENSHOTS'): page.screenshot(path=str(Path(folder, f'site_{re.sub(r"[^a-z0-9]+", "_", name)}_{scheme}.png')))
        context.close()
    assert wrong == [], '\n'.join(wrong)


@site
def test_the_built_pages_carry_the_card_and_open_elsewhere(browser, built):
    page = browser.new_page()
    for name in BUILT:
        if 'live/' in name: continue
        page.goto(built + name, wait_until='domcontentloaded')
        for kind in ('meta[property="og:image"]', 'meta[name="twitter:image"]'): assert page.locator(kind).get_attribute('content').endswith('/nbs/images/card.png'), name
        assert page.locator('.badges a').all_inner_texts()[:2] == ['Open in Colab', 'Open in Binder'], name
        assert page.locator('.badges').evaluate('n => n.compareDocumentPosition(document.querySelector("#title-block-header")) & Node.DOCUMENT_POSITION_PRECEDING'), name
    page.close()
