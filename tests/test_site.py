"""The site: its configuration, the pages that nbdev makes of the notebooks, links and pictures; with Quarto, the built pages."""
import ast
import configparser
import fnmatch
import html
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

import nbformat
import pytest
import yaml
from execnb.nbio import NbCell
from PIL import Image

from conftest import ROOT

sys.path[:0] = [str(ROOT / 'tools'), str(ROOT)]
import notebooks as tool  # noqa: E402
from tools import pages as site_pages  # noqa: E402

NOTEBOOKS = tool.notebooks()
NAMES = [p.relative_to(ROOT / 'nbs').with_suffix('').as_posix() for p in NOTEBOOKS]
CONFIG = yaml.safe_load((ROOT / '_quarto.yml').read_text(encoding='utf-8'))
SITE = CONFIG['website']
PARSER = configparser.ConfigParser(delimiters=['='])
PARSER.read(ROOT / 'settings.ini', encoding='utf-8')
SETTINGS = PARSER['DEFAULT']
# What nbdev_docs does before it calls Quarto, in one process.
PROCESS = '''
from nbdev.quarto import refresh_quarto_yml
from nbdev.serve import proc_nbs
refresh_quarto_yml()
proc_nbs(n_workers=0, force=True)
'''
# Quarto's own names (its schema is closed): a misspelt key is an error there.
WEBSITE_KEYS = {'title', 'description', 'favicon', 'site-url', 'repo-url', 'repo-branch', 'repo-actions', 'search', 'navbar', 'sidebar', 'page-navigation',
                'back-to-top-navigation', 'bread-crumbs', 'page-footer', 'image', 'image-alt', 'open-graph', 'twitter-card'}
NAVBAR_KEYS = {'title', 'logo', 'logo-alt', 'background', 'foreground', 'search', 'pinned', 'collapse', 'left', 'right'}
SIDEBAR_KEYS = {'style', 'background', 'foreground', 'search', 'contents', 'collapse-level', 'pinned', 'border'}
ITEM_KEYS = {'href', 'text', 'icon', 'aria-label', 'menu', 'section', 'contents'}


def copy_for_the_site(folder: Path) -> Path:
    "The repository without what is built, run or kept aside."
    patterns = shutil.ignore_patterns('.*', '_docs', '_proc', '_runtime', '_axe', '_build', 'build', 'dist', 'live', 'tests', '*.egg-info', '__pycache__', '*.pth')
    return Path(shutil.copytree(ROOT, folder, ignore=lambda place, names: patterns(place, names) | ({'runs'} & set(names) if Path(place) == ROOT else set())))


