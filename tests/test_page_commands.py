"""Every command that README and pages show is run, only smaller, or has a reason why not.

TABLE has all of them: what is appended to make a command smaller (of an option given twice the last
counts), or why it cannot be run here. Each page is run in order in a folder of its own that holds
what pages take for granted: captures, avatars, a trained network.
"""

import dataclasses
import enum
import http.server
import os
import re
import shlex
import shutil
import threading
import urllib.request
import webbrowser
from pathlib import Path

import numpy as np
import pytest

from sa0_jax import config
from sa0_jax.cli.main import build_parser, main
from sa0_jax.cli.options import split_overrides
from sa0_jax.generator.checkpoint import save_generator
from tests.structure.sources import read

pytest.importorskip('numba')

from tests.drive.test_drive import _csv as save_recording
from tests.evaluate import scenes
from tests.generator.tiny import generator
from tests.refine.scenes import small_capture, start_avatar
from tests.test_pages import PAGES, commands


class Reason(enum.Enum):
  """Why a command is not run, and the words by which its page says what it needs."""

  MEDIAPIPE = 'MediaPipe'
  OTHERS = "owners'|weights|FLAME"
  COMPILER = 'compiler'
  ELSEWHERE = ''  # tests/data/test_page.py runs them


MEDIAPIPE, OTHERS, COMPILER, ELSEWHERE = Reason
REFINE = '--config.steps=4 --config.uv_size=24 --config.resolution=32'
SCORE = '--resolution 32'
FILM = '--frames 1 --resolution 16 --hair bald --workers 1'
SET = '--subjects 3 --resolution 32 --hair bald --workers 1'
PREPARE = '--hold-out 0.34 --resolution 32'
TABLE = {
  # README.md, docs/own_video.md, docs/viewer.md
  'reconstruct portrait.jpg --out portrait.sa0': MEDIAPIPE,
  'view portrait.sa0': '',
  'track clip.mp4 --out subject': MEDIAPIPE,
  'track clip.mp4 --shot 1 --out other': MEDIAPIPE,
  'refine subject --out subject.sa0 --config.held_out=0.2 --preview subject.mp4': REFINE,
  'render subject.sa0 --drive orbit --out orbit.mp4': '--frames 3 --size 32',
  'view subject.sa0': '',
  'view subject.sa0 --drive subject': '',
  'view subject.sa0 other.sa0 --no-browser': '',
  'export subject.sa0 --format ply --out subject.ply': '',
  'export subject.sa0 --format html --out subject.html --drive subject': '',
  'refine subject --out final.sa0': REFINE,
  'refine subject --out quick.sa0 --config.steps=2000 --config.resolution=256 '
  '--config.uv_size=128': REFINE,
  'reconstruct subject --sources 0,40 --out start.sa0': '--uv-size 64',
  'refine subject --avatar start.sa0 --out from_generator.sa0': REFINE,
  'plot final.report.json from_generator.report.json --out plots': '',
  'clean subject --out clips': '--config.min_face=8 --config.identity_change=1e9',
  'refine clips/clip_00 --out subject.sa0 --config.held_out=0.2': REFINE,
  # docs/cleaning.md
  'track interview.mp4 --out interview --shot 2': MEDIAPIPE,
  'clean interview --out clips --config.min_sharpness=0.5': '--config.min_face=8',
  # docs/data.md
  'prepare sa0_monocular --captures captures --data_dir data --hold-out 0.25 --resolution 32': (
    ELSEWHERE
  ),
  'prepare sa0_multiview --captures studio --data_dir data --hold-out 0.5 --jobs 2': ELSEWHERE,
  'bench data --dataset data/sa0_monocular --image-size 32 --batches 4 --step-batch 48 '
  '--step-seconds 0.5': ELSEWHERE,
  # docs/driving.md
  'drive subject.sa0 --with other --out driven.mp4': '--size 32',
  'drive subject.sa0 --with other.mp4 --out driven.mp4': MEDIAPIPE,
  'drive subject.sa0 --with recording.csv --out driven.mp4': '--size 32',
  'drive subject.sa0 --with codes.npz --out driven.mp4': '--size 32',
  # docs/evaluation.md
  'evaluate --captures captures --generator generator.npz --protocol self --out scores': SCORE,
  'evaluate --captures captures --workdir runs/tiny --protocol cross --out scores_cross': SCORE,
  'evaluate --captures captures --avatar avatars --protocol per-subject --out scores_own': (
    f'{SCORE} --test-frames 2'
  ),
  'evaluate --captures vfhq --split vfhq_test.txt --generator generator.npz --background black '
  '--lpips alex alexnet-owt-7be5be79.pth alex.pth --beside vfhq-self --out vfhq_scores': OTHERS,
  'evaluate --captures captures --workdir runs/tiny --checkpoint best --out scores_best': SCORE,
  'evaluate --captures captures --generator generator.npz --out scores --arcface w600k_r50.onnx '
  '--deep3d deep3d.onnx': OTHERS,
  'evaluate --captures captures --generator generator.npz --out scores --save-frames': SCORE,
  'evaluate --captures captures --generator generator.npz --out scores --save-frames '
  '--coefficients coefficients': SCORE,
  'evaluate --captures captures --generator generator.npz --out scores --track': MEDIAPIPE,
  'ablate --workdir ablations': '',
  'ablate --base tiny --synth synth --run A,B,C,D --seeds 0,1,2 --refine-steps 1000 '
  '--workdir ablations': '--base debug --seeds 0 --refine-steps 4',
  "ablate --base paper --commands 'sbatch launch/slurm/train.sbatch' --workdir ablations": '',
  'plot ablations/table.json --out plots': '',
  # docs/exports.md
  'export subject.sa0 --format spz --out subject.spz': '',
  'export subject.sa0 --drive subject --frame 7 --out frame7.ply': '',
  'export subject.sa0 --drive subject --frames 0:50 --out frames': '',
  'export subject.sa0 --format glb --out subject.glb': '',
  # docs/gallery.md
  'render portrait.sa0 --drive orbit --out orbit.mp4': '--frames 3 --size 32',
  'demo --out demo': ('--seed 1 --frames 5 --resolution 64 --config.steps=4 --config.uv_size=24'),
  'import vhap export --out imported --check': OTHERS,
  # docs/generator.md
  'reconstruct subject --sources 0,40 --checkpoint generator.npz --out subject.sa0': '',
  'inspect --config=tiny --program none': '',
  'bench generator --config=tiny --sources 4': '--config=debug --repeats 2',
  # docs/importing.md
  'head install FLAME2020/generic_model.pkl --uv flame_uv.npz': OTHERS,
  'import gagavatar_track outputs/obama --out obama --check': OTHERS,
  'refine obama --out obama.sa0': REFINE,
  # docs/studio.md; a set is described once, so both commands on it are made smaller
  'studio --subjects 300 --out captures': f'--subjects 1 {FILM}',
  'studio --subjects 20 --kind multiview --cameras 16 --out views': f'--subjects 1 {FILM}',
  'studio --subjects 2000 --out large --describe': FILM,
  'studio --subjects 2000 --out large --only 0:300': f'--only 0:1 {FILM}',
  'studio --like large/studio.json --only 300:600 --out elsewhere': '--only 300:301 --workers 1',
  # docs/training.md
  'studio --subjects 200 --kind monocular --frames 12 --out clips': f'--frames 5 {SET}',
  'studio --subjects 64 --kind multiview --frames 4 --out stages --seed 5000': (
    f'--frames 1 --cameras 6 {SET}'
  ),
  'prepare sa0_monocular --captures clips --data_dir data --hold-out 0.06 --resolution 128': (
    PREPARE
  ),
  'prepare sa0_multiview --captures stages --data_dir data --hold-out 0.125 --resolution 128': (
    PREPARE
  ),
  'train --config=tiny --workdir=runs/tiny --config.phase1.data.datasets=data/sa0_monocular '
  '--config.phase2.data.datasets=data/sa0_multiview': '--config=debug',
  'evaluate --captures clips --split clips/val.txt --workdir runs/tiny --protocol self '
  '--out scores': SCORE,
  'plot runs/tiny --out plots': '',
  'train --config=paper_phase1 --workdir=runs/phase1 --config.phase1.accumulate=4 '
  '--config.phase1.data.datasets=data/sa0_monocular --config.weights.encoder=dinov3/ '
  '--config.phase1.objective.weights.lpips=0': OTHERS,
  'inspect --config=paper --for=l4 --program phase1 --config.phase1.accumulate=48 '
  '--config.generator.unet.remat=true': COMPILER,
  'bench train --config=debug --steps 2': '',
  'inspect --config=paper --for=h200:8': COMPILER,
  'train --config=tiny --workdir=runs/traced --config.phase1.data.datasets=data/sa0_monocular '
  '--config.phase1.steps=104 --config.phase2.steps=0 --profile 100:3': (
    '--config=debug --config.phase1.steps=4 --profile 1:2'
  ),
}
# What a page films or trains itself is not there before.
MADE = {'gallery': ('captures',), 'studio': ('captures',), 'training': ('runs',)}


