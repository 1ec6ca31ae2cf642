"""Pictures of curves; the one place that knows matplotlib, which is an extra."""

import io
from collections.abc import Sequence
from typing import Any

from sa0_jax.evaluate.recorded import Panel

FORMATS = ('svg', 'png', 'pdf')
_STYLE = {
  'svg.hashsalt': 'sa0',  # names inside the file would be drawn by lot
  'font.size': 9,
  'axes.spines.top': False,
  'axes.spines.right': False,
  'axes.grid': True,
  'grid.alpha': 0.3,
  'legend.frameon': False,
  'legend.fontsize': 8,
}
# Of Okabe and Ito: told apart by the colour-blind, too.
_COLORS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#56B4E9', '#E69F00', '#000000')
_WIDTH, _HEIGHT = 4.4, 3.0  # of a panel, inches
_FEW = 5  # points on an axis that each get their own tick


def draw(panels: Sequence[Panel], suffix: str) -> bytes:
  """Draws panels side by side.

  The same panels give the same bytes with the same version of matplotlib.

  Args:
    panels: those without a curve are left out.
    suffix: one of `FORMATS`.

  Raises:
    ImportError: matplotlib is not installed.
  """
  try:
    import matplotlib
    from matplotlib.figure import Figure
  except ImportError as error:
    raise ImportError(
      "plots need matplotlib, which is not installed: pip install 'sa0-jax[plots]'"
    ) from error
  shown = [panel for panel in panels if panel.curves]
  with matplotlib.rc_context(_STYLE):
    figure = Figure((_WIDTH * len(shown), _HEIGHT), layout='constrained')
    for axes, panel in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
      _fill(axes, panel)
    made = io.BytesIO()
    dated = {'svg': {'Date': None, 'Creator': None}, 'pdf': {'CreationDate': None}}
    figure.savefig(made, format=suffix, dpi=150, metadata=dated.get(suffix))
  return made.getvalue()


def _fill(axes: Any, panel: Panel) -> None:
  from matplotlib import ticker

  marker = 'o' if panel.points else ''
  for number, curve in enumerate(panel.curves):
    color = _COLORS[number % len(_COLORS)]
    axes.plot(curve.x, curve.y, marker=marker, ms=3.5, lw=1.4, color=color, label=curve.label)
  for place, text in panel.marks:
    axes.axvline(place, color='0.5', lw=1, ls=':')
    top = axes.get_xaxis_transform()
    axes.annotate(text, (place, 0.02), xycoords=top, xytext=(3, 0), textcoords='offset points')
  axes.set_xlabel(panel.x_label)
  axes.set_ylabel(panel.y_label)
  if panel.logarithmic:
    axes.set_xscale('log')
    axes.set_yscale('log')
    for axis in (axes.xaxis, axes.yaxis):
      axis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
      axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f'{value:,g}'))
      axis.set_minor_locator(ticker.NullLocator())
  places = sorted({x for curve in panel.curves for x in curve.x})
  if panel.points and len(places) <= _FEW:
    axes.set_xticks(places, [f'{x:,.0f}' for x in places])
  axes.legend()
