"""How nbdev turns a notebook into a page of the site. settings.ini names these processors in `procs`.

They stand in for four of nbdev's own (`skip_procs`), which do not suit a course:
its front matter takes the whole opening cell with the title, it leaves the exported code out of the page,
it runs every cell that imports something, a training run among them, and it takes every word in backticks
that is also a function's name for that function. Here nothing of a notebook is run.
"""
import ast
import importlib
import inspect
import os
import re
import sys
from pathlib import Path
from urllib.parse import quote

import yaml
from execnb.nbio import mk_cell
from fastcore.docments import docments
from nbdev.config import get_config
from nbdev.doclinks import NbdevLookup, _nbpath2html
from nbdev.process import Processor
from nbdev.showdoc import BasicMarkdownRenderer

from tools.notebooks import outcome, solutions


# Words in backticks that name a mode, a loss or a command, and a function too: they link to the function only with its brackets, `dice()`.
WORDS = {'bce', 'dice', 'predict', 'run', 'table', 'look', 'download', 'cache', 'export', 'doctor', 'notebooks'}
# Front matter of single pages. The playground is a page full of controls: a table of contents would cover some. The glossary's lists its terms.
FRONT = {'playground': {'toc': False, 'page-layout': 'full'}, 'glossary': {'toc-depth': 4}}

# Where else a page can be opened, beside Colab and Binder.
ELSEWHERE = {'playground': {'Open the playground alone': 'playground/live/index.html'}}


class FrontMatter(Processor):
    "Moves the title and the promise below it (`# ...`, `> ...`) into the page's front matter; the rest of the cell stays, below links that open the notebook elsewhere."

    def begin(self):
        cell = next(c for c in self.nb.cells if c.cell_type == 'markdown' and c.source.startswith('# '))
        title, promise, rest = re.fullmatch(r'# +(.*?)\s*(?:\n+> +(.*?))?\s*(?:\n\n(.*))?', cell.source, re.S).groups()
        cell.source = rest or None  # None: nothing left of it
        cfg, path = get_config(), Path(self.nb.path_).resolve()
        where = path.relative_to(cfg.config_path.resolve()).as_posix()
        card = os.path.relpath(cfg.config_path.resolve() / 'nbs/images/card.png', path.parent)  # else Quarto takes the page's first picture for its previews
        front = {'title': title, 'description': promise, 'output-file': _nbpath2html(path).name, 'image': Path(card).as_posix(), **FRONT.get(path.stem, {})}
        front = yaml.safe_dump({k: v for k, v in front.items() if v is not None}, sort_keys=False, allow_unicode=True)
        colab = f'https://colab.research.google.com/github/{cfg.user}/{cfg.repo}/blob/{cfg.branch}/{where}'
        binder = f'https://mybinder.org/v2/gh/{cfg.user}/{cfg.repo}/{cfg.branch}?labpath={quote(where, safe="")}'
        places = {'Open in Colab': colab, 'Open in Binder': binder, **ELSEWHERE.get(path.stem, {})}
        badges = '\n'.join(['::: {.badges}', *(f'[{text}]({place})' for text, place in places.items()), ':::'])
        self.nb.cells[:0] = [mk_cell(f'---\n{front}---\n', 'raw'), mk_cell(badges, 'markdown')]


class ShowDocs(Processor):
    "Fills the `show_doc` cells, which nbdev has put below each export, from the exported module."

    def begin(self):
        module = next((c.directives_['default_exp'][0] for c in self.nb.cells if 'default_exp' in (c.get('directives_') or {})), None)
        root = str(get_config().config_path)
        if module and root not in sys.path: sys.path.insert(0, root)
        self.module = module and importlib.import_module(f'{get_config().lib_path.name}.{module}')

        text = outside_code('\n'.join(c.source for c in self.nb.cells if c.cell_type == 'markdown'), lambda text: text)
        self.taken = {anchor_of(heading) for heading in re.findall(r'^#{1,6} +(.+?)\s*$', text, re.M)}  # the heading of that name comes first

    def cell(self, cell):
        if cell.cell_type != 'code' or not (shown := re.search(r'^show_doc\((\w+)\)$', cell.source, re.M)): return
        text = render(getattr(self.module, shown[1]), '-api' if shown[1].lower() in self.taken else '')
        cell.outputs = [dict(output_type='display_data', metadata={}, data={'text/markdown': text})]


def render(symbol, suffix: str = '') -> str:
    """Markdown for `symbol`: its docstring, its parameters in a list, a link to the source, all folded: the definition stands above it.

    The box carries the anchor that nbdev links to, with `suffix` behind it; a browser opens a folded box when a link leads into it.
    """
    shown = BasicMarkdownRenderer(symbol)
    source = (NbdevLookup().code(shown.fn) or '').split('#')[0]  # empty unless the package is installed
    link = f'[source]({source}#L{inspect.getsourcelines(symbol)[1]}){{.api-source}}' if source else ''
    head = f'<details class="api" id="{symbol.__name__.lower()}{suffix}">\n<summary>Reference: <code>{symbol.__name__}</code></summary>'
    return '\n\n'.join(filter(None, [head, as_written(shown.docs or ''), parameters(symbol) or f'```python\n{shown.dm}\n```', link, '</details>']))


