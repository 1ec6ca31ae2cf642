"""`sa0 head`: install FLAME models and list the heads there are."""

import argparse
import json
import pathlib


def add_parser(subparsers: argparse._SubParsersAction) -> None:
  """Registers the command."""
  parser = subparsers.add_parser(
    'head',
    help='install a FLAME model, list heads',
    description='Head models: the built-in procedural head, and FLAME models you have.',
  )
  actions = parser.add_subparsers(dest='head_action', required=True, metavar='ACTION')
  install = actions.add_parser(
    'install',
    help='convert a FLAME model to the safe format and keep it',
    description='Converts a FLAME model to a safe file, without executing anything in it.',
    epilog='example: sa0 head install FLAME2020/generic_model.pkl --uv flame_uv.npz '
    '--landmarks mediapipe_landmark_embedding.npz --landmarks landmark_embedding.npy',
  )
  install.add_argument('path', metavar='PATH', type=pathlib.Path, help='FLAME .pkl or head .npz')
  install.add_argument(
    '--uv', metavar='PATH', type=pathlib.Path, help='flame_uv.npz or a head template .obj'
  )
  install.add_argument(
    '--landmarks',
    metavar='PATH',
    type=pathlib.Path,
    action='append',
    default=[],
    help='mediapipe_landmark_embedding.npz, flame_static_embedding.pkl or landmark_embedding.npy; '
    'may be given again',
  )
  install.add_argument(
    '--name', help='flame2020, flame2023, flame2023_open or your own word (default: from the path)'
  )
  listing = actions.add_parser(
    'list', help='the heads there are', epilog='example: sa0 head list --json'
  )
  for action in (install, listing):
    action.add_argument('--json', action='store_true', help='print JSON')
  parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
  """Runs `sa0 head`; errors are raised as ValueError or OSError."""
  from sa0_jax.head import registry

  if args.head_action == 'list':
    heads = registry.list_heads()
    if args.json:
      print(json.dumps([head.to_json() for head in heads], indent=2))
    else:
      print('\n'.join(head.summary() for head in heads))
    return 0
  head = registry.install_head(
    args.path, name=args.name, uv=args.uv, landmarks=tuple(args.landmarks)
  )
  if args.json:
    print(json.dumps(head.to_json(), indent=2))
    return 0
  print(f'installed {head.summary()}')
  if not head.has_uv:
    print('without UV it can be posed but carries no avatar: give --uv flame_uv.npz')
  if not head.landmarks:
    print('without landmarks it cannot be tracked: give --landmarks')
  return 0
