"""Frozen dataclasses as JAX pytrees."""

import dataclasses
from typing import Any, TypeVar

import jax

_T = TypeVar('_T')


def register(cls: type[_T]) -> type[_T]:
  """Registers a frozen dataclass as a pytree; use as a decorator above `@dataclass(frozen=True)`.

  Fields with `metadata={'static': True}` are part of the tree's structure, the others are children.
  Unlike `jax.tree_util.register_dataclass`, rebuilding does not run `__init__`: JAX rebuilds trees
  of shapes, axes, `None` and other placeholders, which no validation and no annotation fits.
  """
  names = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
  static = {f.name for f in dataclasses.fields(cls) if f.metadata.get('static')}  # type: ignore[arg-type]
  data_fields = [name for name in names if name not in static]
  meta_fields = [name for name in names if name in static]

  def flatten_with_keys(value: Any) -> tuple[list[tuple[Any, Any]], tuple[Any, ...]]:
    children = [(jax.tree_util.GetAttrKey(name), getattr(value, name)) for name in data_fields]
    return children, tuple(getattr(value, name) for name in meta_fields)

  def flatten(value: Any) -> tuple[list[Any], tuple[Any, ...]]:
    children = [getattr(value, name) for name in data_fields]
    return children, tuple(getattr(value, name) for name in meta_fields)

  def unflatten(meta: tuple[Any, ...], children: Any) -> Any:
    value = object.__new__(cls)
    for name, child in zip(data_fields, children, strict=True):
      object.__setattr__(value, name, child)
    for name, constant in zip(meta_fields, meta, strict=True):
      object.__setattr__(value, name, constant)
    return value

  jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, unflatten, flatten)
  return cls