def parameters(symbol) -> str:
    "A Markdown list of the parameters of `symbol` and what it returns, with types and defaults where there are any; empty if no parameter has a comment."
    empty = inspect.Parameter.empty
    rows = {name: row for name, row in docments(symbol, full=True, eval_str=True).items() if name != 'self' and not (name == 'return' and inspect.isclass(symbol))}
    if not any(row['docment'] for row in rows.values()): return ''
    lines = []
    for name, row in rows.items():
        notes = [] if row['anno'] in (None, type(None), empty) else [short(row['anno'])]
        if row.get('default', empty) is not empty: notes.append('default ' + as_written(' '.join((getattr(row['default'], '__name__', None) or repr(row['default'])).split())))
        details = as_written(' '.join((row['docment'] or '').split()))
        title = '**Returns**' if name == 'return' else f'**{as_written(name)}**'
        if name != 'return' or notes or details: lines.append(f'- {title}' + (f' ({", ".join(notes)})' if notes else '') + (f': {details}' if details else ''))
    return '\n'.join(lines)


def short(annotation) -> str:
    "A type without the modules that lead to it: `Module`, not `torch.nn.modules.module.Module`."
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    return as_written(re.sub(r'\b(?:\w+\.)+(?=\w)', '', text))


def as_written(text: str) -> str:
    "Text whose stars, underscores, bars, dollars and angle brackets Pandoc leaves alone, as in `2**depth` without the backticks; what is in backticks stays code."
    return re.sub(r'(`+)(?:.*?)\1|([*_|$<>~^])', lambda m: '\\' + m[2] if m[2] else m[0], text, flags=re.S)


def drop_unseen(cell):
    "Removes cells that only name the module or are hidden. Exported code stays on the page: it is the course."
    if {'default_exp', 'hide'} & set(cell.get('directives_') or {}): del cell['source']


class Code(Processor):
    """Says of exported code which file it goes into, and folds what a reader may pass over.

    Imports are folded, neighbours in one box. Exported and long code stands open in a box that can be folded; on a phone site/page.html folds it.
    """

    def begin(self):
        name = next((c.directives_['default_exp'][0] for c in self.nb.cells if 'default_exp' in (c.get('directives_') or {})), '')
        file = f'{get_config().lib_path.name}/{name.replace(".", "/")}.py'
        before = None  # the box of imports that stands right above
        for cell in self.nb.cells:
            directives = cell.get('directives_') or {}
            if {'default_exp', 'hide'} & set(directives) or not cell.source: continue
            if cell.cell_type != 'code' or HIDDEN.search(cell.source):
                if cell.cell_type != 'code': before = None
                continue
            options, code = re.fullmatch(r'((?:#\|[^\n]*\n)*)(.*)', cell.source, re.S).groups()
            exported = bool({'export', 'exports', 'exporti'} & set(directives))
            kept = re.sub(r'^#\| code-(fold|summary):.*\n', '', options, flags=re.M)
            if is_set_up(code):
                if before is not None and not cell.get('outputs'):
                    before.source += f'\n\n{code}'
                    cell.source = None
                    continue
                cell.source = f'{kept}#| code-fold: true\n#| code-summary: "Imports"\n{code}'
                before = cell if not cell.get('outputs') else None
                continue
            before = None
            if 'code-summary: "Solution"' in options or code.startswith(('# Exercise', 'show_doc(')) or not exported and ('code-fold' in options or code.count('\n') < LONG): continue
            summary = ': '.join(filter(None, [file, ', '.join(defined(code))])) if exported else 'Code'
            fold = 'true' if 'code-fold: true' in options else 'show'
            cell.source = with_class(f'{kept}#| code-fold: {fold}\n#| code-summary: {yaml_text(summary)}\n{code}', 'exported' if exported else 'long')


HIDDEN = re.compile(r'^#\| *(include: false|echo: false)', re.M)
LONG = 10  # lines: longer code is folded on a phone


def is_set_up(code: str) -> bool:
    "True of imports, and of imports with a few lines of set-up behind them."
    try: body = ast.parse(re.sub(r'^%.*$', '', code, flags=re.M)).body
    except SyntaxError: return False
    imports = sum(isinstance(node, (ast.Import, ast.ImportFrom)) for node in body)
    return imports > 0 and (imports == len(body) or isinstance(body[0], (ast.Import, ast.ImportFrom)) and imports >= 4)


