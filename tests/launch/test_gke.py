"""Jobs of GKE, with a stand-in for kubectl."""

import re

import pytest
import yaml

from sa0_jax.train import cluster
from tests.launch.scripts import WORDS, run, shell_words
from tests.structure.sources import read

RENDER = 'launch/gke/render.sh'
JOBSET, INDEXED = 'launch/gke/jobset.yaml', 'launch/gke/refine_indexed_job.yaml'
NEEDED = ('NAME=paper', 'IMAGE=example/sa0:1', 'CLAIM=heads')


def rendered(folder, template, *words):
  """A template filled in, as kubectl would read it."""
  ran = run(folder, RENDER, template, *NEEDED, *words, programs=('kubectl',))
  assert ran.code == 0, ran.error
  [call] = ran.calls
  assert call.arguments == ['apply', '-f', '-']
  return yaml.safe_load(call.read)


def as_kubernetes_reads(word: str) -> str:
  """$$ is a dollar, $(NAME) a variable's value where there is one, in commands and arguments."""
  assert not re.search(r'(?<!\$)(\$\$)*\$\(', word)
  return word.replace('$$', '$')


@pytest.fixture(scope='module')
def jobset(tmp_path_factory):
  """A job of four pods."""
  folder = tmp_path_factory.mktemp('jobset')
  return rendered(folder, JOBSET, 'PROCESSES=4', 'GPUS=2', '--', *WORDS)


def worker(jobset):
  """The job of the pods."""
  [job] = jobset['spec']['replicatedJobs']
  return job


def test_the_jobset_has_a_pod_for_each_process(jobset):
  assert (jobset['apiVersion'], jobset['kind']) == ('jobset.x-k8s.io/v1alpha2', 'JobSet')
  assert jobset['metadata']['name'] == 'paper'
  assert jobset['spec']['network']['enableDNSHostnames'] is True
  spec = worker(jobset)['template']['spec']
  assert worker(jobset)['replicas'] == 1
  assert (spec['completionMode'], spec['parallelism'], spec['completions']) == ('Indexed', 4, 4)


def rules(spec) -> dict[object, str]:
  """Exit code, or condition → action, of a job's policy."""
  found: dict[object, str] = {}
  for rule in spec['podFailurePolicy']['rules']:
    if 'onExitCodes' in rule:
      assert rule['onExitCodes']['operator'] == 'In'
      found |= dict.fromkeys(rule['onExitCodes']['values'], rule['action'])
    else:
      found |= {c['type']: rule['action'] for c in rule['onPodConditions'] if c['status'] == 'True'}
  return found


def test_only_what_was_saved_starts_again_uncounted(jobset):
  spec = worker(jobset)['template']['spec']
  assert rules(spec) == {75: 'Ignore', 2: 'FailJob', 'DisruptionTarget': 'Ignore'}
  assert spec['backoffLimit'] == 0
  policy = jobset['spec']['failurePolicy']
  assert policy['maxRestarts'] == 10
  assert policy['rules'] == [{'action': 'FailJobSet', 'onJobFailureReasons': ['PodFailurePolicy']}]
  pod = spec['template']['spec']
  assert pod['restartPolicy'] == 'Never'  # else Kubernetes refuses the policy
  assert pod['terminationGracePeriodSeconds'] >= 120
  named = {r['onExitCodes']['containerName'] for r in spec['podFailurePolicy']['rules'][:2]}
  assert named == {c['name'] for c in pod['containers']}


def test_pods_have_what_they_asked_for(jobset):
  pod = worker(jobset)['template']['spec']['template']['spec']
  [container] = pod['containers']
  assert container['image'] == 'example/sa0:1'
  assert container['resources']['limits']['nvidia.com/gpu'] == 2
  mounts = {m['name']: m['mountPath'] for m in container['volumeMounts']}
  volumes = {v['name']: v for v in pod['volumes']}
  assert mounts.keys() == volumes.keys()
  assert volumes['shared']['persistentVolumeClaim'] == {'claimName': 'heads'}
  assert container['workingDir'] == mounts['shared']
  assert volumes['memory']['emptyDir'] == {'medium': 'Memory'}
  assert mounts['memory'] == '/dev/shm'


def test_arguments_arrive_unchanged(jobset):
  [container] = worker(jobset)['template']['spec']['template']['spec']['containers']
  assert container['command'] == ['sa0', 'train']
  assert [as_kubernetes_reads(word) for word in container['args']] == list(WORDS)


