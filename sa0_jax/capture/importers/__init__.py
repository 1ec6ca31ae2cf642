"""Other people's tracked data, turned into captures.

    from sa0_jax.capture.importers import import_capture, import_captures

    imported = import_capture('vhap', 'export/074_EMO-1', load_head('flame2023'))
    imported.capture.save('subject')

One module a format; each turns its conventions into ours at its edge and says in `Imported.notes`
what it left out. Files are read as data: nothing in them is executed.
"""

from sa0_jax.capture.importers.imported import Found, Imported, ImportOptions
from sa0_jax.capture.importers.importing import (
  FORMATS,
  chosen,
  find_captures,
  head_for,
  import_capture,
  import_captures,
  load_found,
  save_imported,
)

__all__ = [
  'FORMATS',
  'Found',
  'ImportOptions',
  'Imported',
  'chosen',
  'find_captures',
  'head_for',
  'import_capture',
  'import_captures',
  'load_found',
  'save_imported',
]
