-- What Pandoc is to write differently: wide tables scroll in their place, numbers and names keep together, long formulas
-- break where they have a gap, and pictures load when they come into sight.
local first = true

-- A number, with its sign, unit and interval: short, and it begins with a digit.
local function is_number(text)
  text = text:gsub('−', '-'):gsub('[±≈]', '')
  return utf8.len(text) and utf8.len(text) <= 22 and text:match('^[-+<>~(]?%s*%.?%d') ~= nil
end

-- A long name in code may break behind a dot, a slash, a comma or an underscore, and nowhere else.
local function breakable(code)
  if #code.text < 13 then return nil end
  local text = code.text:gsub('&', '&amp;'):gsub('<', '&lt;'):gsub('>', '&gt;'):gsub('([_./,])', '%1<wbr>')
  return pandoc.RawInline('html', '<code>' .. text .. '</code>')
end

function Table(table)
  table.classes:insert('responsive')
  for i, column in ipairs(table.colspecs) do table.colspecs[i] = {column[1], nil} end  -- as wide as what is in it
  for _, body in ipairs(table.bodies) do
    for _, row in ipairs(body.body) do
      for _, cell in ipairs(row.cells) do
        if is_number(pandoc.utils.stringify(cell.contents)) then cell.attr.classes:insert('number') end
      end
    end
  end
  return table:walk({Code = breakable})
end

-- `a \qquad b` and `a \quad\Rightarrow\quad b` become formulas beside each other, or below each other where the page is narrow.
function Math(math)
  if math.mathtype ~= 'DisplayMath' then return nil end
  local text = math.text:gsub('\\quad%s*\\Rightarrow%s*\\quad', '\\qquad\\Rightarrow\\ ')
  if not text:find('\\qquad', 1, true) or text:find('\\begin', 1, true) then return nil end
  local parts = pandoc.List()
  for part in (text .. '\\qquad'):gmatch('(.-)\\qquad') do
    local _, opened = part:gsub('{', '')
    local _, closed = part:gsub('}', '')
    if opened ~= closed then return nil end  -- the gap is inside of something
    parts:insert(pandoc.Math('DisplayMath', part))
  end
  return pandoc.Span(parts, {class = 'formulas'})
end

function Image(image)
  if not first then image.attributes['loading'] = 'lazy' end
  first = false
  return image
end