def defined(code: str) -> list[str]:
    "What a cell defines: functions, classes and names, the first few of them."
    body = ast.parse(re.sub(r'^%.*$', '', code, flags=re.M)).body
    found = [node.name for node in body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
    found = found or [target.id for node in body if isinstance(node, ast.Assign) for name in node.targets for target in (name.elts if isinstance(name, ast.Tuple) else [name]) if isinstance(target, ast.Name)]
    return list(dict.fromkeys(found[:3] + ['...'] * (len(found) > 3)))


def with_class(source: str, name: str) -> str:
    "A cell's source with `name` among its classes."
    if (given := re.match(r'#\| classes: *(.*)\n', source)): return f'#| classes: {given[1]} {name}\n{source[given.end():]}'
    return f'#| classes: {name}\n{source}'


def yaml_text(text: str) -> str: return "'" + text.replace("'", "''") + "'"


class FoldOutcomes(Processor):
    "Folds each solution away together with what it and the cells behind it print: a prediction comes first. (In JupyterLab `tools/notebooks.py` folds them.)"

    def begin(self):
        for i in reversed(solutions(self.nb)):
            stop, solution = outcome(self.nb, i).stop, self.nb.cells[i]
            solution.source = re.sub(r'^#\| code-(fold|summary):.*\n', '', solution.source, flags=re.M)  # one fold is enough
            self.nb.cells.insert(stop, mk_cell('</details>', 'markdown'))
            self.nb.cells.insert(i, mk_cell('<details class="solution">\n<summary>Solution, and what it prints</summary>', 'markdown'))


def describe_pictures(cell):
    "Writes a picture's description, `![text](place)`, where Quarto keeps it for those who do not see the picture; as it stands Quarto would make it a caption."
    if cell.cell_type != 'markdown' or not cell.source: return
    quoted = lambda text: text.replace('`', '').replace('"', '&quot;')
    cell.source = outside_code(cell.source, lambda text: re.sub(r'!\[([^\]]+)\]\(([^)\s]+)\)(?!\{)', lambda m: f'![]({m[2]}){{fig-alt="{quoted(m[1])}"}}', text))


class Lookup(NbdevLookup):
    "nbdev's links from words in backticks to their definitions, but not from `WORDS`; a method has no heading, and leads to its class."

    def _link_sym(self, m):
        if m[1] in WORDS and not m[0].endswith('()`'): return m[0]
        return re.sub(r'(#\w+)\.\w+\)$', r'\1)', super()._link_sym(m))


def link_names(cell):
    "Makes links of the names in backticks that the package defines, where they are not links already."
    if cell.cell_type != 'markdown' or not cell.source: return
    linked = []
    keep = lambda m: linked.append(m[0]) or f'\0{len(linked) - 1}\0'
    text = Lookup().linkify(re.sub(r'\[[^\[\]]*\]\([^)\s]*\)', keep, cell.source))
    cell.source = re.sub(r'\0(\d+)\0', lambda m: linked[int(m[1])], text)


def outside_code(text: str, change) -> str:
    "Markdown with `change` made to all that is not code."
    parts = re.split(r'(^```.*?^```|`[^`\n]+`)', text, flags=re.S | re.M)
    return ''.join(part if i % 2 else change(part) for i, part in enumerate(parts))


def plain_html(cell):
    "HTML outputs go onto the page as they are. Quarto would take any of them for a widget and fetch two scripts from elsewhere."
    for output in cell.get('outputs', []):
        if 'text/html' in (data := output.get('data', {})): output['data'] = {'text/markdown': f'``````{{=html}}\n{"".join(data["text/html"])}\n``````'}


def mark_columns(cell):
    "Marks a cell that prints aligned columns: they scroll where they are too wide, all other output wraps."
    printed = ''.join(''.join(o.get('text', '')) or ''.join(o.get('data', {}).get('text/plain', '')) for o in cell.get('outputs', []))
    if sum(bool(re.search(r'\S {2,}\S', line)) for line in printed.splitlines()) >= 3: cell.source = with_class(cell.source, 'aligned')


def mend_anchors(cell):
    "Makes links within a notebook, which JupyterLab resolves (`#What-is-it?`), into those of a page, where Pandoc names the headings (`#what-is-it`)."
    mend = lambda text: re.sub(r'(\]\((?:[\w./-]+\.ipynb)?#)([^)\s=]+)\)', lambda m: f'{m[1]}{anchor_of(m[2])})', text)
    if cell.cell_type == 'markdown': cell.source = mend(cell.source)
    for output in cell.get('outputs', []):
        if 'text/markdown' in (data := output.get('data', {})): data['text/markdown'] = mend(''.join(data['text/markdown']))


def anchor_of(heading: str) -> str:
    "The name that Pandoc gives a heading."
    return re.sub(r'^[^a-z]+', '', re.sub(r'[^\w.-]', '', heading.replace(' ', '-')).lower())