def lines(page: str) -> list[str]:
  return [shlex.join(words) for words in commands(page)]


def test_every_command_is_in_the_table_and_no_other():
  assert {line for page in PAGES for line in lines(page)} == TABLE.keys()


@pytest.mark.parametrize('page', PAGES)
def test_pages_say_what_others_must_bring(page):
  for reason in {TABLE[line] for line in lines(page)} & set(Reason):
    assert re.search(reason.value, read(page))


@pytest.fixture(scope='session')
def base(tmp_path_factory):
  """What pages take for granted."""
  folder = tmp_path_factory.mktemp('pages') / 'base'
  folder.mkdir()
  scenes.fill(folder)
  capture = small_capture(50, 48)
  names = {'subject': 'clip', 'other': 'clip', 'interview': 'interview', 'obama': 'obama'}
  for place, name in names.items():
    dataclasses.replace(capture, name=name).save(folder / place)
  for seed, name in enumerate(('subject', 'other', 'portrait')):
    start_avatar(seed).save(folder / f'{name}.sa0')
  scenes.save_run(folder / 'runs' / 'tiny', {10: 21.0, 20: 20.5})
  save_generator(folder / 'runs' / 'tiny' / 'generator.npz', generator())
  save_recording(folder / 'recording.csv', 3, JawOpen=[0, 1, 0])
  np.savez(folder / 'codes.npz', motion=np.zeros((2, 106), np.float32))
  rows = 'frame,pose_0,pose_1,pose_2\n' + ''.join(f'{i},0,0,{i}\n' for i in range(5))
  for kind in ('rendered', 'reference'):
    (folder / 'coefficients' / kind).mkdir(parents=True)
    for name in scenes.NAMES:
      (folder / 'coefficients' / kind / f'{name}.csv').write_text(rows)
  return folder