def test_pods_find_each_other(jobset):
  """`find_cluster` reads the variables that the template sets and Kubernetes fills in."""
  [container] = worker(jobset)['template']['spec']['template']['spec']['containers']
  annotations = {'jobset-name': jobset['metadata']['name'], 'replicatedjob-name': 'worker'}
  assert worker(jobset)['name'] == annotations['replicatedjob-name']
  environ = {'JOB_COMPLETION_INDEX': '3'}
  for variable in container['env']:
    value = variable.get('value')
    if value is None:
      path = variable['valueFrom']['fieldRef']['fieldPath']
      value = annotations[
        re.fullmatch(r"metadata.annotations\['jobset.sigs.k8s.io/(.*)'\]", path)[1]
      ]
    environ[variable['name']] = value
  found = cluster.find_cluster(environ)
  assert found == cluster.Cluster('paper-worker-0-0.paper:8476', 4, 3, 'gke')
  assert container['ports'] == [{'containerPort': 8476}]


def test_the_indexed_job_shares_subjects_among_its_pods(tmp_path):
  words = ('WORKERS=20', 'AT_ONCE=5', 'CAPTURES=data/captures', '--', *WORDS)
  job = rendered(tmp_path, INDEXED, *words)
  assert (job['apiVersion'], job['kind']) == ('batch/v1', 'Job')
  spec = job['spec']
  assert (spec['completionMode'], spec['completions'], spec['parallelism']) == ('Indexed', 20, 5)
  assert rules(spec) == {75: 'Ignore', 2: 'FailIndex', 'DisruptionTarget': 'Ignore'}
  assert spec['backoffLimitPerIndex'] == 3
  pod = spec['template']['spec']
  assert pod['restartPolicy'] == 'Never'
  [container] = pod['containers']
  program, index, *others = container['command']
  assert (program, others) == ('refine_subjects.sh', ['20', 'data/captures', 'avatars'])
  assert index == f'$({container["env"][0]["name"]})'
  assert 'job-completion-index' in container['env'][0]['valueFrom']['fieldRef']['fieldPath']
  assert [as_kubernetes_reads(word) for word in container['args']] == list(WORDS)
  assert container['resources']['limits']['nvidia.com/gpu'] == 1
  assert f'launch/local/{program} /usr/local/bin/' in read('launch/gke/Dockerfile')


@pytest.mark.parametrize('template', [JOBSET, INDEXED])
def test_dry_run_prints_what_would_be_applied(template, tmp_path):
  ran = run(tmp_path, RENDER, '--dry-run', template, *NEEDED, programs=('kubectl',))
  assert (ran.code, ran.calls) == (0, [])
  assert yaml.safe_load(ran.out) == rendered(tmp_path, template)


@pytest.mark.parametrize(
  ('words', 'told'),
  [
    (NEEDED[:2], 'CLAIM=… is missing'),
    ((*NEEDED, 'PROCESES=4'), '@PROCESES@'),
    ((*NEEDED, 'PROCESSES=4\nx'), 'letters, digits'),
    (('NAME=Paper', *NEEDED[1:]), 'small letters'),
    (('NAME="', *NEEDED[1:]), 'letters, digits'),
    ((*NEEDED, 'ARGUMENTS=x'), 'after --'),
    ((*NEEDED, '--config=x'), 'before the arguments'),
    ((*NEEDED, '--', 'bell\a'), 'control character'),
  ],
)
def test_what_would_break_the_yaml_is_refused(words, told, tmp_path):
  ran = run(tmp_path, RENDER, JOBSET, *words, programs=('kubectl',))
  assert (ran.code, ran.out, ran.calls) == (2, '', [])
  assert told in ran.error


def test_xpk_gets_one_line_for_a_shell(tmp_path):
  where = ['--cluster=heads', '--tpu-type=v6e-16', '--num-slices=2']
  ran = run(
    tmp_path, 'launch/gke/xpk.sh', 'paper', 'example/sa0:1', *where, '--', *WORDS, programs=('xpk',)
  )
  [call] = ran.calls
  assert call.arguments[:2] == ['workload', 'create']
  assert set(where) <= set(call.arguments)
  assert '--restart-on-exit-codes=75' in call.arguments
  assert '--max-restarts=100' in call.arguments  # without it xpk ignores the codes
  assert call.arguments[-1].startswith('--command=')
  line = call.arguments[-1].removeprefix('--command=')
  assert shell_words(line) == ['sa0', 'train', *WORDS]


def test_the_image_is_built_of_the_wheel_and_the_tested_versions():
  lines = read('launch/gke/Dockerfile')
  assert 'FROM python:3.11-slim\n' in lines
  assert '-c /install/constraints.txt' in lines
  assert 'useradd --uid 1000' in lines
  for template in (JOBSET, INDEXED):
    assert 'runAsUser: 1000\n' in read(template)