@pytest.fixture(scope='module')
def pages(tmp_path_factory):
    "The notebooks as nbdev hands them to Quarto, by their path in nbs/, made from a copy of the repository."
    copy = copy_for_the_site(tmp_path_factory.mktemp('site') / 'copy')
    done = subprocess.run([sys.executable, '-c', PROCESS], cwd=copy, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert 'Warning' not in done.stderr, done.stderr
    found = {p.relative_to(copy / '_proc/nbs').with_suffix('').as_posix(): nbformat.read(p, as_version=4) for p in (copy / '_proc/nbs').rglob('*.ipynb')}
    found['nbdev.yml'] = yaml.safe_load((copy / 'nbdev.yml').read_text(encoding='utf-8'))
    assert all((copy / '_proc' / name).is_file() for name in ('_quarto.yml', 'nbdev.yml', 'site/theme.scss', 'site/page.lua', 'site/page.html', 'nbs/images/card.png'))
    return found


def items(node):
    "Every entry of the navigation below `node`, in order; a bare file name counts as one, and a pattern as all files that it names."
    for entry in node:
        yield {'href': entry} if isinstance(entry, str) else entry
        if isinstance(entry, str): continue
        below = entry.get('menu', entry.get('contents', []))
        yield from items([name for p in NOTEBOOKS if fnmatch.fnmatch(name := p.relative_to(ROOT).as_posix(), below) and name != entry.get('href')] if isinstance(below, str) else below)


def front_matter(nb) -> dict:
    assert nb.cells[0].cell_type == 'raw'
    return yaml.safe_load(nb.cells[0].source.strip().strip('-'))


def text_of(nb) -> str:
    "A notebook's Markdown and its HTML and Markdown outputs: everything that can hold a link or a picture."
    outputs = (''.join(o.get('data', {}).get(kind, '')) for c in nb.cells if c.cell_type == 'code' for o in c.outputs for kind in ('text/html', 'text/markdown'))
    return '\n\n'.join([c.source for c in nb.cells if c.cell_type == 'markdown'] + list(outputs))


def without_code(text: str) -> str: return re.sub(r'```.*?```|``.+?``|`[^`\n]+`|<style.*?</style>', 'code', text, flags=re.S)


def links(text: str) -> list[str]:
    return re.findall(r'\]\(<?([^)\s>]+)>?(?:\s+"[^"]*")?\)', text) + [html.unescape(u) for u in re.findall(r'<(?:a|img)\b[^>]*?(?:href|src)="([^"]+)"', text)]


def anchors(text: str) -> set[str]:
    "The names Pandoc gives a page's headings, and those written by hand."
    found = set(re.findall(r'\bid="([^"]+)"', text)) | set(re.findall(r'\{[^}\n]*#([\w:-]+)', text))
    for heading in re.findall(r'^#{1,6} +(.+?)\s*(?:\{[^}]*\})?\s*$', re.sub(r'```.*?```', '', text, flags=re.S), re.M):
        plain = re.sub(r'\[([^\]]*)\]\([^)]*\)', r'\1', heading)
        name = re.sub(r'\s+', '-', re.sub(r'[^\w\s.-]', '', plain).strip().lower())
        found.add(re.sub(r'^[^a-z]+', '', name))
    return found


def lab_anchors(nb) -> set[str]:
    "The names JupyterLab gives a notebook's headings: their text with hyphens for blanks."
    text = re.sub(r'```.*?```', '', '\n'.join(c.source for c in nb.cells if c.cell_type == 'markdown'), flags=re.S)
    return {re.sub(r'[`*]', '', heading).strip().replace(' ', '-') for heading in re.findall(r'^#{1,6} +(.+)$', text, re.M)}


def test_configuration_has_only_keys_that_quarto_knows_and_what_the_site_needs():
    assert set(CONFIG) <= {'project', 'metadata-files', 'format', 'website', 'execute', 'lang', 'filters'} and CONFIG['project']['type'] == 'website'
    assert set(SITE) <= WEBSITE_KEYS and set(SITE['navbar']) <= NAVBAR_KEYS and set(SITE['sidebar']) <= SIDEBAR_KEYS
    assert {'favicon', 'image', 'open-graph', 'twitter-card', 'search', 'repo-actions', 'page-footer'} <= set(SITE)
    for entry in items([*SITE['navbar']['left'], *SITE['navbar']['right'], *SITE['sidebar']['contents']]): assert set(entry) <= ITEM_KEYS, entry
    assert set(CONFIG['format']['html']['theme']) == {'light', 'dark'} and CONFIG['project']['output-dir'] == SETTINGS['doc_path']
    assert 'Oxford-IIIT Pet' in str(SITE['page-footer']) and 'CC BY-SA 4.0' in str(SITE['page-footer']) and 'Apache-2.0' in str(SITE['page-footer'])


def test_sidebar_has_every_notebook_once_and_the_chapters_in_order():
    listed = [Path(entry['href']) for entry in items(SITE['sidebar']['contents']) if 'href' in entry]
    assert sorted(listed) == sorted(p.relative_to(ROOT) for p in NOTEBOOKS)
    numbered = [p for p in listed if p.stem[0].isdigit()]
    assert listed[0].stem == 'index' and numbered == sorted(numbered)
    chapters, = (entry for entry in SITE['navbar']['left'] if 'menu' in entry)
    assert [Path(p) for p in chapters['menu']] == [p for p in numbered if p.stem != '07_cli']
    rendered = {p for pattern in CONFIG['project']['render'] for p in ROOT.glob(pattern)}
    assert set(NOTEBOOKS) <= rendered and CONFIG['project']['render'][0] == 'nbs/index.ipynb'


def test_every_file_named_in_the_configuration_exists():
    html_format = CONFIG['format']['html']
    named = [html_format['include-after-body'], *CONFIG['filters'], CONFIG['project']['post-render'].removeprefix('../'), SITE['favicon'], SITE['image'].lstrip('/'), SITE['navbar']['logo'], *CONFIG['project']['resources'], *CONFIG['project']['render']]
    named += [name for themes in html_format['theme'].values() for name in themes if '.' in name]
    named += [entry['href'] for entry in items([*SITE['navbar']['left'], *SITE['navbar']['right'], *SITE['sidebar']['contents']]) if 'href' in entry and '://' not in entry['href']]
    assert [name for name in named if not any(ROOT.glob(name))] == []


def test_the_addresses_come_from_the_settings(pages):
    made = pages['nbdev.yml']['website']
    assert made['site-url'] == SETTINGS['doc_host'] + SETTINGS['doc_baseurl'] and made['repo-url'] == SETTINGS['git_url'] and made['description']
    github, = (entry for entry in SITE['navbar']['right'] if entry.get('icon') == 'github')
    assert github['href'] == SETTINGS['git_url'] and github['aria-label']
    assert not {'site-url', 'repo-url', 'title'} & set(SITE), 'they are written by nbdev from settings.ini'


def test_our_pictures():
    images = ROOT / 'nbs/images'
    assert Image.open(images / 'card.png').size == (1200, 630) and (images / 'card.png').stat().st_size < 300e3
    assert (images / 'overview.png').stat().st_size < 120e3
    for path in images.glob('*.svg'):
        root = ElementTree.parse(path).getroot()
        assert root.tag.endswith('}svg') and not any(e.tag.endswith('}script') for e in root.iter())


@pytest.mark.parametrize('path', NOTEBOOKS, ids=NAMES)
def test_every_directive_can_be_read_as_yaml(path):
    "Quarto reads the lines `#| key: value` as YAML: a colon or a hash inside a value ends it, or the whole build, unless the value is quoted."
    wrong = []
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type != 'code': continue
        for line in (line for line in cell.source.splitlines() if re.match(r'#\|', line)):
            key, _, value = line[2:].strip().partition(': ')
            try: read = yaml.safe_load(line[2:])
            except yaml.YAMLError: read = None
            if value and (not isinstance(read, dict) or key not in read or (value[0] not in '"\'[{' and str(read[key]).lower() != value.strip().lower())): wrong.append(line)
            elif not value and read is None: wrong.append(line)
    assert wrong == []


@pytest.mark.parametrize('path', NOTEBOOKS, ids=NAMES)
def test_nbdev_makes_a_page_of_the_notebook(pages, path):
    name = path.relative_to(ROOT / 'nbs').with_suffix('').as_posix()
    ours, page = nbformat.read(path, as_version=4), pages[name]
    front = front_matter(page)
    assert front['title'] and front['description']
    assert front['output-file'] == re.sub(r'^\d+_', '', path.stem) + '.html'
    assert (path.parent / front['image']).resolve() == ROOT / 'nbs/images/card.png', 'previews show the card, not the first picture of the page'
    assert front.get('toc', True) == (path.stem != 'playground')
    # the first thing below the title: where else the notebook opens
    place = f'{SETTINGS["user"]}/{SETTINGS["repo"]}'
    assert page.cells[1].source.startswith('::: {.badges}') and dict(re.findall(r'\[([^\]]+)\]\(([^)]+)\)', page.cells[1].source)) == {
        'Open in Colab': f'https://colab.research.google.com/github/{place}/blob/{SETTINGS["branch"]}/nbs/{name}.ipynb',
        'Open in Binder': f'https://mybinder.org/v2/gh/{place}/{SETTINGS["branch"]}?labpath=nbs%2F{name.replace("/", "%2F")}.ipynb',
        **({'Open the playground alone': 'playground/live/index.html'} if name == 'playground' else {})}
    assert not page.metadata.get('widgets')
    # nothing that was written is lost, the opening included
    plain = lambda text: re.sub(r'!\[[^\]]*\]\(([^)]*)\)(\{[^}]*\})?', r'\1', re.sub(r'\]\(((?:[\w./-]+\.ipynb)?)#[^)]*\)', r'](\1#)', re.sub(r'\[(`[^`]+`)\]\([^)]*\)', r'\1', text))).strip()  # links are made of names, anchors mended, descriptions moved
    shown = plain('\n'.join(c.source for c in page.cells))
    for cell in ours.cells:
        if cell.cell_type == 'markdown' and cell is not ours.cells[0]:
            assert plain(cell.source) in shown
    assert plain(re.sub(r'\A# .*\n*(> .*)?', '', ours.cells[0].source)) in shown
    # every figure keeps its description, and every picture gets it where Quarto keeps it
    alts = lambda nb: [line for c in nb.cells if c.cell_type == 'code' for line in c.source.splitlines() if line.startswith('#| fig-alt')]
    assert len(alts(page)) == len(alts(ours))
    texts = [html.unescape(text) for text in re.findall(r'!\[\]\([^)]+\)\{fig-alt="([^"]+)"\}', without_code(text_of(page)))]
    assert texts == [text.replace('`', '') for text in re.findall(r'!\[([^\]]+)\]\([^)]+\)(?!\{)', '\n'.join(without_code(c.source) for c in ours.cells if c.cell_type == 'markdown'))]
    assert not [kind for c in page.cells for o in c.get('outputs', []) for kind in o.get('data', {}) if kind == 'text/html'], 'Quarto would fetch two scripts from elsewhere'


EXPORTING = [n for p, n in zip(NOTEBOOKS, NAMES) if any(c.source.startswith('#| default_exp') for c in nbformat.read(p, as_version=4).cells)]


@pytest.mark.parametrize('name', EXPORTING)
def test_exported_definitions_are_shown_with_their_reference_below(pages, name):
    page = pages[name]
    public = [node for c in nbformat.read(ROOT / f'nbs/{name}.ipynb', as_version=4).cells if c.cell_type == 'code' and re.match(r'#\| export\b', c.source)
              for node in ast.parse(c.source).body if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith('_')]
    reference = {m[1]: c.outputs[0].data['text/markdown'] for c in page.cells if c.cell_type == 'code' and (m := re.search(r'^show_doc\((\w+)\)', c.source, re.M))}
    code = '\n'.join(c.source for c in page.cells if c.cell_type == 'code')
    assert public and {node.name for node in public} <= set(reference)
    for node in public:
        assert re.search(rf'^(def|class) {node.name}\b', code, re.M), 'the source is on the page'
        text = reference[node.name]
        assert re.match(rf'<details class="api" id="{node.name.lower()}(-api)?">\n<summary>Reference: <code>{node.name}</code></summary>\n\n', text) and text.endswith('\n\n</details>'), 'folded, with the anchor that links lead to'
        assert '\n- **' in text or f'{node.name}(' in text, 'neither a list nor a signature'
        assert not re.search(r'\((None|.*\btorch\.nn\.)', text), 'types are short, and none where none is given'
    assert 'default_exp' not in code
    ids = [m for text in reference.values() for m in re.findall(r'id="([^"]+)"', text)]
    assert len(set(ids)) == len(ids) and not set(ids) & anchors('\n\n'.join(c.source for c in page.cells if c.cell_type == 'markdown')), 'an anchor leads to one place'
    module, = re.findall(r'^#\| default_exp (.+)', '\n'.join(c.source for c in nbformat.read(ROOT / f'nbs/{name}.ipynb', as_version=4).cells), re.M)
    summaries = ' '.join(re.findall(rf"^#\| code-summary: 'unet_course/{module.replace('.', '/')}\.py: (.*)'$", code, re.M))
    assert [node.name for node in public if not re.search(rf'\b{node.name}\b|\.\.\.', summaries)] == [], 'what goes into the package says so'


@pytest.mark.parametrize('name', NAMES)
def test_imports_are_folded_and_long_code_can_be(pages, name):
    cells = [c for c in pages[name].cells if c.cell_type == 'code']
    shown = [c.source for c in cells if not re.search(r'^#\| *(include|echo): false', c.source, re.M) and not c.source.startswith('# Exercise')]
    code = lambda source: re.sub(r'^#\|.*\n', '', source, flags=re.M)
    assert [source for source in shown if re.match(r'(import|from) ', code(source)) and len(re.findall(r'^(?:import|from) ', source, re.M)) >= 4 and '#| code-fold: true' not in source] == []
    solved = {i for i, c in enumerate(pages[name].cells) if c.source.startswith('<details class="solution">')}
    long = [c.source for i, c in enumerate(pages[name].cells) if c.cell_type == 'code' and c.source in shown and code(c.source).count('\n') >= site_pages.LONG and i - 1 not in solved]
    assert [source for source in long if '#| code-fold:' not in source] == []
    both = zip(pages[name].cells, pages[name].cells[1:])
    assert not [b.source for a, b in both if a.cell_type == b.cell_type == 'code' and all('#| code-summary: "Imports"' in c.source for c in (a, b)) and not (a.outputs or b.outputs)], 'two boxes of imports, one after the other'


def test_code_says_where_it_goes():
    def made(source, directives=None, outputs=()): return NbCell(0, dict(cell_type='code', source=source, directives_=directives or {}, outputs=list(outputs)))
    cells = [made('', {'default_exp': ['views.page']}), made('import os\nimport re', {'export': []}), made('%matplotlib inline\nimport io'), made("#| label: fig-x\n#| fig-cap: 'A'\ndef draw(): ...", {'export': []}),
             made('a, b = 1, 2', {'exporti': []}), made('x = 1\n' * 20), made('x = 1'), made('import os\nprint(os.sep)', outputs=[1])]
    nb = type('Notebook', (), dict(cells=cells))
    proc = site_pages.Code.__new__(site_pages.Code)
    proc.nb = nb
    proc.begin()
    texts = [c.source for c in cells]
    assert texts[1] == '#| code-fold: true\n#| code-summary: "Imports"\nimport os\nimport re\n\n%matplotlib inline\nimport io' and not texts[2]
    assert texts[3] == "#| classes: exported\n#| label: fig-x\n#| fig-cap: 'A'\n#| code-fold: show\n#| code-summary: 'unet_course/views/page.py: draw'\ndef draw(): ..."
    assert "'unet_course/views/page.py: a, b'" in texts[4] and texts[5].startswith("#| classes: long\n#| code-fold: show\n#| code-summary: 'Code'") and texts[6:] == ['x = 1', 'import os\nprint(os.sep)']


def test_modes_and_commands_do_not_link_to_functions_of_their_name(pages):
    from unet_course._modidx import d
    from unet_course.blocks import DOWNSAMPLE, UPSAMPLE
    from unet_course.cli import make_parser
    from unet_course.losses import LOSSES
    symbols = {name.removeprefix(f'{module}.') for module, found in d['syms'].items() for name in found}
    commands = next(action.choices for action in make_parser()._actions if action.dest == 'command')
    assert {*commands, *DOWNSAMPLE, *UPSAMPLE, *LOSSES} & symbols <= site_pages.WORDS
    assert [(name, link) for name in NAMES for link in re.findall(r'\[`(\w+)`\]\(http', text_of(pages[name])) if link in site_pages.WORDS] == []
    lookup = site_pages.Lookup()
    lookup.syms = {'dice': 'https://example.org/losses.html#dice', 'UNet': 'https://example.org/factory.html#unet', 'UNet.forward': 'https://example.org/factory.html#unet.forward'}
    assert lookup.linkify('`dice`, `dice()`, `UNet`') == '`dice`, [`dice()`](https://example.org/losses.html#dice), [`UNet`](https://example.org/factory.html#unet)'
    assert lookup.linkify('`UNet.forward`') == '[`UNet.forward`](https://example.org/factory.html#unet)', 'a method has no heading of its own'


def test_a_reference_is_shown_as_it_is_written():
    def power(base: float,  # of 2**depth, as in `2**depth`
              mask: str | None = None,  # the_mask, a|b or `a|b`
              ) -> dict[str, int]:  # <all> of them
        "Returns 2**depth * width_of_a_level, not `2**depth`."
    text = site_pages.render(power)
    assert r'Returns 2\*\*depth \* width\_of\_a\_level, not `2**depth`.' in text
    assert [line for line in text.splitlines() if line.startswith('- ')] == [
        r'- **base** (float): of 2\*\*depth, as in `2**depth`', r'- **mask** (str \| None, default None): the\_mask, a\|b or `a|b`', r'- **Returns** (dict[str, int]): \<all\> of them']
    assert text.startswith('<details class="api" id="power">\n<summary>Reference: <code>power</code></summary>')


def test_a_reference_leaves_out_what_is_not_given():
    import torch
    def weigh(rows,  # which
              net: torch.nn.Module = None,  # a network
              ): "Return nothing."
    assert [line for line in site_pages.render(weigh, '-api').splitlines() if re.match('- |<details', line)] == ['<details class="api" id="weigh-api">', '- **rows**: which', '- **net** (Module, default None): a network']


def test_html_goes_onto_the_page_as_it_is():
    cell = NbCell(0, dict(cell_type='code', source='x', outputs=[dict(output_type='execute_result', data={'text/html': ['<b>1</b>\n', '<i>2</i>'], 'text/plain': '<HTML>'})]))
    site_pages.plain_html(cell)
    assert cell.outputs[0]['data'] == {'text/markdown': '``````{=html}\n<b>1</b>\n<i>2</i>\n``````'}


@pytest.mark.parametrize('printed, aligned', [('a     1\nbb    2\nccc   3', True), ('one sentence that is long\nanother', False)])
def test_printed_columns_keep_their_lines(printed, aligned):
    cell = NbCell(0, dict(cell_type='code', source='x', outputs=[dict(output_type='stream', name='stdout', text=printed)]))
    site_pages.mark_columns(cell)
    assert cell.source.startswith('#| classes: aligned\n') == aligned


def test_a_name_that_is_a_link_already_stays_one():
    cell = NbCell(0, dict(cell_type='markdown', source='The callback [`UNet`](glossary.ipynb#unet) and `UNet`.'))
    site_pages.link_names(cell)
    assert re.fullmatch(r'The callback \[`UNet`\]\(glossary\.ipynb#unet\) and \[`UNet`\]\(https://\S+\)\.', cell.source)


def test_links_within_a_notebook_become_those_of_a_page():
    cell = NbCell(0, dict(cell_type='markdown', source='[1](#What-is-it?) [2](05_x.ipynb#3.-The-Plan) [3](#down=mp&view=eight) [4](https://example.org/#X)'))
    site_pages.mend_anchors(cell)
    assert cell.source == '[1](#what-is-it) [2](05_x.ipynb#the-plan) [3](#down=mp&view=eight) [4](https://example.org/#X)'
    printed = NbCell(0, dict(cell_type='code', source='x', outputs=[dict(output_type='execute_result', data={'text/markdown': ['see [1](#What-', 'is-it?)']})]))
    site_pages.mend_anchors(printed)
    assert printed.outputs[0]['data']['text/markdown'] == 'see [1](#what-is-it)', 'in what a cell prints, too'


def test_the_static_twin_survives(pages):
    twins = [name for name in NAMES if '<input type="radio"' in (text := text_of(pages[name])) and ':checked' in text]
    assert twins, 'tests/test_pages.py tries it in the browser'


@pytest.mark.parametrize('path', NOTEBOOKS, ids=NAMES)
def test_predictions_are_not_given_away(pages, path):
    "Solutions, what they and the cells behind them print, and explanations are folded: in JupyterLab by the cells' metadata, on the page by a <details> around them, and explanations by <details> in both."
    nb, page = nbformat.read(path, as_version=4), pages[path.relative_to(ROOT / 'nbs').with_suffix('').as_posix()]
    assert ':::' not in text_of(nb), 'JupyterLab would show the colons'
    text = '\n'.join(c.source for c in nb.cells if c.cell_type == 'markdown')
    assert text.count('<details>\n<summary>') == text.count('\n\n</details>') == text.count('<details>') == text.count('</details>')
    sources = [c.source for c in page.cells]
    opens, closes = ([i for i, source in enumerate(sources) if re.match(pattern, source)] for pattern in (r'<details class="solution">', r'</details>$'))
    found = tool.solutions(nb)
    assert len(opens) == len(closes) == len(found) and all(first < last for first, last in zip(opens, closes))
    for i, first, last in zip(found, opens, closes):
        folded = tool.outcome(nb, i)
        assert all(nb.cells[j].metadata.get('jupyter') == dict(outputs_hidden=True, source_hidden=True) for j in folded)
        assert last - first - 1 == len(folded) and 'code-fold' not in sources[first + 1] and 'check_' in sources[first + 1]


def is_state(parts) -> bool:
    "Is the fragment no place on a page but a state of the playground, as #down=mp&up=ups&view=loupe?"
    state = dict(pair.split('=') for pair in parts.fragment.split('&')) if re.fullmatch(r'(\w+=[\w-]*&?)+', parts.fragment) else {}
    allowed = dict(down=('mp', 'str_conv'), up=('tr', 'ups'), loss=('bce', 'dice'), view=('loupe', 'readouts', 'skips', 'square', 'eight'))
    return bool(state) and Path(parts.path).stem in ('', 'playground') and all(value in allowed.get(key, ()) for key, value in state.items())


def test_every_link_and_anchor_resolves():
    "In the notebooks as JupyterLab shows them, and in README.md."
    notebooks = {p: nbformat.read(p, as_version=4) for p in NOTEBOOKS}
    broken = []
    for source, folder, text in [(p, p.parent, text_of(nb)) for p, nb in notebooks.items()] + [(ROOT / 'README.md', ROOT, (ROOT / 'README.md').read_text(encoding='utf-8'))]:
        for target in links(without_code(text)):
            parts = urlsplit(target)
            if parts.scheme in ('data', 'mailto', 'attachment'): continue
            if parts.scheme:
                if parts.scheme != 'https' or not re.fullmatch(r'[\w-]+(\.[\w-]+)*\.[a-z]{2,}', parts.netloc) or re.search(r'[\s<>"]', target): broken.append((source, target))
                continue
            path = (folder / unquote(parts.path)).resolve() if parts.path else None
            if path and not path.exists(): broken.append((source, target))
            elif parts.fragment and not is_state(parts) and unquote(parts.fragment) not in lab_anchors(notebooks.get(path or source, nbformat.v4.new_notebook())): broken.append((source, target))
    assert broken == []


def test_every_anchor_resolves_on_the_pages(pages):
    broken = []
    for name in NAMES:
        for target in links(without_code(text_of(pages[name]))):
            parts = urlsplit(target)
            if not parts.fragment or parts.scheme or is_state(parts): continue
            other = os.path.normpath(os.path.join(os.path.dirname(name), parts.path)).removesuffix('.ipynb') if parts.path else name
            if parts.fragment not in anchors(text_of(pages[other])): broken.append((name, target))
    assert broken == []


@pytest.mark.parametrize('path', NOTEBOOKS, ids=NAMES)
def test_every_picture_is_described(path):
    nb = nbformat.read(path, as_version=4)
    for cell in nb.cells:
        if cell.cell_type == 'code' and any(k.startswith('image/') for o in cell.outputs for k in o.get('data', {})):
            described = re.search(r'^#\| fig-alt: *["\']?(.+)', cell.source, re.M)
            assert described and len(described[1]) >= 20, cell.source
    text = without_code(text_of(nb))
    assert [m for m in re.findall(r'!\[([^\]]*)\]\(', text) if len(m) < 10] == []
    assert [tag[:80] for tag in re.findall(r'<img\b[^>]*>', text) if not re.search(r'\balt="[^"]{10,}"', tag)] == []


@pytest.mark.parametrize('path', NOTEBOOKS, ids=NAMES)
def test_every_figure_is_there(path):
    "A cell with a caption, a label or a description of a figure stores one."
    shows = lambda cell: any(kind.startswith(('image/', 'text/html')) or kind == 'text/markdown' and '![' in ''.join(text) for o in cell.outputs for kind, text in o.get('data', {}).items())
    assert [c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == 'code' and re.search(r'^#\| *(fig-(cap|alt)|label: fig-)', c.source, re.M) and not shows(c)] == []


@pytest.mark.parametrize('path', sorted((ROOT / '.github/workflows').glob('*.yml')), ids=lambda p: p.stem)
def test_workflows_are_bounded_and_may_do_little(path):
    flow = yaml.safe_load(path.read_text(encoding='utf-8'))
    assert flow['permissions'] == {'contents': 'read'} and flow['jobs']
    for job in flow['jobs'].values():
        assert 0 < job['timeout-minutes'] <= 60 and set(job.get('permissions', {})) <= {'pages', 'id-token'}
        for step in job['steps']: assert 'uses' not in step or re.fullmatch(r'[\w./-]+@v\d+', step['uses']), step


class Page(HTMLParser):
    "What a built page links to, what can be linked to, and its pictures without a description."

    def __init__(self, text: str):
        super().__init__()
        self.ids, self.targets, self.bare, self.meta = set(), [], [], {}
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        if a.get('id'): self.ids.add(a['id'])
        if tag == 'meta': self.meta[a.get('property') or a.get('name')] = a.get('content')
        self.targets += [a[key] for key in ('href', 'src') if tag in ('a', 'img', 'link', 'script') and a.get(key)]
        if tag == 'img' and a.get('alt') is None: self.bare.append(a.get('src', '')[:80])


def broken_links(docs: Path) -> list:
    "Every link, picture, style and script of the built pages in `docs` that leads to no file, or to an anchor that the page has not; addresses of the site itself are looked up in it."
    docs = docs.resolve()
    built = {p: Page(p.read_text(encoding='utf-8')) for p in docs.rglob('*.html')}
    broken, base = [], SETTINGS['doc_host'] + SETTINGS['doc_baseurl'] + '/'
    for path, page in built.items():
        for target in page.targets:
            parts = urlsplit(target.removeprefix(base) if target.startswith(base) else target)
            if parts.scheme or parts.netloc: continue
            place = docs / unquote(parts.path) if target.startswith(base) else path if not parts.path else docs / parts.path.lstrip('/') if parts.path.startswith('/') else path.parent / unquote(parts.path)
            place = place.resolve() / 'index.html' if place.is_dir() else place.resolve()
            if not place.is_file(): broken.append((path.name, target))
            elif parts.fragment and not is_state(parts) and place in built and unquote(parts.fragment) not in built[place].ids: broken.append((path.name, target))
    return broken


def stains(docs: Path) -> list:
    "What a reader must not meet on the built pages in `docs`: a figure with nothing in it, what a library says to its programmers, a path of somebody's machine."
    found = []
    for path in docs.rglob('*.html'):
        text = re.sub(r'<pre class="sourceCode.*?</pre>', '', path.read_text(encoding='utf-8'), flags=re.S)
        for figure in re.findall(r'<figure\b.*?</figure>', text, re.S):
            if not re.search('<(img|svg|table|video|canvas|pre)', figure): found.append((path.name, 'an empty figure: ' + ' '.join(re.sub('<[^>]*>', '', figure).split())[:80]))
        printed = [part for part in re.findall(r'<div class="cell-output [^"]*">.*?</div>', text, re.S)]
        found += [(path.name, m[0]) for part in printed if (m := re.search(r'cell-output-std(?:err)\b|cell-output-error|findfont|\w*Warning\b|Traceback|(?<![\w.:/-])/(?:home|root|work|tmp|Users)/[^\s<]*', part))]
    return found


DOCS = Path(os.environ.get('UNET_COURSE_SITE') or ROOT / '_docs')


@pytest.mark.skipif(not (DOCS / 'index.html').is_file(), reason='no built site in _docs/ (nbdev_docs with Quarto, or set UNET_COURSE_SITE)')
def test_the_site_that_was_built():
    "Every link and anchor leads somewhere, every figure is there, and nothing is shown that is nobody's business."
    assert broken_links(DOCS) == [] and stains(DOCS) == []
    assert any(target.endswith('playground/live/index.html') or target.endswith('playground/live/') for p in DOCS.rglob('playground.html') for target in Page(p.read_text(encoding='utf-8')).targets), 'nothing leads to the playground by itself'


def test_faults_of_a_built_site_are_found(tmp_path):
    (tmp_path / 'nbs').mkdir()
    (tmp_path / 'index.html').write_text('<a href="nbs/a.html#one">1</a> <a href="nbs/a.html#two">2</a> <a href="nbs/b.html">b</a> <img src="no.png" alt="x">')
    (tmp_path / 'nbs/a.html').write_text(f'''<h2 id="one">One</h2> <a href="../index.html">up</a> <a href="{SETTINGS['doc_host']}{SETTINGS['doc_baseurl']}/nbs/a.html#three">far</a> <a href="https://example.org/x#y">other</a>
<figure><div></div><figcaption>Figure 1: nothing</figcaption></figure> <figure><img src="../index.html" alt="x"></figure>
<pre class="sourceCode python"><code>import warnings; DeprecationWarning; '/tmp/x'</code></pre>
<div class="cell-output cell-output-stdout"><pre><code>findfont: Generic family 'sans-serif' not found</code></pre></div>
<div class="cell-output cell-output-stdout"><pre><code>saved in /tmp/x/y.png</code></pre></div> <div class="cell-output cell-output-display"><p>a work/home of https://example.org/tmp/x</p></div>''')
    assert {target for _, target in broken_links(tmp_path)} == {'nbs/a.html#two', 'nbs/b.html', 'no.png', f"{SETTINGS['doc_host']}{SETTINGS['doc_baseurl']}/nbs/a.html#three"}
    assert [what for _, what in stains(tmp_path)] == ['an empty figure: Figure 1: nothing', 'findfont', '/tmp/x/y.png']


@pytest.mark.slow
def test_the_built_site(tmp_path):
    if not shutil.which('quarto'): pytest.skip('Quarto is not on the PATH')
    copy = copy_for_the_site(tmp_path / 'copy')
    os.utime(copy / 'README.md')  # newer than the index: nbdev does not write it again
    done = subprocess.run([Path(sys.executable).parent / 'nbdev_docs'], cwd=copy, env=dict(os.environ, PYTHONPATH=str(copy)), capture_output=True, text=True, timeout=580)
    assert done.returncode == 0, done.stderr
    docs = copy / '_docs'
    built = {p: Page(p.read_text(encoding='utf-8')) for p in docs.rglob('*.html')}
    assert 'WARN' not in done.stdout + done.stderr, done.stdout + done.stderr
    written = {docs / 'nbs' / p.relative_to(ROOT / 'nbs').with_name(re.sub(r'^\d+_', '', p.stem) + '.html') for p in NOTEBOOKS}
    assert written <= set(built)
    assert 'nbs/index.html' in (docs / 'index.html').read_text(encoding='utf-8') and (docs / 'search.json').is_file()
    assert broken_links(docs) == [] and stains(docs) == []
    for path in written:
        page = built[path]
        assert page.bare == [] and page.meta['og:image'].endswith('/nbs/images/card.png') and page.meta['twitter:card'] == 'summary_large_image' and page.meta['og:description'], path.name
    assert '<table' in (docs / 'nbs/factory.html').read_text(encoding='utf-8')
    assert (docs / 'site_libs/bootstrap/bootstrap-icons.woff').stat().st_size < 20e3, 'only the icons that are shown'