@pytest.fixture
def sandbox(base, tmp_path, monkeypatch):
  """A copy of it to run commands in, whose viewer is looked at once."""
  folder = tmp_path / 'sandbox'
  shutil.copytree(base, folder)
  monkeypatch.chdir(folder)
  monkeypatch.setenv('SA0_CACHE', str(tmp_path / 'cache'))
  for name in ('JAX_COMPILATION_CACHE_DIR', 'NUMBA_CACHE_DIR'):
    monkeypatch.setenv(name, os.environ.get(name, str(tmp_path / name)))

  def look(server):
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    with urllib.request.urlopen(server.url, timeout=20) as answer:
      assert answer.status == 200
    thread.join()
    raise KeyboardInterrupt

  monkeypatch.setattr(http.server.HTTPServer, 'serve_forever', look)
  monkeypatch.setattr(webbrowser, 'open', lambda url: True)
  synth, load = config.load_config('synth'), config.load_config
  for kind, frames in (('monocular', 6), ('multiview', 1)):
    synth[kind].update(subjects=3, resolution=64, hold_out=0.34, frames=frames)
  monkeypatch.setattr(config, 'load_config', lambda n: synth if n == 'synth' else load(n))
  return folder


def stamp(path: Path) -> int:
  """When a file, or anything in a folder, was last written; 0 if it is not there."""
  paths = [path, *path.rglob('*')] if path.exists() else []
  return max((p.stat().st_mtime_ns for p in paths), default=0)


@pytest.mark.slow
@pytest.mark.filterwarnings('ignore::DeprecationWarning')
@pytest.mark.parametrize(
  'page', [p for p in PAGES if any(isinstance(TABLE.get(line), str) for line in lines(p))]
)
def test_commands_of_the_page_run(page, sandbox):
  for made in MADE.get(Path(page).stem, ()):
    shutil.rmtree(sandbox / made)
  for line in lines(page):
    if isinstance(TABLE[line], Reason):
      continue
    words = shlex.split(f'{line} {TABLE[line]}')
    arguments = build_parser().parse_args(split_overrides(words)[0])
    out = getattr(arguments, 'out', None)
    if arguments.command == 'train':
      out = arguments.workdir
    before = stamp(sandbox / out) if out else -1
    assert main(words) == 0, line
    assert not out or stamp(sandbox / out) > before, line
