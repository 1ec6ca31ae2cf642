"""Building shards on Apache Beam: this machine's DirectRunner, Dataflow, Flink, Spark.

Workers and the machine that starts them must see captures and data folder under the same paths.
"""

import functools
from collections.abc import Callable, Iterable, Sequence

from sa0_jax.data.build import ShardJob, build_shard


def run_shards(options: Sequence[str]) -> Callable[[list[ShardJob]], Iterable[ShardJob]]:
  """A runner for `build.build`.

  Args:
    options: Beam's own, as on a command line: '--runner=DataflowRunner', '--project=…', …

  Raises:
    ImportError: Beam is not installed (extra `beam`).
  """
  try:
    import apache_beam  # noqa: F401
  except ImportError as error:
    raise ImportError(
      "Apache Beam is not installed: pip install 'sa0-jax[beam]', or build with --jobs"
    ) from error
  return functools.partial(_run, options=tuple(options))


def _run(jobs: list[ShardJob], options: tuple[str, ...]) -> Iterable[ShardJob]:
  import apache_beam as beam
  from apache_beam.options.pipeline_options import PipelineOptions

  if not jobs:
    return jobs
  with beam.Pipeline(options=PipelineOptions(list(options))) as pipeline:
    # Reshuffled: else one worker would get all of them.
    shards = pipeline | beam.Create(jobs) | beam.Reshuffle()
    shards | beam.Map(build_shard)
  return jobs
