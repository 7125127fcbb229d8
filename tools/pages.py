"""How nbdev turns a notebook into a page of the site. settings.ini names these processors in `procs`.

They stand in for four of nbdev's own (`skip_procs`), which do not suit a course:
its front matter takes the whole opening cell with the title, it leaves the exported code out of the page,
it runs every cell that imports something, a training run among them, and it takes every word in backticks
that is also a function's name for that function. Here nothing of a notebook is run.
"""
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
# Front matter of single pages. The playground is a page full of controls: a table of contents would cover some.
FRONT = {'playground': {'toc': False, 'page-layout': 'full'}}


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
        badges = f'::: {{.badges}}\n[Open in Colab]({colab})\n[Open in Binder]({binder})\n:::'
        self.nb.cells[:0] = [mk_cell(f'---\n{front}---\n', 'raw'), mk_cell(badges, 'markdown')]


class ShowDocs(Processor):
    "Fills the `show_doc` cells, which nbdev has put below each export, from the exported module."

    def begin(self):
        module = next((c.directives_['default_exp'][0] for c in self.nb.cells if 'default_exp' in (c.get('directives_') or {})), None)
        root = str(get_config().config_path)
        if module and root not in sys.path: sys.path.insert(0, root)
        self.module = module and importlib.import_module(f'{get_config().lib_path.name}.{module}')

    def cell(self, cell):
        if cell.cell_type != 'code' or not (shown := re.search(r'^show_doc\((\w+)\)$', cell.source, re.M)): return
        text = render(getattr(self.module, shown[1]))
        cell.outputs = [dict(output_type='display_data', metadata={}, data={'text/markdown': text})]


def render(symbol) -> str:
    "Markdown for `symbol`: a heading, a link to the source, the docstring, and its parameters in a table."
    shown = BasicMarkdownRenderer(symbol)
    source = (NbdevLookup().code(shown.fn) or '').split('#')[0]  # empty unless the package is installed
    link = f'[source]({source}#L{inspect.getsourcelines(symbol)[1]}){{style="float:right; font-size:smaller"}}' if source else ''
    return '\n\n'.join(filter(None, [f'### {shown.nm} {{.api}}', link, as_written(shown.docs or ''), parameters(symbol) or f'```python\n{shown.dm}\n```']))


def parameters(symbol) -> str:
    "A Markdown table of the parameters of `symbol` and what it returns, without the columns that nothing stands in; empty if no parameter has a comment."
    columns = {'anno': 'Type', 'default': 'Default', 'docment': 'Details'}
    rows = {name: row for name, row in docments(symbol, full=True, eval_str=True).items() if name != 'self' and not (name == 'return' and inspect.isclass(symbol))}
    given = lambda row, column: row.get(column, inspect.Parameter.empty) is not inspect.Parameter.empty and (column != 'docment' or row[column])
    columns = {c: title for c, title in columns.items() if any(given(row, c) for row in rows.values())}
    if not any(given(row, 'docment') for row in rows.values()): return ''
    if not any(given(row, c) for row in [rows.get('return', {})] for c in columns): rows.pop('return', None)
    text = {'anno': lambda o: re.sub(r'\btyping\.|\bcollections\.abc\.', '', inspect.formatannotation(o).strip("'")), 'default': lambda o: getattr(o, '__name__', None) or repr(o), 'docment': str}
    cell = lambda row, c: as_written(' '.join(text[c](row[c]).split())) if given(row, c) else ''
    line = lambda cells: f'| {" | ".join(cells)} |'
    name = lambda n: '**Returns**' if n == 'return' else as_written(n)
    return '\n'.join([line(['Name', *columns.values()]), line(['---'] * (1 + len(columns)))] + [line([name(n), *(cell(row, c) for c in columns)]) for n, row in rows.items()])


def as_written(text: str) -> str:
    "Text whose stars, underscores, bars, dollars and angle brackets Pandoc leaves alone, as in `2**depth` without the backticks; what is in backticks stays code."
    return re.sub(r'(`+)(?:.*?)\1|([*_|$<>~^])', lambda m: '\\' + m[2] if m[2] else m[0], text, flags=re.S)


def drop_unseen(cell):
    "Removes cells that only name the module or are hidden. Exported code stays on the page: it is the course."
    if {'default_exp', 'hide'} & set(cell.get('directives_') or {}): del cell['source']


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
    "Makes links of the names in backticks that the package defines."
    if cell.cell_type == 'markdown' and cell.source: cell.source = Lookup().linkify(cell.source)


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
    if sum(bool(re.search(r'\S {2,}\S', line)) for line in printed.splitlines()) >= 3: cell.source = f'#| classes: aligned\n{cell.source}'


def mend_anchors(cell):
    "Makes links within a notebook, which JupyterLab resolves (`#What-is-it?`), into those of a page, where Pandoc names the headings (`#what-is-it`)."
    name = lambda anchor: re.sub(r'^[^a-z]+', '', re.sub(r'[^\w.-]', '', anchor).lower())
    if cell.cell_type == 'markdown': cell.source = re.sub(r'(\]\((?:[\w./-]+\.ipynb)?#)([^)\s]+)\)', lambda m: f'{m[1]}{name(m[2])})', cell.source)
