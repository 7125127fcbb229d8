-- What Pandoc is to write differently: wide tables scroll in their place, and pictures load when they come into sight.
local first = true

function Table(table)
  table.classes:insert('responsive')
  for i, column in ipairs(table.colspecs) do table.colspecs[i] = {column[1], nil} end  -- as wide as what is in it
  return table
end

function Image(image)
  if not first then image.attributes['loading'] = 'lazy' end
  first = false
  return image
end
